"""One check of the selftest, and the distance that a result may have from the right one.

The module `checks` of a family has `checks(reference) -> Iterator[Check]`: every instantiation of
its kernels that the package can ask for, on small and on real shapes, held against a reference
implementation in MLX operations. Making the list makes no arrays: `Check.prepare` does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.tensors import StoredWeight

Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
Result = mx.array | NDArray[Any]


class Case(Protocol):
    """The arrays of one check, made on the spot from a fixed seed; freed with it."""

    def kernel(self) -> Sequence[mx.array]:
        """The results of the kernel, lazy; called only where there is Metal."""

    def reference(self) -> Sequence[mx.array]:
        """The results of the reference implementation, in MLX operations, lazy."""

    def exact(self) -> Sequence[NDArray[Any]]:
        """The results in float64 by numpy (integers as integers), of the inputs as stored."""


def row_error(got: NDArray[np.float64], want: NDArray[np.float64]) -> float:
    """The largest difference, relative to the largest finite magnitude of its row (last axis)."""
    finite = np.where(np.isfinite(want), np.abs(want), 0.0)
    scale = finite.max(axis=-1, keepdims=True, initial=0.0)
    return float((distance(got, want) / np.where(scale > 0, scale, 1.0)).max(initial=0.0))


def absolute_error(got: NDArray[np.float64], want: NDArray[np.float64]) -> float:
    """The largest difference."""
    return float(distance(got, want).max(initial=0.0))


def mismatches(got: NDArray[np.float64], want: NDArray[np.float64]) -> float:
    """Number of values that are not equal: for ids, masks and counts."""
    return float(np.count_nonzero(got != want))


def distance(got: NDArray[np.float64], want: NDArray[np.float64]) -> NDArray[np.float64]:
    """|got - want|: 0 for equal infinities, infinite where one of both is NaN."""
    with np.errstate(invalid="ignore"):
        apart = np.nan_to_num(np.abs(got - want), nan=np.inf, posinf=np.inf)
    return np.where(got == want, 0.0, apart)


@dataclass(frozen=True)
class Tolerance:
    """The allowed distance of one output from the right one by `measure`, and its reason."""

    output: str
    limit: float
    reason: str
    measure: Measure = row_error


@dataclass(frozen=True)
class Check:
    """One instantiation of one kernel on one size; kernels that only run together are one check.

    kernel: its file in metal/, or several with ", " between them. flops: multiplications and
    additions of the kernel, counted from shapes; bytes_moved: all that it must read and write once;
    memory_bytes: the most that inputs, results, the intermediates of the reference implementation
    and the float64 results take together. tolerances: of the kernel, one an output, in the order of
    the results; reference_tolerances: of the reference implementation where MLX's operations round
    more, None for the same.
    """

    kernel: str
    instantiation: str
    size: Literal["small", "26B"]
    memory_bytes: int
    flops: int
    bytes_moved: int
    tolerances: tuple[Tolerance, ...]
    prepare: Callable[[], Case]
    reference_tolerances: tuple[Tolerance, ...] | None = None


@dataclass(frozen=True)
class Deviation:
    """The distance of one output from the right one."""

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


def deviation(result: Result, right: Result, tolerance: Tolerance) -> Deviation:
    """The distance of one result from the right one; infinite where the shapes differ."""
    if tuple(result.shape) != tuple(right.shape):
        return Deviation(tolerance, float("inf"))
    return Deviation(tolerance, tolerance.measure(as_float64(result), as_float64(right)))


def as_float64(array: Result) -> NDArray[np.float64]:
    """An array of any dtype in numpy's float64."""
    if isinstance(array, mx.array) and array.dtype == mx.bfloat16:
        array = array.astype(mx.float32)  # numpy has no bfloat16
    return np.asarray(array).astype(np.float64)


def unpacked_exactly(weight: StoredWeight, ids: mx.array) -> NDArray[np.float64]:
    """The rows or matrices `ids` of a readable weight [..., I], written without MLX's own way."""
    if weight.packing is None:
        return as_float64(weight.weight[ids])
    assert weight.scales is not None
    assert weight.biases is not None
    bits, group = weight.packing.bits, weight.packing.group_size
    words = np.asarray(weight.weight[ids])[..., None]
    quanta = (words >> np.arange(0, 32, bits, dtype=np.uint32)) & np.uint32(2**bits - 1)
    values = quanta.reshape(*quanta.shape[:-2], quanta.shape[-2] * quanta.shape[-1])
    scales, biases = as_float64(weight.scales[ids]), as_float64(weight.biases[ids])
    return values.astype(np.float64) * np.repeat(scales, group, axis=-1) + np.repeat(
        biases, group, axis=-1
    )
