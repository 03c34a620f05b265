"""The tied embedding as it lies in memory: rows of it, and the two products with it.

Axes: C canvas positions, V vocabulary, H hidden size.
"""

import mlx.core as mx

from ..checkpoint.tensors import StoredWeight
from .matrices import PackedMatrix
from .products import multiply


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


AnyTable = DenseTable | PackedTable


def table(stored: StoredWeight) -> AnyTable:
    """The table of an embedding as it lies in memory."""
    if stored.packing is None or stored.scales is None:
        return DenseTable(stored.weight)
    return PackedTable(stored.weight, stored.scales, stored.biases, stored.packing)
