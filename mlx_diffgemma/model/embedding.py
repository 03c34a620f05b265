"""The tied token embedding: lookup, language-model head and soft embedding from one table.

Axes: C canvas positions (or any number of rows), V vocabulary, H hidden size.
"""

import mlx.core as mx
import numpy as np

from ..kernels.denoise.trial import Reading
from ..kernels.soft_gather import trial as soft_gather
from ..machine.choices import Wish
from ..machine.device import in_numpy, on_gpu
from .matrices import PackedMatrix
from .soft_gather import BLOCK, HALF_ULP, KEPT, Table

NORM_CHUNK = 16_384  # table rows at a time when the largest row norm is measured


class DenseTable:
    """The embedding as a floating-point array [V, H]."""

    def __init__(self, weight: mx.array) -> None:
        self.weight = weight

    def rows(self, ids: mx.array, dtype: mx.Dtype) -> mx.array:
        return self.weight[ids].astype(dtype)

    def head(self, hidden: mx.array) -> mx.array:
        """[..., C, H] -> [..., C, V]."""
        if self._for_numpy():
            return in_numpy(np.matmul, hidden, self.weight.T)
        return hidden @ self.weight.T

    def mix(self, weights: mx.array) -> mx.array:
        """[..., C, V] -> [..., C, H]."""
        if self._for_numpy():
            return in_numpy(np.matmul, weights, self.weight)
        return weights @ self.weight

    def _for_numpy(self) -> bool:
        return self.weight.dtype == mx.float32 and not on_gpu()


class PackedTable(PackedMatrix):
    """The embedding as MLX packs it."""

    def head(self, hidden: mx.array) -> mx.array:
        return self.multiply(hidden, transpose=True)

    def mix(self, weights: mx.array) -> mx.array:
        return self.multiply(weights, transpose=False)


class Embedding:
    """Token ids to vectors, vectors to logits, and distributions back to vectors.

    Source: transformers `DiffusionGemmaTextScaledWordEmbedding`; sqrt(H) is rounded to `dtype`.
    """

    def __init__(
        self,
        table: DenseTable | PackedTable,
        vocab_size: int,
        hidden_size: int,
        dtype: mx.Dtype,
        *,
        kernels: Wish = "auto",
    ) -> None:
        self.table, self.vocab_size, self.dtype = table, vocab_size, dtype
        self.hidden_size, self.kernels = hidden_size, kernels
        self.scale = mx.array(hidden_size**0.5).astype(dtype)
        self._gather_table: Table | None = None

    def lookup(self, ids: mx.array) -> mx.array:
        """ids [...] -> scaled embeddings [..., H]."""
        return self.table.rows(ids, self.dtype) * self.scale

    def head(self, hidden: mx.array) -> mx.array:
        """hidden [..., C, H] -> raw logits [..., C, V] in the hidden's dtype."""
        return self.table.head(hidden)

    def mix(self, weights: mx.array, total: mx.array) -> mx.array:
        """The mean embedding under `weights` [..., C, V], which sum to `total` [..., C, 1]."""
        return self.table.mix(weights.astype(self.dtype)) / total.astype(self.dtype) * self.scale

    def soft(self, processed: mx.array) -> mx.array:
        """softmax(processed [..., C, V]) @ embedding * sqrt(H) -> [..., C, H].

        Rounded where the reference rounds.
        """
        weights = mx.softmax(processed.astype(self.dtype).astype(mx.float32), axis=-1)
        return self.table.mix(weights.astype(self.dtype)) * self.scale

    @property
    def gathers(self) -> bool:
        """Whether `gathered` can be used: a 16-bit dtype, and more tokens than it looks at."""
        return self.dtype in HALF_ULP and self.vocab_size > BLOCK * (KEPT + 1)

    def gathered(self, reading: Reading) -> tuple[mx.array, mx.array]:
        """The soft embedding from the tokens that carry weight, and the rows where that suffices.

        R rows -> ([R, H], [R] bool); see `soft_gather_ops.gathered`.
        """
        if self._gather_table is None:
            weight = self.table if isinstance(self.table, PackedTable) else self.table.weight
            scale = float(np.array(self.scale.astype(mx.float32)))
            self._gather_table = Table(weight, self.dtype, scale, self.largest_norm())
        found = soft_gather.gathered(reading, self._gather_table, self.kernels)
        return found.soft, found.suffices

    def largest_norm(self) -> float:
        """max over the vocabulary of ||E_v||, measured in pieces."""
        largest = 0.0
        for first in range(0, self.vocab_size, NORM_CHUNK):
            ids = mx.arange(first, min(first + NORM_CHUNK, self.vocab_size))
            norms = mx.linalg.norm(self.table.rows(ids, mx.float32), axis=-1)
            largest = max(largest, float(np.array(norms.max())))
        return largest
