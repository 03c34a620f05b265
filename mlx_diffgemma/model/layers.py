"""The small parts every layer is made of: matrices, norms, activation, rotary angles.

Axes: L positions, H hidden size, D head dimension, I inner size, O outputs, E experts.
"""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..config import LayerConfig
from ..quantization import QuantizationConfig

P = ParamSpec("P")
R = TypeVar("R")

GELU_LINEAR = 2 * math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715 * GELU_LINEAR


def on_gpu() -> bool:
    """True where the default device is a GPU (Metal or CUDA)."""
    return mx.default_device().type == mx.DeviceType.gpu


def compiled_on_gpu(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, on a GPU compiled by MLX: traced once a shape, one kernel for elementwise runs.

    On the CPU it runs operation by operation: there MLX would call the system's C++ compiler, a
    second a kernel, and gain nothing (docs/log.md).
    """
    compiled: Callable[P, R] = mx.compile(function)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return compiled(*args, **kwargs) if on_gpu() else function(*args, **kwargs)

    return run


def in_numpy(function: Callable[..., NDArray[Any]], *inputs: mx.array) -> mx.array:
    """`function` of float32 arrays, evaluated by numpy: for vocabulary-wide work on the CPU.

    There MLX's exp and tanh go value by value and its BLAS is the reference one: numpy's are 20 to
    40 times as fast, and closer (docs/log.md). What is not finite is found later, by its entropy.
    """
    with np.errstate(all="ignore"):
        return mx.array(function(*(np.asarray(x) for x in inputs)))


def exp(x: mx.array) -> mx.array:
    """e^x of a float32 array; on the CPU evaluated at once, and not to be differentiated."""
    return mx.exp(x) if on_gpu() else in_numpy(np.exp, x)


def tanh(x: mx.array) -> mx.array:
    """tanh of a float32 array; on the CPU evaluated at once, and not to be differentiated."""
    return mx.tanh(x) if on_gpu() else in_numpy(np.tanh, x)


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


class DenseMatrix:
    """A weight in a floating-point dtype.

    Kept as the right-hand operand [I, O]. On the CPU it is laid out that way in memory: the BLAS
    that MLX ships for Linux multiplies a transposed operand at half the speed (docs/log.md).
    """

    def __init__(self, weight: mx.array) -> None:
        self.outputs = weight.shape[-2]
        right = weight.swapaxes(-1, -2)
        if not on_gpu():
            # gather_mm knows only float32 on the CPU: experts, [E, O, I], are widened there.
            right = mx.contiguous(right.astype(mx.float32) if weight.ndim == 3 else right)
        self.right = right

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self.right

    def gather(self, x: mx.array, experts: mx.array, ordered: bool) -> mx.array:
        """Rows [N, 1, I] times the matrix of each row's expert -> [N, 1, O], weight [E, O, I]."""
        wide = x.astype(self.right.dtype)
        product = mx.gather_mm(wide, self.right, rhs_indices=experts, sorted_indices=ordered)
        return product.astype(x.dtype)

    @staticmethod
    def joined(parts: Sequence["DenseMatrix"]) -> "DenseMatrix":
        """One matrix whose outputs are those of `parts`, in order."""
        whole = DenseMatrix.__new__(DenseMatrix)
        whole.outputs = sum(part.outputs for part in parts)
        whole.right = mx.concatenate([part.right for part in parts], axis=-1)
        return whole


class PackedMatrix:
    """A weight quantised by MLX: packed integers, scales and, in affine mode, biases."""

    def __init__(
        self,
        weight: mx.array,
        scales: mx.array,
        biases: mx.array | None,
        packing: QuantizationConfig,
    ) -> None:
        self.outputs = weight.shape[-2]
        self.weight, self.scales, self.biases, self.packing = weight, scales, biases, packing

    def __call__(self, x: mx.array) -> mx.array:
        return self.multiply(x, transpose=True)

    def multiply(self, x: mx.array, *, transpose: bool) -> mx.array:
        """x @ W.T, or x @ W where `transpose` is false."""
        return mx.quantized_matmul(
            x,
            self.weight,
            self.scales,
            self.biases,
            transpose=transpose,
            group_size=self.packing.group_size,
            bits=self.packing.bits,
            mode=self.packing.mode,
        )

    def gather(self, x: mx.array, experts: mx.array, ordered: bool) -> mx.array:
        """Rows [N, 1, I] times the matrix of each row's expert -> [N, 1, O], weight [E, O, I]."""
        return mx.gather_qmm(
            x,
            self.weight,
            self.scales,
            self.biases,
            rhs_indices=experts,
            transpose=True,
            group_size=self.packing.group_size,
            bits=self.packing.bits,
            mode=self.packing.mode,
            sorted_indices=ordered,
        )

    def rows(self, ids: mx.array, dtype: mx.Dtype) -> mx.array:
        """The rows `ids` of the weight, unpacked: [...] int -> [..., I]."""
        rows = mx.dequantize(
            self.weight[ids],
            self.scales[ids],
            None if self.biases is None else self.biases[ids],
            group_size=self.packing.group_size,
            bits=self.packing.bits,
            mode=self.packing.mode,
        )
        return rows.astype(dtype)

    @staticmethod
    def joined(parts: Sequence["PackedMatrix"]) -> "PackedMatrix":
        """One matrix whose outputs are those of `parts`, in order; all of one packing."""
        biases = [part.biases for part in parts if part.biases is not None]
        return PackedMatrix(
            mx.concatenate([part.weight for part in parts], axis=-2),
            mx.concatenate([part.scales for part in parts], axis=-2),
            mx.concatenate(biases, axis=-2) if biases else None,
            parts[0].packing,
        )


AnyMatrix = DenseMatrix | PackedMatrix


class JoinedMatrix:
    """Matrices of one input that cannot become one weight: multiplied apart, outputs joined."""

    def __init__(self, parts: Sequence[AnyMatrix]) -> None:
        self.parts = list(parts)
        self.outputs = sum(part.outputs for part in parts)

    def __call__(self, x: mx.array) -> mx.array:
        return mx.concatenate([part(x) for part in self.parts], axis=-1)


def join(parts: Sequence[AnyMatrix]) -> AnyMatrix | JoinedMatrix:
    """One matrix for several that read the same input: fused where dtype and packing allow it."""
    if all(isinstance(part, DenseMatrix) for part in parts):
        return DenseMatrix.joined([part for part in parts if isinstance(part, DenseMatrix)])
    packed = [part for part in parts if isinstance(part, PackedMatrix)]
    if len(packed) == len(parts) and len({part.packing for part in packed}) == 1:
        return PackedMatrix.joined(packed)
    return JoinedMatrix(parts)


class Rope:
    """Rotary position embedding of one layer kind; turns the pairs (d, d + D/2).

    A "proportional" layer turns only the first `rotary_fraction` of its D/2 pairs, with exponents
    over the full D: the others have an infinite period (`mx.fast.rope` takes periods). Source:
    transformers `modeling_rope_utils._compute_proportional_rope_parameters`.
    """

    def __init__(self, layer: LayerConfig) -> None:
        self.head_dim = layer.head_dim
        pairs = layer.head_dim // 2
        turning = int(layer.rotary_fraction * layer.head_dim // 2)
        exponents = mx.arange(turning, dtype=mx.float32) * (2.0 / layer.head_dim)
        periods = mx.power(mx.array(layer.rope_theta, dtype=mx.float32), exponents)
        self.periods = mx.concatenate([periods, mx.full((pairs - turning,), math.inf)])

    def __call__(self, x: mx.array, offset: int) -> mx.array:
        """x [1, heads, L, D] at positions offset, offset + 1, ... -> the same, turned."""
        return mx.fast.rope(
            x,
            self.head_dim,
            traditional=False,
            base=None,
            scale=1.0,
            offset=offset,
            freqs=self.periods,
        )
