"""One check of the selftest, and how far a result may be from the right one.

A family's module FAMILY_checks.py has `checks() -> Iterator[Check]`: every instantiation of its
kernels the package can ask for, on small and on real shapes. Making the list makes no arrays:
`Check.prepare` does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
Result = mx.array | NDArray[Any]


class Case(Protocol):
    """The arrays of one check, made on the spot from a fixed seed; freed with it."""

    def kernel(self) -> Sequence[mx.array]:
        """The results of the kernel, lazy; called only where there is Metal."""

    def twin(self) -> Sequence[mx.array]:
        """The same from MLX operations, lazy."""

    def reference(self) -> Sequence[NDArray[Any]]:
        """The same from numpy in float64 (integers as integers), of the inputs as stored."""


def row_error(got: NDArray[np.float64], want: NDArray[np.float64]) -> float:
    """The largest difference, relative to the largest finite magnitude of its row (last axis)."""
    finite = np.where(np.isfinite(want), np.abs(want), 0.0)
    scale = finite.max(axis=-1, keepdims=True, initial=0.0)
    return float((distance(got, want) / np.where(scale > 0, scale, 1.0)).max(initial=0.0))


def absolute_error(got: NDArray[np.float64], want: NDArray[np.float64]) -> float:
    """The largest difference."""
    return float(distance(got, want).max(initial=0.0))


def mismatches(got: NDArray[np.float64], want: NDArray[np.float64]) -> float:
    """How many values are not equal: for ids, masks and counts."""
    return float(np.count_nonzero(got != want))


def distance(got: NDArray[np.float64], want: NDArray[np.float64]) -> NDArray[np.float64]:
    """|got - want|: 0 for equal infinities, infinite where one of both is NaN."""
    with np.errstate(invalid="ignore"):
        apart = np.nan_to_num(np.abs(got - want), nan=np.inf, posinf=np.inf)
    return np.where(got == want, 0.0, apart)


@dataclass(frozen=True)
class Tolerance:
    """How far one output may be from the right one, in the unit of `measure`, and why that far."""

    output: str
    limit: float
    reason: str
    measure: Measure = row_error


@dataclass(frozen=True)
class Check:
    """One instantiation of one kernel on one size; kernels that only run together are one check.

    kernel: its file in metal/, or several with ", " between them. flops: multiplications and
    additions of the kernel, counted from shapes; bytes_moved: what it must read and write once;
    memory_bytes: the most that inputs, results, the twin's intermediates and the reference take
    together. tolerances: the kernel's, one an output, in the order of the results;
    twin_tolerances: the twin's where MLX's operations round more, None for the same.
    """

    kernel: str
    instantiation: str
    size: Literal["small", "26B"]
    memory_bytes: int
    flops: int
    bytes_moved: int
    tolerances: tuple[Tolerance, ...]
    prepare: Callable[[], Case]
    twin_tolerances: tuple[Tolerance, ...] | None = None


@dataclass(frozen=True)
class Deviation:
    """How far one output is from the right one."""

    tolerance: Tolerance
    error: float

    @property
    def allowed(self) -> bool:
        return self.error <= self.tolerance.limit

    @property
    def severity(self) -> float:
        """The error as a multiple of its limit; infinite above a limit of 0."""
        if self.error == 0:
            return 0.0
        return self.error / self.tolerance.limit if self.tolerance.limit else float("inf")

    def __str__(self) -> str:
        return f"{self.tolerance.output}: error {self.error:.2g}, allowed {self.tolerance.limit:g}"


def worst(
    results: Sequence[Result], right: Sequence[Result], tolerances: Sequence[Tolerance]
) -> Deviation:
    """The output furthest from the right one by its own limit."""
    parts = zip(results, right, tolerances, strict=True)
    return max((deviation(*part) for part in parts), key=lambda found: found.severity)


def disagreement(
    results: Sequence[Result], right: Sequence[Result], tolerances: Sequence[Tolerance]
) -> str | None:
    """The worst output in one line where it is beyond its limit, else None: for a Trial."""
    found = worst(results, right, tolerances)
    return None if found.allowed else str(found)


def deviation(result: Result, right: Result, tolerance: Tolerance) -> Deviation:
    """How far one result is from the right one; infinitely far where the shapes differ."""
    if tuple(result.shape) != tuple(right.shape):
        return Deviation(tolerance, float("inf"))
    return Deviation(tolerance, tolerance.measure(as_float64(result), as_float64(right)))


def as_float64(array: Result) -> NDArray[np.float64]:
    """An array of any dtype in numpy's float64."""
    if isinstance(array, mx.array) and array.dtype == mx.bfloat16:
        array = array.astype(mx.float32)  # numpy has no bfloat16
    return np.asarray(array).astype(np.float64)
