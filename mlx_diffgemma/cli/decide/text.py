"""Answers of `decide` for people: what was said, a bar for each option, and how sure it is."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...decide.answers import CLEAR, UNSURE, distribution, hesitation, likeliest
from ...decide.decision import Decision
from ...decide.questions import Noul, Question, Score, written
from ...errors import counted, shown
from ..terminal.output import write_lines, write_styled
from ..terminal.streams import can_draw, window

if TYPE_CHECKING:
    from rich.text import Text

MOST_SHOWN = 10  # options of an answer, the likeliest ones; the others are summed up
WIDEST_BAR, LEAST_BAR = 40, 6  # columns; without room for the least there is none
WIDEST_NAME, LEAST_NAME = 40, 4
EIGHTHS = " ▏▎▍▌▋▊▉█"
PERCENT = 8  # columns of a probability, with a blank before


def show_answers(questions: Mapping[str, Question], decision: Decision) -> None:
    """The answers on standard output; a terminal gets bars."""
    if can_draw(sys.stdout):
        write_styled(styled(questions, decision, window()[0]))
    else:
        write_lines(plain(questions, decision))


def plain(questions: Mapping[str, Question], decision: Decision) -> Iterator[str]:
    """The answers as lines of text, without bars."""
    for name, question in questions.items():
        answer = decision.answers[name]
        yield f"{shown(name)}: {said(question, answer)}"
        for option, p in options(question, answer):
            yield f"  {p:8.6f}  {option}"


def styled(questions: Mapping[str, Question], decision: Decision, columns: int) -> "Iterator[Text]":
    """The answers with bars, for a terminal of so many columns."""
    from rich.cells import cell_len
    from rich.text import Text

    for name, question in questions.items():
        answer = decision.answers[name]
        yield Text.assemble((shown(name), "bold"), "  ", said(question, answer))
        rows = list(options(question, answer))
        widest = max((cell_len(option) for option, _ in rows), default=0)
        widest = min(widest, WIDEST_NAME, max(LEAST_NAME, columns // 2))
        room = min(WIDEST_BAR, columns - widest - PERCENT - 4)
        for option, p in rows:
            label = Text(f"  {option}")
            label.truncate(widest + 2, overflow="ellipsis", pad=True)
            label.append(f" {bar_of(p, room)}" if room >= LEAST_BAR else "")
            yield label.append(f"{p:{PERCENT}.1%}")


def said(question: Question, answer: Mapping[str, Any]) -> str:
    """An answer in words, with its confidence and how sure it is."""
    if answer["type"] == "x_skipped":
        was = "not asked" if answer["x_was"] is None else shown(str(answer["x_was"]))
        return f"not asked, since {shown(answer['x_because'])} was {was}"
    if not answer["x_orders"]:
        return f"{shown(_name(question, 0), WIDEST_NAME)} (the only answer)"
    best = shown(_name(question, likeliest(question, answer)), WIDEST_NAME)
    sure = band(hesitation(distribution(question, answer)))
    if answer["x_label_mass"] is not None:
        sure += f", its labels hold {answer['x_label_mass']:.1%}"
    if isinstance(question, Noul):
        return f"{best}, {sure}"
    confidence = f"confidence {answer['confidence']:.2f}, {sure}"
    if isinstance(question, Score):
        top = len(question.options) - 1
        return f"{answer['score']:.2f} of 0 to {top}, likeliest {best}, {confidence}"
    return f"{best}, {confidence}"


def band(hesitates: float) -> str:
    """How sure an answer is, in words."""
    share = f"hesitation {hesitates:.0%}"
    if hesitates < CLEAR:
        return f"clear ({share})"
    return f"{'somewhat' if hesitates <= UNSURE else 'very'} unsure ({share})"


def options(question: Question, answer: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The options of an answer with their probabilities, of many the likeliest, in order."""
    if answer["type"] == "x_skipped" or not answer["x_orders"]:
        return
    p = distribution(question, answer)
    kept = sorted(range(len(p)), key=lambda i: -p[i])[:MOST_SHOWN]
    for i in sorted(kept):
        yield shown(_name(question, i)), p[i]
    if len(p) > len(kept):
        left = max(0.0, 1 - sum(p[i] for i in kept))
        yield f"{counted(len(p) - len(kept), 'other')}", left


def bar_of(p: float, width: int) -> str:
    """A bar of a probability, to an eighth of a column."""
    whole, part = divmod(round(p * width * 8), 8)
    return ("█" * whole + (EIGHTHS[part] if part else "")).ljust(width)


def summary(decision: Decision) -> str:
    """A line on tokens and times, and on what was ignored."""
    usage, times = decision.usage, decision.times
    thought = f", {counted(usage.output_tokens, 'thought token')}" if usage.output_tokens else ""
    line = (
        f"{counted(usage.input_tokens, 'prompt token')} ({times.encoded:,} encoded){thought}; "
        f"{counted(times.reads, 'read')} of {counted(decision.samples, 'sample')} in "
        f"{times.seconds:.2f} s"
    )
    ignored: Sequence[str] = decision.ignored
    return f"{line}; ignored: {', '.join(map(shown, ignored))}" if ignored else line


def _name(question: Question, number: int) -> str:
    """An option's name; a level by its text."""
    option = question.options[number]
    if isinstance(question, Score):
        return written(option.description)
    return option.name
