"""Answers of probabilities: the fields of the contract, its two confidences, and what is ours.

Axes: S samples, N options. Confidence follows system-one-adapter 0.2.1, `confidence_metrics`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .questions import Choice, Noul, Question

DECIMALS = 6
UNITS = 10**DECIMALS  # a probability is a whole number of these, and all of an answer sum to 1
CLEAR, UNSURE = 0.16, 0.50  # of hesitation: below the first clear, above the second very unsure


@dataclass(frozen=True)
class Sampled:
    """Samples of a question: probabilities of its options [S, N], and the labels' share [S]."""

    probabilities: NDArray[np.float64]
    mass: NDArray[np.float64] | None = None

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(self.probabilities)


@dataclass(frozen=True)
class Seen:
    """What was read of a question: samples in each order of its options."""

    orders: tuple[Sampled, ...]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Probabilities of the options [N]: each order counts the same."""
        means = [each.probabilities.mean(axis=0) for each in self.orders]
        return np.asarray(np.mean(means, axis=0))

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """All samples [S, N]."""
        return np.concatenate([each.probabilities for each in self.orders])


def rounded(probabilities: NDArray[np.float64]) -> list[int]:
    """Probabilities [N] in UNITS, which sum to 1 exactly: the largest remainders go up."""
    exact = probabilities / probabilities.sum() * UNITS
    units = np.floor(exact).astype(int)
    left = UNITS - int(units.sum())
    order = np.argsort(-(exact - units), kind="stable")
    units[order[:left]] += 1
    return [int(unit) for unit in units]


def choice_confidence(p: Sequence[float]) -> float:
    """The greatest probability, from 0 where all are equal to 1."""
    n = len(p)
    return 1.0 if n == 1 else (max(p) - 1 / n) / (1 - 1 / n)


def score_confidence(p: Sequence[float]) -> float:
    """1 less the mean distance from the likeliest level, in units of the uniform's spread."""
    n = len(p)
    if n == 1:
        return 1.0
    mode = p.index(max(p))
    uniform = sum(abs(i - (n - 1) / 2) for i in range(n)) / n
    return max(0.0, 1 - sum(each * abs(i - mode) for i, each in enumerate(p)) / uniform)


def entropy(p: Iterable[float]) -> float:
    """The uncertainty of probabilities, in nats."""
    return -sum(each * log(each) for each in p if each > 0)


def hesitation(p: Sequence[float]) -> float:
    """Entropy of an answer, from 0 for a certain one to 1 where all options are equal."""
    return 0.0 if len(p) == 1 else max(0.0, entropy(p) / log(len(p)))


def answer_of(question: Question, probabilities: NDArray[np.float64], seen: Seen) -> dict[str, Any]:
    """The answer in the contract's form; probabilities [N]: as they are to be told."""
    p = [unit / UNITS for unit in rounded(probabilities)]
    return {**_contract(question, p), "x_hesitation": _told(hesitation(p)), **_ours(seen)}


def forced(question: Question) -> dict[str, Any]:
    """The answer of a question with one option, for which no model is asked."""
    return {**_contract(question, [1.0]), "x_hesitation": 0.0, **_ours(Seen(()))}


def skipped(because: str, was: Any) -> dict[str, Any]:
    """The answer of a question that another one's answer ruled out; was: that answer's name."""
    return {"type": "x_skipped", "x_because": because, "x_was": was}


def likeliest(question: Question, answer: Mapping[str, Any]) -> int:
    """The number of the option that an answer says, the first of equal ones."""
    if isinstance(question, Noul):
        return int(answer["noul"] < 0.5)
    p = list(answer["probabilities"].values())
    return p.index(max(p))


def distribution(question: Question, answer: Mapping[str, Any]) -> list[float]:
    """An answer's probabilities in the order of its question's options."""
    if isinstance(question, Noul):
        return [answer["noul"], 1 - answer["noul"]]
    return list(answer["probabilities"].values())


def _contract(question: Question, p: list[float]) -> dict[str, Any]:
    if isinstance(question, Noul):
        return {"type": "noul", "noul": p[0]}
    named = {option.name: each for option, each in zip(question.options, p, strict=True)}
    if isinstance(question, Choice):
        best = question.options[p.index(max(p))].name
        confidence = _told(choice_confidence(p))
        return {
            "type": "choice",
            "choice": best,
            "probabilities": named,
            "confidence": confidence,
        }
    return {
        "type": "score",
        "score": _told(sum(i * each for i, each in enumerate(p))),
        "legend": {str(i): level for i, level in enumerate(question.criteria)},
        "probabilities": named,
        "confidence": _told(score_confidence(p)),
    }


def _ours(seen: Seen) -> dict[str, Any]:
    """What the reads say beside the contract: of the likeliest option the standard error, and the
    share of samples that agree, null without several; the labels' share, null where nobody asked;
    and how many orders of options were read, 0 where no model was asked.
    """
    found: dict[str, Any] = dict.fromkeys(("x_stderr", "x_agreement", "x_label_mass"))
    found["x_orders"] = len(seen.orders)
    if seen.orders and len(p := seen.probabilities) > 1:
        top = int(seen.mean.argmax())
        found["x_stderr"] = _told(p[:, top].std(ddof=1) / sqrt(len(p)))
        found["x_agreement"] = _told((p.argmax(axis=1) == top).mean())
    if masses := [each.mass for each in seen.orders if each.mass is not None]:
        found["x_label_mass"] = _told(np.concatenate(masses).mean())
    return found


def _told(number: float | np.floating[Any]) -> float:
    return round(float(number), DECIMALS)
