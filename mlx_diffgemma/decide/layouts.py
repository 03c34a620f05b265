"""Layouts: which questions share a prompt and a canvas.

joint   one prompt with all questions, one canvas with all answers: they see each other
rows    the same prompt, a canvas for each question: they see each other's text, not the answers
own     a prompt for each question behind the same state: nothing of the others, not their number

In stages of `depends_on`, joint and rows continue the answers behind the prompt, as vLLM does; own
says those that a question depends on behind the state.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from .canvas import Asked, groups, sheet
from .labels import LINES, Form, Labels, form_of, written_answers
from .questions import Choice, Question, written
from .reader import LoadedModel, Prompt, Sheet
from .request import Request
from .wording import GAP, own_system_text, own_user_text, system_text


@dataclass(frozen=True)
class Opened:
    """A prompt behind which canvases stand, and the ids that each begins with."""

    prompt: Prompt
    head: tuple[int, ...]


@dataclass(frozen=True)
class Read:
    """Sheets to read behind one prompt; asked: the questions of each; chunk: for the noise."""

    prompt: Prompt
    sheets: tuple[Sheet, ...]
    asked: tuple[Sequence[Asked], ...]
    chunk: int = 0


class Opener(Protocol):
    """Makes a prompt of the system's and the user's text."""

    def __call__(self, system: str, user: str, *, shared: str) -> Opened:
        """The prompt; shared: the beginning of the user's text that other prompts have as well."""
        ...


@dataclass(frozen=True)
class Stage:
    """Questions to be asked together.

    ids: of this stage; listed: of all stages, in order; answered: the numbers of the options that
    earlier stages chose; chained: there are other stages; order: which order of a choice's options
    is read, of how many.
    """

    layout: str
    request: Request
    ids: Sequence[str]
    listed: Sequence[str]
    answered: Mapping[str, int]
    chained: bool = False
    order: int = 0
    orders: int = 1

    def asked(self, labels: Labels, form: Form, ids: Sequence[str]) -> list[Asked]:
        """Questions with their numbers and labels, as a prompt lists them."""
        return [self._asked(labels, form, name, number) for number, name in enumerate(ids, 1)]

    def _asked(self, labels: Labels, form: Form, name: str, number: int) -> Asked:
        question = self.request.questions[name]
        fitting = labels.of(question, form, ("questions", name, "criteria"))
        count = orders_of(question, self.orders)
        shift = self.order * len(question.options) // count if self.order < count else 0
        return Asked(name, question, number, fitting, shift)


def orders_of(question: Question, orders: int) -> int:
    """The orders of a question's options that are read: a choice has as many as options."""
    return min(orders, len(question.options)) if isinstance(question, Choice) else 1


def reads(model: LoadedModel, labels: Labels, open_: Opener, stage: Stage) -> Iterator[Read]:
    """The reads of a stage in the layout that is wanted; RequestError where no canvas holds it."""
    layout = {"joint": _joint, "rows": _rows, "own": _own}[stage.layout]
    return layout(model, labels, open_, stage)


def _joint(model: LoadedModel, labels: Labels, open_: Opener, stage: Stage) -> Iterator[Read]:
    """A canvas for as many questions as it holds, and for each canvas a prompt of its questions.

    In stages every prompt lists all questions.
    """
    form = form_of(len(stage.listed))
    listed = stage.asked(labels, form, stage.listed)
    now = [each for each in listed if each.id in stage.ids]
    for chunk, group in enumerate(groups(model, form, now)):
        told = listed if stage.chained else _renumbered(group)
        group = group if stage.chained else told
        opened, lead = _continued(open_, model, stage, form, told)
        yield Read(opened.prompt, (sheet(model, opened.head, form, group, lead),), (group,), chunk)


def _rows(model: LoadedModel, labels: Labels, open_: Opener, stage: Stage) -> Iterator[Read]:
    """The prompt of all questions, and a canvas for each that is asked now."""
    listed = stage.asked(labels, LINES, stage.listed)
    now = [each for each in listed if each.id in stage.ids]
    opened, lead = _continued(open_, model, stage, LINES, listed, some=len(listed) > 1)
    sheets = tuple(sheet(model, opened.head, LINES, [each], lead) for each in now)
    yield Read(opened.prompt, sheets, tuple([each] for each in now))


def _own(model: LoadedModel, labels: Labels, open_: Opener, stage: Stage) -> Iterator[Read]:
    """A prompt and a canvas for each question; nothing in it says that there are others."""
    request = stage.request
    for name in stage.ids:
        asked = stage.asked(labels, LINES, [name])
        needs = [name for name in asked[0].question.needs if name in stage.answered]
        earlier = [(request.questions[name], stage.answered[name]) for name in needs]
        user = own_user_text(request.state, asked[0], earlier)
        state = f"{written(request.state)}{GAP}"
        opened = open_(own_system_text(request.instructions), user, shared=state)
        yield Read(opened.prompt, (sheet(model, opened.head, LINES, asked),), (asked,))


def _continued(
    open_: Opener,
    model: LoadedModel,
    stage: Stage,
    form: Form,
    listed: Sequence[Asked],
    *,
    some: bool = False,
) -> tuple[Opened, str]:
    """The prompt with earlier answers behind it, and the text that joins the next ones to them.

    The system text has the questions: it is what prompts of other states share.
    """
    request = stage.request
    system = system_text(listed, request.instructions, form, some=some)
    opened = open_(system, written(request.state), shared="")
    known = [
        (each.number, each.labels[(stage.answered[each.id] - each.shift) % len(each.labels)])
        for name in stage.answered
        for each in listed
        if each.id == name
    ]
    if not known:
        return opened, ""
    ids = [*opened.head, *model.texts.encode(written_answers(form, known))]
    return Opened(opened.prompt.extended(ids), ()), form.join


def _renumbered(group: Sequence[Asked]) -> list[Asked]:
    return [replace(each, number=number) for number, each in enumerate(group, 1)]
