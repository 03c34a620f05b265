"""Matrix products that can be differentiated on every device.

On the CPU numpy multiplies float32: the BLAS that MLX ships for Linux takes 35 times as long
(docs/log.md). Axes: I inputs, O outputs, R rank of an adapter, E experts, N rows.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..machine.device import in_host, numpy_op, on_gpu

Array = NDArray[Any]  # float32
Bounds = list[tuple[int, int]]


def multiply(x: mx.array, right: mx.array) -> mx.array:
    """x [..., I] @ right [I, O] -> [..., O], with gradients for both."""
    return x @ right if on_gpu() or mx.float32 != x.dtype else _multiply(x, right)


def multiply_by(right: mx.array) -> Callable[[mx.array], mx.array]:
    """x [..., I] -> x @ right [..., O]; `right` [I, O] is no variable and gets no gradient."""
    weight = np.asarray(right)
    return numpy_op(lambda x: _flat(x, weight), lambda given, out, x: (_flat(given, weight.T),))


def gather_by(right: mx.array) -> Callable[[mx.array, mx.array], mx.array]:
    """x [N, 1, I], experts [N] ascending -> each row times its own matrix of right [E, I, O].

    `right` is no variable: it gets no gradient.
    """
    weight = np.asarray(right)

    def gathered(x: mx.array, experts: mx.array) -> mx.array:
        bounds = _bounds(experts, len(weight))
        return numpy_op(
            lambda x: _rows(x, weight, bounds),
            lambda given, out, x: (_rows(given, weight.swapaxes(1, 2), bounds),),
        )(x)

    return gathered


def gather(x: mx.array, right: mx.array, experts: mx.array) -> mx.array:
    """x [N, 1, I], experts [N] ascending, right [E, I, O] -> [N, 1, O], with gradients for both."""
    if on_gpu() or x.dtype != mx.float32:
        return mx.gather_mm(x, right, rhs_indices=experts, sorted_indices=True)
    bounds = _bounds(experts, right.shape[0])

    def backward(given: Array, out: Array, x: Array, weight: Array) -> tuple[Array, Array]:
        own = grouped_own(x[:, 0], given[:, 0], bounds)
        return _rows(given, weight.swapaxes(1, 2), bounds), own

    return numpy_op(lambda x, weight: _rows(x, weight, bounds), backward)(x, right)


def _flat(x: Array, weight: Array) -> Array:
    """x @ weight, as one product of all rows."""
    out: Array = (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], weight.shape[-1])
    return out


def _backward(given: Array, out: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    rows, own = x.reshape(-1, x.shape[-1]), given.reshape(-1, given.shape[-1])
    return _flat(given, weight.T), rows.T @ own


_multiply = numpy_op(_flat, _backward)


def _bounds(experts: mx.array, count: int) -> Bounds:
    return expert_bounds(in_host(experts), count)


def _rows(x: Array, weight: Array, bounds: Bounds) -> Array:
    """`grouped` of rows as MLX's products of experts have them: x [N, 1, I] -> [N, 1, O]."""
    return grouped(x[:, 0], weight, bounds)[:, None]


def expert_bounds(experts: NDArray[np.integer[Any]], count: int) -> Bounds:
    """The first row of each expert, and the one behind its last, of experts that ascend."""
    ends = np.searchsorted(experts, np.arange(count + 1))
    return list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))


def grouped(x: Array, weight: Array, bounds: Bounds) -> Array:
    """Rows x [N, I] of each expert times its matrix of weight [E, I, O] -> [N, O]."""
    out = np.empty((len(x), weight.shape[-1]), np.float32)
    for matrix, (a, b) in zip(weight, bounds, strict=True):
        np.matmul(x[a:b], matrix, out=out[a:b])
    return out


def grouped_own(x: Array, given: Array, bounds: Bounds) -> Array:
    """The gradients [E, I, O] of the matrices of `grouped`, from rows x [N, I] and given [N, O]."""
    return np.stack([x[a:b].T @ given[a:b] for a, b in bounds])
