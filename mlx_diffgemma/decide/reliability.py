"""How honest probabilities are: what they claim against what was right.

Axes: K cases.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .answers import choice_confidence, score_confidence
from .labelled import Case

BINS = 10
Probabilities = Sequence[NDArray[np.float64]]


@dataclass(frozen=True)
class Bin:
    """Cases whose likeliest option has a probability between two bounds.

    claimed, right: the mean of that probability, and the share that was right.
    """

    low: float
    high: float
    count: int
    claimed: float
    right: float


@dataclass(frozen=True)
class Gate:
    """The least confidence from which on answers are right often enough; share: of all answers."""

    confidence: float
    accuracy: float
    share: float


def accuracy(cases: Sequence[Case], p: Probabilities) -> float:
    """The share of cases whose likeliest option is the right one."""
    return float(np.mean(_right(cases, p)))


def bins(cases: Sequence[Case], p: Probabilities) -> Iterator[Bin]:
    """The reliability table: ten bins of equal width, without the empty ones."""
    claimed, right = np.array([each.max() for each in p]), _right(cases, p)
    number = np.minimum((claimed * BINS).astype(int), BINS - 1)
    for i in range(BINS):
        if (own := number == i).any():
            means = float(claimed[own].mean()), float(right[own].mean())
            yield Bin(i / BINS, (i + 1) / BINS, int(own.sum()), *means)


def ece(cases: Sequence[Case], p: Probabilities) -> float:
    """Expected calibration error: the mean distance of what is claimed from what is right."""
    found = sum(each.count * abs(each.claimed - each.right) for each in bins(cases, p))
    return found / len(cases)


def brier(cases: Sequence[Case], p: Probabilities) -> float:
    """The mean squared distance of probabilities from the right answer, summed over options."""
    distances = [
        float(((each - np.eye(len(each))[case.gold]) ** 2).sum())
        for case, each in zip(cases, p, strict=True)
    ]
    return sum(distances) / len(distances)


def gate(cases: Sequence[Case], p: Probabilities, target: float) -> Gate | None:
    """The smallest gate whose answers are right often enough; None where there is none.

    The confidence is that of the answer: for yes or no the probability of the likelier.
    """
    confidence = np.array([_confidence(case, each) for case, each in zip(cases, p, strict=True)])
    right = _right(cases, p)
    for least in np.unique(confidence):
        own = confidence >= least
        if right[own].mean() >= target:
            return Gate(float(least), float(right[own].mean()), float(own.mean()))
    return None


def _right(cases: Sequence[Case], p: Probabilities) -> NDArray[np.float64]:
    """1 for each case whose likeliest option is the right one [K]."""
    pairs = zip(cases, p, strict=True)
    return np.array([float(each.argmax() == case.gold) for case, each in pairs])


def _confidence(case: Case, p: NDArray[np.float64]) -> float:
    values = [float(each) for each in p]
    if case.kind == "noul":
        return max(values)
    return choice_confidence(values) if case.kind == "choice" else score_confidence(values)
