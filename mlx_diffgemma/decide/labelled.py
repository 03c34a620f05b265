"""Labelled questions: the right answers, and the probabilities that a model gave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError
from .questions import NO, YES, Noul, Question, Score, as_sent, told_names, written
from .request import Request, read_request


@dataclass(frozen=True)
class Case:
    """A question whose answer is known: ln p of its options [N], and the right one's number.

    group: cases of one group are fitted together or measured together, never one on the other.
    """

    kind: str
    log_p: NDArray[np.float64]
    gold: int
    group: str


@dataclass(frozen=True)
class Labelled:
    """A request, and the numbers of the right options of its questions, by their ids."""

    request: Request
    gold: Mapping[str, int]
    group: str


def read_labelled(row: Mapping[str, Any]) -> Labelled:
    """A row {state, questions, gold}, and group where cases of several rows belong together.

    Questions that gold does not name are not asked. RequestError for what is wrong.
    """
    request = read_request(row)
    gold = row.get("gold")
    if not isinstance(gold, dict) or not gold:
        got = f"is {as_sent(gold)}" if "gold" in row else "missing"
        said = f"{got}, expected an object: an id and its right answer each."
        raise RequestError(("gold",), said, "dict_type")
    for name in gold:
        if name not in request.questions:
            raise RequestError(("gold", name), "is no question of this row.")
    asked = {name: each for name, each in request.questions.items() if name in gold}
    for name, question in asked.items():
        if question.needs:
            said = "depends on others, which a calibration cannot read alone; leave it out."
            raise RequestError(("questions", name), said)
    numbers = {name: _number(("gold", name), asked[name], gold[name]) for name in asked}
    group = row.get("group", request.state)
    return Labelled(replace(request, questions=asked), numbers, written(group))


def _number(at: tuple[str, str], question: Question, answer: Any) -> int:
    """The number of the option that an answer names."""
    if isinstance(question, Noul):
        known: Sequence[Any] = (True, False) if isinstance(answer, bool) else (YES, NO)
    elif isinstance(question, Score) and isinstance(answer, int) and not isinstance(answer, bool):
        known = range(len(question.options))
    else:
        known = told_names(question)
    if answer in known:
        return list(known).index(answer)
    expected = ", ".join(as_sent(each) for each in list(known)[:8])
    raise RequestError(at, f"is {as_sent(answer)}, expected one of {expected}.")
