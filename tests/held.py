"""Memory that MLX holds, apart from what other tests of the same process left or still hold."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import mlx.core as mx

Result = TypeVar("Result")


def settled() -> int:
    """Bytes that MLX holds once nothing is cached, and nothing of earlier tests is on its way."""
    bytes_held = held()
    mx.clear_cache()
    return bytes_held


def held() -> int:
    """Bytes that MLX holds once nothing is on its way; what is cached stays."""
    before = -1
    while before != (now := mx.get_active_memory()):
        before = now
        mx.synchronize()
        gc.collect()
    return before


@dataclass(frozen=True)
class Taken(Generic[Result]):
    """What a run took, in bytes above what was held before it."""

    result: Result
    peak: int  # the most at a time
    left: int  # still held afterwards, `result` included
    cached: int  # let go of, and kept by MLX for the next array


def taken_by(run: Callable[[], Result]) -> Taken[Result]:
    """Memory of `run`; the arrays of its result, or of a list of them, are evaluated."""
    before = settled()
    mx.reset_peak_memory()
    result = run()
    mx.eval(result)
    mx.synchronize()
    peak = max(0, mx.get_peak_memory() - before)  # MLX counts a peak from the first new array on
    cached = mx.get_cache_memory()
    return Taken(result, peak, held() - before, cached)


def peak_of(run: Callable[[], object]) -> int:
    """The most bytes that MLX holds at a time during `run`, above what was held before it."""
    return taken_by(run).peak
