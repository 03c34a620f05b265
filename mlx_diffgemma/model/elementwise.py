"""Functions of single values: exponential, tanh, GeGLU, softcap."""

import math

import mlx.core as mx
import numpy as np

from ..machine.device import compiled_on_gpu, numpy_op, on_gpu

GELU_LINEAR = 2 * math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715 * GELU_LINEAR


def exp(x: mx.array) -> mx.array:
    """e^x of a float32 array; on the CPU evaluated at once."""
    return mx.exp(x) if on_gpu() else _exp(x)


def tanh(x: mx.array) -> mx.array:
    """tanh of a float32 array; on the CPU evaluated at once."""
    return mx.tanh(x) if on_gpu() else _tanh(x)


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
