"""Figures from samples: percentiles, spread, and intervals that do not assume a distribution."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95  # of samples drawn anew, this share lies inside an interval
SEED = 20_250_101  # the same two files give the same interval

Group = Sequence[float]
"""Samples that resemble each other, such as the steps of one canvas."""
Figure = Callable[[Sequence[Group]], float]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p10, p50 and p90, interpolated."""
    low, middle, high = np.percentile(values, [10, 50, 90])
    return {"p10": float(low), "p50": float(middle), "p90": float(high)}


def spread(groups: Sequence[Group]) -> float:
    """How far the medians of the groups lie apart, least to most, as a share of their median."""
    medians = [float(np.median(group)) for group in groups]
    return (max(medians) - min(medians)) / float(np.median(medians))


def pooled_median(groups: Sequence[Group]) -> float:
    """The median of all samples."""
    return float(np.median(np.concatenate([np.asarray(group) for group in groups])))


@dataclass(frozen=True)
class Change:
    """By which share a figure changes from a first run to a second, and the interval around it."""

    first: float
    second: float
    low: float
    high: float

    @property
    def share(self) -> float:
        """The change as a share of the first figure."""
        return self.second / self.first - 1

    @property
    def differs(self) -> bool:
        """Whether the interval leaves no change out."""
        return not self.low <= 0 <= self.high


def change(first: Sequence[Group], second: Sequence[Group], figure: Figure) -> Change:
    """How `figure` changes from the first run to the second.

    The interval is a bootstrap over whole groups: groups are drawn anew with all their samples,
    because what disturbs one step of a canvas disturbs its neighbours too.
    """
    random = np.random.default_rng(SEED)
    changes = [
        figure(_drawn(second, random)) / figure(_drawn(first, random)) - 1 for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(changes, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Change(figure(first), figure(second), float(low), float(high))


def _drawn(groups: Sequence[Group], random: np.random.Generator) -> list[Group]:
    return [groups[place] for place in random.integers(0, len(groups), len(groups))]
