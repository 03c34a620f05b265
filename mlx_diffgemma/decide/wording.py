"""The texts of prompts: what a model is told of questions, their options and earlier answers.

Layouts joint and rows: vLLM's text, examples/features/structured_diffusion, with numbers in place
of ids. Layout own is ours: the state first, and one question behind it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from .canvas import Asked
from .labels import Form
from .questions import Choice, Question, Score, told_names, written

ALL = (
    "Answer a fixed set of questions about the state the user provides. Each question lists its "
    "allowed answers; reply with exactly one label per question.\n"
)
SOME = " A reply may cover only some of the questions; answer every line that is present."
ONE = (
    "Answer a question about the state the user provides. The question lists its allowed answers; "
    "reply with exactly one label.\n"
)
GAP = "\n\n"  # behind a state, in front of a question
ONE_LINE = 'Reply with one line, formatted as "id: label".'


def system_text(
    asked: Sequence[Asked], instructions: str | None, form: Form, *, some: bool = False
) -> str:
    """The system text with all questions; some: that not all of them may be answered at once."""
    questions = "".join(f"\n{question_text(each)}" for each in asked)
    return f"{ALL}{_context(instructions)}{questions}\n{form.reply}{SOME if some else ''}"


def own_system_text(instructions: str | None) -> str:
    """The system text of layout own: the same for every question."""
    return f"{ONE}{_context(instructions)}\n{ONE_LINE}"


def own_user_text(state: Any, asked: Asked, earlier: Sequence[tuple[Question, int]]) -> str:
    """The state, the answers that a question depends on, and the question."""
    known = "\n".join(_known(earlier))
    before = f"Answers so far:\n{known}{GAP}" if known else ""
    return f"{written(state)}{GAP}{before}{question_text(asked)}"


def question_text(asked: Asked) -> str:
    """A question, and a line for each label: what it stands for."""
    shown = asked.question.options
    shown = (*shown[asked.shift :], *shown[: asked.shift])
    lines = [f"Question {asked.number}: {asked.question.text}"]
    for option, label in zip(shown, asked.labels, strict=True):
        told = None if option.description in (None, "") else written(option.description).strip()
        if isinstance(asked.question, Choice):
            told = f"{option.name} ({told})" if told else option.name
        lines.append(f"  {label}: {told}" if told else f"  {label}")
    return "\n".join(lines) + "\n"


def _known(earlier: Sequence[tuple[Question, int]]) -> Iterator[str]:
    """A line for each earlier answer: what was asked, and the answer's name."""
    for question, answer in earlier:
        option = question.options[answer]
        told = written(option.description) if isinstance(question, Score) else option.name
        yield f"{question.text or ', '.join(told_names(question))}: {told}"


def _context(instructions: str | None) -> str:
    return f"\n{instructions.strip()}\n" if instructions else ""
