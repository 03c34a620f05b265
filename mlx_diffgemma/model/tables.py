"""The tied embedding as it lies in memory: rows of it, and the two products with it.

Axes: C canvas positions, V vocabulary, H hidden size.
"""

import mlx.core as mx

from ..checkpoint.tensors import StoredWeight
from ..machine.choices import SoftProduct
from .matrices import PackedMatrix
from .products import multiply

SLICE = 8192  # ids unpacked at a time: 46 MB of 2,816 numbers in 16 bits


class DenseTable:
    """The embedding as a floating-point array [V, H]."""

    def __init__(self, weight: mx.array) -> None:
        self.weight = weight

    @property
    def stored(self) -> StoredWeight:
        """The array as kernels take it."""
        return StoredWeight(self.weight)

    def rows(self, ids: mx.array, dtype: mx.Dtype) -> mx.array:
        return self.weight[ids].astype(dtype)

    def head(self, hidden: mx.array) -> mx.array:
        """[..., C, H] -> [..., C, V]."""
        return multiply(hidden, self.weight.T)

    def mix(self, weights: mx.array) -> mx.array:
        """[..., C, V] -> [..., C, H]."""
        return multiply(weights, self.weight)


class PackedTable(PackedMatrix):
    """The embedding as MLX packs it."""

    def head(self, hidden: mx.array) -> mx.array:
        return self.multiply(hidden, transpose=True)

    def mix(self, weights: mx.array) -> mx.array:
        return self.multiply(weights, transpose=False)


class SlicedTable(PackedTable):
    """A packed embedding, unpacked a slice at a time where distributions are multiplied by it."""

    def mix(self, weights: mx.array) -> mx.array:
        """The products of all slices, summed in float32."""
        total = mx.zeros((), mx.float32)
        for first in range(0, self.outputs, SLICE):
            part = slice(first, first + SLICE)
            product = multiply(weights[..., part], self.rows(part, weights.dtype))
            total = total + product.astype(mx.float32)
        return total.astype(weights.dtype)


class CopiedTable(PackedTable):
    """A packed embedding with a copy in 16 bits, by which distributions are multiplied."""

    def __init__(self, packed: PackedTable, dtype: mx.Dtype) -> None:
        super().__init__(packed.weight, packed.scales, packed.biases, packed.packing)
        self.copy = DenseTable(packed.unpacked(dtype))

    def mix(self, weights: mx.array) -> mx.array:
        return self.copy.mix(weights)


AnyTable = DenseTable | PackedTable


def table(stored: StoredWeight) -> AnyTable:
    """The table of an embedding as it lies in memory."""
    if stored.packing is None or stored.scales is None:
        return DenseTable(stored.weight)
    return PackedTable(stored.weight, stored.scales, stored.biases, stored.packing)


def multiplied_by(packed: PackedTable, how: SoftProduct, dtype: mx.Dtype) -> PackedTable:
    """The same embedding, by which distributions in `dtype` are multiplied as `how` says."""
    if how == "slices":
        return SlicedTable(packed.weight, packed.scales, packed.biases, packed.packing)
    return CopiedTable(packed, dtype) if how == "16-bit" else packed
