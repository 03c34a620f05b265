"""Figures from samples: percentiles, spread, and intervals that do not assume a distribution."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95  # this share of the intervals between equal runs holds 0
NORMAL = 1.959964  # LEVEL of a normal distribution lies between minus and plus this
SEED = 20_250_101  # the same two files give the same interval

Group = Sequence[float]
"""Samples that resemble each other, such as the steps of one canvas."""
Figure = Callable[[Sequence[Group]], float]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p10, p50 and p90, interpolated."""
    low, middle, high = np.percentile(values, [10, 50, 90])
    return {"p10": float(low), "p50": float(middle), "p90": float(high)}


def spread(groups: Sequence[Group]) -> float:
    """The range of the groups' medians, as a share of the median of those."""
    medians = [float(np.median(group)) for group in groups]
    return (max(medians) - min(medians)) / float(np.median(medians))


def pooled_median(groups: Sequence[Group]) -> float:
    """The median of all samples."""
    return float(np.median(np.concatenate([np.asarray(group) for group in groups])))


@dataclass(frozen=True)
class Change:
    """A figure in a first and a second run, and an interval around its change, a share.

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
        """True where the interval excludes no change at all."""
        return not self.low <= 0 <= self.high


def change(first: Sequence[Group], second: Sequence[Group], figure: Figure) -> Change:
    """The change of `figure`, which is above 0, from the first run to the second.

    The interval is a bootstrap over whole groups: groups are drawn anew with all their samples,
    because what disturbs one step of a canvas disturbs its neighbours too. From few groups a
    bootstrap is too narrow: the interval is widened, on the scale of log ratios, as Student's t
    widens the interval of a mean.
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
    """The factor by which a bootstrap interval from two runs of so many groups is too narrow.

    Drawing anew understates a variance by (n - 1) / n, and takes that variance for known. Student's
    t from the normal quantile: Abramowitz and Stegun 26.7.5, exact to 3% for two groups and to
    0.1% for more.
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
    return [groups[index] for index in random.integers(0, len(groups), len(groups))]
