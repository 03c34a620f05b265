"""Matrices of the network: dense, quantised by MLX, and several of one input joined.

Axes: I inputs, O outputs, E experts, N rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import mlx.core as mx

from ..checkpoint.quantization import QuantizationConfig
from ..checkpoint.tensors import StoredWeight
from ..machine.device import on_gpu
from .products import gather, multiply


class DenseMatrix:
    """A weight in a floating-point dtype.

    Kept as the right-hand operand [I, O]. On the CPU it is laid out that way in memory: the BLAS
    that MLX ships for Linux multiplies a transposed operand at half the speed (docs/log.md).
    """

    sorts_from = inf  # rows from which those that are grouped by expert are multiplied faster
    merged: "Merged | None" = None  # a product with weight and adapters, where that is faster

    def __init__(self, weight: mx.array) -> None:
        self.outputs = weight.shape[-2]
        right = weight.swapaxes(-1, -2)
        if not on_gpu():
            # gather_mm knows only float32 on the CPU: experts, [E, O, I], are widened there.
            right = mx.contiguous(right.astype(mx.float32) if weight.ndim == 3 else right)
        self.right = right

    @property
    def stored(self) -> StoredWeight:
        """The weight [..., O, I]; on a GPU row-contiguous, so that no launch copies it."""
        return StoredWeight(self.right.swapaxes(-1, -2))

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self.right

    def gather(self, x: mx.array, rows: mx.array | None, experts: mx.array) -> mx.array:
        """Rows [..., 1, I] times the matrices of `experts` -> [..., 1, O], weight [E, O, I].

        rows: of each product, counted through x's leading axes, in the shape of `experts`. None:
        one row for each of `experts` [N], which ascend, so that MLX takes an expert's together.
        """
        product = mx.gather_mm(
            x.astype(self.right.dtype),
            self.right,
            lhs_indices=rows,
            rhs_indices=experts,
            sorted_indices=rows is None,
        )
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

    sorts_from = inf
    merged: "Merged | None" = None

    def __init__(
        self,
        weight: mx.array,
        scales: mx.array,
        biases: mx.array | None,
        packing: QuantizationConfig,
    ) -> None:
        self.outputs = weight.shape[-2]
        self.weight, self.scales, self.biases, self.packing = weight, scales, biases, packing

    @property
    def stored(self) -> StoredWeight:
        """The packed weight [..., O, I] with its scales and biases."""
        return StoredWeight(self.weight, self.scales, self.biases, self.packing)

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

    def gather(self, x: mx.array, rows: mx.array | None, experts: mx.array) -> mx.array:
        """Rows [..., 1, I] times the matrices of `experts`; see `DenseMatrix.gather`."""
        return mx.gather_qmm(
            x,
            self.weight,
            self.scales,
            self.biases,
            lhs_indices=rows,
            rhs_indices=experts,
            transpose=True,
            group_size=self.packing.group_size,
            bits=self.packing.bits,
            mode=self.packing.mode,
            sorted_indices=rows is None,
        )

    def unpacked(self, dtype: mx.Dtype) -> mx.array:
        """The whole weight as numbers of `dtype`."""
        whole = mx.dequantize(
            self.weight,
            self.scales,
            self.biases,
            group_size=self.packing.group_size,
            bits=self.packing.bits,
            mode=self.packing.mode,
        )
        return whole.astype(dtype)

    def rows(self, ids: mx.array | slice, dtype: mx.Dtype) -> mx.array:
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


Drop = Callable[[mx.array], mx.array]


@dataclass(frozen=True)
class Adapter:
    """a [I, R] and b [R, O], or [E, I, R] and [E, R, O] of experts; scale is a plain factor."""

    a: mx.array
    b: mx.array
    scale: float
    drop: Drop | None = None


Merged = Callable[[mx.array, Sequence[Adapter | None], Sequence[int]], mx.array]
"""x [..., I], the adapters of an AdaptedMatrix and its widths -> [..., O]."""


class AdaptedMatrix:
    """A matrix, or several of one input joined, with an adapter on some of its outputs.

    adapters: one for each of the parts of `widths`, in order, None for a part without.
    """

    merged: "Merged | None" = None

    def __init__(
        self,
        base: "AnyMatrix | JoinedMatrix",
        adapters: Sequence[Adapter | None],
        widths: Sequence[int],
    ) -> None:
        self.base, self.adapters, self.widths = base, list(adapters), list(widths)
        self.outputs: int = sum(widths)

    @property
    def sorts_from(self) -> float:
        """Rows from which those that are grouped by expert are multiplied faster."""
        return inf if isinstance(self.base, JoinedMatrix) else self.base.sorts_from

    @property
    def stored(self) -> StoredWeight:
        """Refused with a RuntimeError: no one array holds a weight and its adapter."""
        raise RuntimeError("a matrix with an adapter has no weight of its own; fuse it.")

    def __call__(self, x: mx.array) -> mx.array:
        many = x.size >= self.sorts_from * x.shape[-1]
        if self.base.merged and many and not any(own and own.drop for own in self.adapters):
            return self.base.merged(x, self.adapters, self.widths)
        output = self.base(x)
        parts = [
            mx.zeros((*x.shape[:-1], width), output.dtype)
            if adapter is None
            else (adapter.scale * _low_rank(x, adapter)).astype(output.dtype)
            for adapter, width in zip(self.adapters, self.widths, strict=True)
        ]
        return output + (parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=-1))

    def gather(self, x: mx.array, rows: mx.array | None, experts: mx.array) -> mx.array:
        """Rows [..., 1, I] times the matrices of `experts`; see `DenseMatrix.gather`."""
        (adapter,) = self.adapters
        assert not isinstance(self.base, JoinedMatrix)
        output = self.base.gather(x, rows, experts)
        if adapter is None:
            return output
        dropped = _dropped(x, adapter)
        if rows is None:
            low = gather(gather(dropped, adapter.a, experts), adapter.b, experts)
        else:
            inner = mx.gather_mm(dropped, adapter.a, lhs_indices=rows, rhs_indices=experts)
            own = mx.arange(experts.size, dtype=mx.uint32).reshape(experts.shape)
            low = mx.gather_mm(inner, adapter.b, lhs_indices=own, rhs_indices=experts)
        return output + (adapter.scale * low).astype(output.dtype)


def _low_rank(x: mx.array, adapter: Adapter) -> mx.array:
    return multiply(multiply(_dropped(x, adapter), adapter.a), adapter.b)


def _dropped(x: mx.array, adapter: Adapter) -> mx.array:
    x = x.astype(adapter.a.dtype)
    return adapter.drop(x) if adapter.drop else x


AnyMatrix = DenseMatrix | PackedMatrix | AdaptedMatrix


def matrix(stored: StoredWeight) -> AnyMatrix:
    """The matrix of a weight as it lies in memory."""
    if stored.packing is None or stored.scales is None:
        return DenseMatrix(stored.weight)
    return PackedMatrix(stored.weight, stored.scales, stored.biases, stored.packing)


class JoinedMatrix:
    """Matrices of one input that cannot become one weight: multiplied apart, outputs joined."""

    merged: "Merged | None" = None

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
