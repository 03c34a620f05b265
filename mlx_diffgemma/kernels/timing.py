"""Seconds that a kernel and its reference take to build and run, measured in turn."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import mlx.core as mx

Compute = Callable[[], Sequence[mx.array]]

LEAST_SAMPLES, MOST_SAMPLES = 5, 31
SECONDS = 0.25  # what the samples of one comparison may take, beyond the least number of them
WIN = 0.98  # a kernel must take less than this part of its reference's time: below 2% is noise
STEADY = 0.10  # disagreement between the samples of a comparison: with more it is tried again


@dataclass(frozen=True)
class Comparison:
    """Seconds of a kernel and of its reference, sampled in turn: one pair a round."""

    kernel: Sequence[float]
    reference: Sequence[float]

    @property
    def kernel_seconds(self) -> float:
        return median(self.kernel)

    @property
    def reference_seconds(self) -> float:
        return median(self.reference)

    @property
    def wins(self) -> bool:
        """True where the kernel is faster than its reference by more than noise."""
        return wins(self.kernel_seconds, self.reference_seconds)

    @property
    def disagreement(self) -> float:
        """The range of the middle half of the ratios kernel to reference, by their median.

        A ratio is of one pair: what slows both alike is no disagreement, nor is a single hiccup.
        """
        pairs = zip(self.kernel, self.reference, strict=True)
        low, middle, high = quantiles([k / r for k, r in pairs], n=4, method="inclusive")
        return (high - low) / middle


def in_turn(
    kernel: Compute, reference: Compute, clock: Callable[[], float] = time.perf_counter
) -> Comparison:
    """The samples of both, taken one after the other so that drift hits both alike.

    Both must have run once before, so that nothing is compiled here.
    """
    return Comparison(*all_in_turn((kernel, reference), clock))


def all_in_turn(
    computes: Sequence[Compute], clock: Callable[[], float] = time.perf_counter
) -> list[tuple[float, ...]]:
    """The samples of each of several, one of all a round."""
    rounds: list[list[float]] = []
    began = clock()
    for count in range(MOST_SAMPLES):
        if count >= LEAST_SAMPLES and clock() - began > SECONDS:
            break
        rounds.append([_seconds(compute, clock) for compute in computes])
    return list(zip(*rounds, strict=True))


def _seconds(compute: Compute, clock: Callable[[], float]) -> float:
    start = clock()
    mx.eval(compute())
    return clock() - start


def wins(kernel_seconds: float, reference_seconds: float) -> bool:
    """True where a kernel is faster than its reference implementation by more than noise."""
    return kernel_seconds < WIN * reference_seconds
