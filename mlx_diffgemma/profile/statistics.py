"""Figures from samples: percentiles, spread, and intervals that do not assume a distribution."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95  # so many of the intervals between equal runs hold 0
NORMAL = 1.959964  # between minus and plus this lies LEVEL of a normal distribution
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
    """By which share a figure changes from a first run to a second, and the interval around it.

    One group alone tells nothing about noise: the interval then reaches from -1 to infinity.
    """

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
    """How `figure`, which is above 0, changes from the first run to the second.

    The interval is a bootstrap over whole groups: groups are drawn anew with all their samples,
    because what disturbs one step of a canvas disturbs its neighbours too. Of few groups that alone
    is too narrow: it is widened, on the scale of ratios, as Student's t widens that of a mean.
    """
    one, other, fewest = figure(first), figure(second), min(len(first), len(second))
    if fewest < 2:
        return Change(one, other, -1.0, math.inf)
    random = np.random.default_rng(SEED)
    ratios = [
        figure(_drawn(second, random)) / figure(_drawn(first, random)) for _ in range(RESAMPLES)
    ]
    ends = np.log(np.percentile(ratios, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]))
    middle, factor = math.log(other / one), widening(fewest)
    low, high = (math.exp(middle + factor * (float(end) - middle)) - 1 for end in ends)
    return Change(one, other, low, high)


def widening(groups: int) -> float:
    """By how much an interval drawn from two runs of so many groups each is too narrow.

    Drawing anew understates a variance by (n - 1) / n, and takes it for known. Student's t from the
    normal quantile: Abramowitz and Stegun 26.7.5, within 3% of it for two groups, 0.1% for more.
    """
    z, freedom = NORMAL, 2 * (groups - 1)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    student = sum(term / freedom**power for power, term in enumerate(terms))
    return math.sqrt(groups / (groups - 1)) * float(student) / z


def _drawn(groups: Sequence[Group], random: np.random.Generator) -> list[Group]:
    return [groups[place] for place in random.integers(0, len(groups), len(groups))]
