"""Seconds that graphs take to build and run, measured in turn with each other."""

import time
from collections.abc import Callable, Sequence
from statistics import median

import mlx.core as mx

Compute = Callable[[], Sequence[mx.array]]

LEAST_SAMPLES, MOST_SAMPLES = 5, 31
SECONDS = 0.25  # what the samples of one comparison may take, beyond the least number of them
WIN = 0.98  # a kernel must take less than this part of its reference's time: below 2% is noise


def in_turn(
    computations: Sequence[Compute], clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """The median seconds of each, sampled one after the other so that drift hits all alike.

    All must have run once before, so that nothing is compiled here.
    """
    samples: list[list[float]] = [[] for _ in computations]
    began = clock()
    for count in range(MOST_SAMPLES):
        if count >= LEAST_SAMPLES and clock() - began > SECONDS:
            break
        for compute, taken in zip(computations, samples, strict=True):
            start = clock()
            mx.eval(compute())
            taken.append(clock() - start)
    return [median(taken) for taken in samples]


def wins(kernel_seconds: float, reference_seconds: float) -> bool:
    """True where a kernel is faster than its reference implementation by more than noise."""
    return kernel_seconds < WIN * reference_seconds
