"""Functions of single values: exponential, tanh, GeGLU, softcap; of rows: logsumexp, RMS norm."""

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..machine.device import compiled_on_gpu, numpy_op, on_gpu

GELU_LINEAR = 2 * math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715 * GELU_LINEAR


Norm = Callable[[mx.array, mx.array | None, float], mx.array]  # x, weight, eps


def rms_norm(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    """x [.., H] over its root mean square, times weight [H] where there is one."""
    return mx.fast.rms_norm(x, weight, eps)


def exp(x: mx.array) -> mx.array:
    """e^x of a float32 array; on the CPU evaluated at once."""
    return mx.exp(x) if on_gpu() else _exp(x)


def tanh(x: mx.array) -> mx.array:
    """tanh of a float32 array; on the CPU evaluated at once."""
    return mx.tanh(x) if on_gpu() else _tanh(x)


def logsumexp(x: mx.array) -> mx.array:
    """log(sum(e^x)) of each row of a float32 array, [..., V] -> [...].

    On the CPU evaluated at once: numpy's sums are pairwise, MLX's there are off by 1e-4.
    """
    return mx.logsumexp(x, axis=-1) if on_gpu() else _logsumexp(x)


def _row_logsumexp(x: NDArray[Any]) -> NDArray[Any]:
    largest = x.max(axis=-1)
    out: NDArray[Any] = np.log(np.exp(x - largest[..., None]).sum(axis=-1)) + largest
    return out


_logsumexp = numpy_op(
    _row_logsumexp, lambda given, out, x: (given[..., None] * np.exp(x - out[..., None]),)
)
_exp = numpy_op(np.exp, lambda given, out, _: (given * out,))
_tanh = numpy_op(np.tanh, lambda given, out, _: (given * (1 - out * out),))


@compiled_on_gpu
def geglu(gate: mx.array, up: mx.array) -> mx.array:
    """gelu_tanh(gate) * up; the activation in float32, rounded once to the input's dtype.

    (1 + tanh(y)) / 2 = sigmoid(2y) keeps it short enough for MLX to compile into one kernel.
    """
    g = gate.astype(mx.float32)
    gelu = g * mx.sigmoid(g * (g * g * GELU_CUBIC + GELU_LINEAR))
    return gelu.astype(gate.dtype) * up


@compiled_on_gpu
def softcap(logits: mx.array, cap: float) -> mx.array:
    """cap * tanh(logits / cap), float32."""
    return tanh(logits.astype(mx.float32) / cap) * cap
