"""Canvases with an answer to each question: all of it fixed but one token an answer.

    <|channel>thought\n<channel|>1: yes\n2: A<turn|><pad>..

An empty thought, the answers with their first labels, the end of the turn, and padding up to a
multiple of 16. Source: vLLM's example of structured reads, examples/features/structured_diffusion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import RequestError
from .labels import Form, written_answers
from .questions import Question
from .reader import LoadedModel, Sheet, Slot

MULTIPLE = 16


@dataclass(frozen=True)
class Asked:
    """A question as one prompt lists it.

    id: of the request, which no prompt has; number: in the prompt; shift: the option that comes
    first, the others follow and those before it come last.
    """

    id: str
    question: Question
    number: int
    labels: tuple[str, ...]
    shift: int = 0


def room(model: LoadedModel, form: Form, asked: Sequence[Asked]) -> int:
    """The positions that answers need, with an empty thought before and the turn's end behind."""
    return len(model.empty_thought) + len(_ids(model, form, asked, "", 0)) + 1


def sheet(
    model: LoadedModel, head: Sequence[int], form: Form, asked: Sequence[Asked], lead: str = ""
) -> Sheet:
    """The canvas of some questions; lead: the text between earlier answers and these.

    The whole text is encoded with every label, to find its token: RequestError where a label is
    not one token, or not where the others of its question are.
    """
    rows = [_ids(model, form, asked, lead, k) for k in range(max(len(a.labels) for a in asked))]
    base = rows[0]
    slots = [i for i, (a, b) in enumerate(zip(base, rows[1], strict=False)) if a != b]
    _require_alike(asked, rows, slots)
    placed = [
        Slot(len(head) + at, tuple(rows[k][at] for k in range(len(each.labels))))
        for at, each in zip(slots, asked, strict=True)
    ]
    for slot, each in zip(placed, asked, strict=True):
        if len(set(slot.labels)) < len(slot.labels):
            _refuse(each)
    tokens = [*head, *base, model.turn_end]
    width = min(model.canvas_length, -(-len(tokens) // MULTIPLE) * MULTIPLE)
    if len(tokens) > width:
        said = f"needs {len(tokens)} positions, and this model's canvas has {width}; ask for less."
        raise RequestError(("questions", asked[0].id), said, "too_long")
    return Sheet((*tokens, *[model.pad] * (width - len(tokens))), tuple(placed))


def _ids(
    model: LoadedModel, form: Form, asked: Sequence[Asked], lead: str, label: int
) -> Sequence[int]:
    """The answers with this number's label of each question, or its first where it has fewer."""
    answers = [(a.number, a.labels[label if label < len(a.labels) else 0]) for a in asked]
    return model.texts.encode(lead + written_answers(form, answers))


def _require_alike(
    asked: Sequence[Asked], rows: Sequence[Sequence[int]], slots: Sequence[int]
) -> None:
    """RequestError where other labels change anything but the slots of their questions."""
    if len(slots) != len(asked):
        _refuse(asked[0])
    for k, row in enumerate(rows[1:], 1):
        wanted = [at for at, each in zip(slots, asked, strict=True) if len(each.labels) > k]
        differ = [i for i, (a, b) in enumerate(zip(rows[0], row, strict=False)) if a != b]
        if len(row) != len(rows[0]) or differ != wanted:
            _refuse(next(each for each in asked if len(each.labels) > k))


def _refuse(asked: Asked) -> None:
    said = "its labels do not share one token's place in this model's vocabulary."
    raise RequestError(("questions", asked.id), said)


def groups(model: LoadedModel, form: Form, asked: Sequence[Asked]) -> list[list[Asked]]:
    """Questions in order, as many together as a canvas holds; one that wants to be alone is."""
    found: list[list[Asked]] = []
    for each in asked:
        last = found[-1] if found else []
        full = last and room(model, form, [*last, each]) > model.canvas_length
        if not last or each.question.alone or last[-1].question.alone or full:
            found.append([each])
        else:
            last.append(each)
    return found
