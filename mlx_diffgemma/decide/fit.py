"""Temperatures fitted to labelled cases: those under which the right answers are likeliest.

p = softmax(ln p / T), with one T for yes or no and one for scales; for choices T = a + b ln n grows
or falls with the number of options n. The likeliest option stays the likeliest under any T.
Axes: K cases, N options at most; options that a case lacks have ln p = -inf.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from .calibration import LEAST, MOST, Temperatures
from .labelled import Case

FEWEST, FEW = 50, 200  # cases of a type: with fewer than the first nothing is fitted
FOLDS = 5
ROUNDS, HALVINGS = 6, 32
GOLDEN = (5**0.5 - 1) / 2
STEEPEST = 10.0  # of b, in units of T a factor of e in the number of options


@dataclass(frozen=True)
class Table:
    """Cases of one type: ln p [K, N], the right options [K], ln of their options' counts [K]."""

    cases: Sequence[Case]

    @cached_property
    def log_p(self) -> NDArray[np.float64]:
        """Padded with -inf."""
        table = np.full((len(self.cases), max(len(case.log_p) for case in self.cases)), -np.inf)
        for row, case in zip(table, self.cases, strict=True):
            row[: len(case.log_p)] = case.log_p
        return table

    @cached_property
    def gold(self) -> NDArray[np.int64]:
        """The numbers of the right options."""
        return np.array([case.gold for case in self.cases])

    @cached_property
    def log_n(self) -> NDArray[np.float64]:
        """ln of the number of options."""
        return np.log([len(case.log_p) for case in self.cases])

    def loss(self, temperature: NDArray[np.float64] | float) -> float:
        """Mean -ln p of the right options under temperatures, one or [K]."""
        scaled = self.log_p / np.broadcast_to(temperature, len(self.cases))[:, None]
        peak = scaled.max(axis=1)
        total = peak + np.log(np.exp(scaled - peak[:, None]).sum(axis=1))
        return float((total - scaled[np.arange(len(self.cases)), self.gold]).mean())


def fitted(cases: Sequence[Case]) -> Temperatures:
    """The temperatures of all types that there are cases of."""
    of: Mapping[str, list[Case]] = {
        kind: [case for case in cases if case.kind == kind] for kind in ("noul", "choice", "score")
    }
    return Temperatures(
        noul=_one(Table(of["noul"])) if of["noul"] else None,
        choice=_line(Table(of["choice"])) if of["choice"] else None,
        score=_one(Table(of["score"])) if of["score"] else None,
    )


def folds(cases: Sequence[Case]) -> list[int]:
    """The fold of each case, from 0 to FOLDS - 1; a group has one.

    The largest groups are dealt first, each to the fold with the fewest cases.
    """
    sizes: dict[str, int] = {}
    for case in cases:
        sizes[case.group] = sizes.get(case.group, 0) + 1
    filled, of = [0] * FOLDS, dict[str, int]()
    for group in sorted(sizes, key=lambda name: -sizes[name]):
        of[group] = filled.index(min(filled))
        filled[of[group]] += sizes[group]
    return [of[case.group] for case in cases]


def out_of_fold(cases: Sequence[Case]) -> list[NDArray[np.float64]]:
    """Each case's probabilities [N] under temperatures that were fitted on the other folds."""
    fold = folds(cases)
    found = [np.exp(case.log_p) for case in cases]
    for number in range(FOLDS):
        others = [case for case, own in zip(cases, fold, strict=True) if own != number]
        temperatures = fitted(others)
        for i, case in enumerate(cases):
            if fold[i] == number:
                found[i] = temperatures.applied(case.kind, case.log_p)
    return found


def _one(table: Table) -> float:
    """The best single temperature."""
    return exp(_least(lambda x: table.loss(exp(x)), log(LEAST), log(MOST)))


def _line(table: Table) -> tuple[float, float]:
    """The best a and b of T = a + b ln n; b is 0 where all have as many options.

    T at the mean of ln n and the slope hang on each other the least: they are improved in turn.
    """
    middle = float(table.log_n.mean())
    away = table.log_n - middle
    centre, slope = _one(table), 0.0
    if not np.ptp(table.log_n):
        return centre, slope

    def of_slope(centre: float, slope: float) -> float:
        return table.loss(np.clip(centre + slope * away, LEAST, MOST))

    def of_centre(slope: float, log_centre: float) -> float:
        return of_slope(exp(log_centre), slope)

    for _ in range(ROUNDS):
        slope = _least(partial(of_slope, centre), -STEEPEST, STEEPEST)
        centre = exp(_least(partial(of_centre, slope), log(LEAST), log(MOST)))
    return centre - slope * middle, slope


def _least(loss: Callable[[float], float], low: float, high: float) -> float:
    """The place of the least loss between two numbers, by golden sections."""
    inner = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    losses = loss(inner[0]), loss(inner[1])
    for _ in range(HALVINGS):
        if losses[0] <= losses[1]:
            high, inner = inner[1], (inner[1] - GOLDEN * (inner[1] - low), inner[0])
            losses = loss(inner[0]), losses[0]
        else:
            low, inner = inner[0], (inner[1], inner[0] + GOLDEN * (high - inner[0]))
            losses = losses[1], loss(inner[1])
    return (low + high) / 2
