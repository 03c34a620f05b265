"""The tied token embedding: lookup, language-model head and soft embedding from one table.

Axes: C canvas positions (or any number of rows), V vocabulary, H hidden size.
"""

import mlx.core as mx
import numpy as np

from ..device import in_numpy, on_gpu
from ..kernels.matrices import PackedMatrix

BLOCK = 64  # ids that share one maximum when the heaviest tokens are looked for
BLOCKS_KEPT = 32  # blocks whose tokens are candidates
TOKENS_KEPT = 64  # tokens gathered a row
NORM_CHUNK = 16_384  # table rows at a time when the largest row norm is measured

# Half an ulp at 1 of the dtypes in which what the gather leaves out can be measured at all.
HALF_ULP = {mx.bfloat16: 2.0**-9, mx.float16: 2.0**-12}


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
        self, table: DenseTable | PackedTable, vocab_size: int, hidden_size: int, dtype: mx.Dtype
    ) -> None:
        self.table, self.vocab_size, self.dtype = table, vocab_size, dtype
        self.scale = mx.array(hidden_size**0.5).astype(dtype)
        self._largest_norm: mx.array | None = None

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
        return self.dtype in HALF_ULP and self.vocab_size > BLOCK * BLOCKS_KEPT

    def gathered(self, processed: mx.array) -> tuple[mx.array, mx.array]:
        """The soft embedding from the tokens that carry weight, and the rows where that suffices.

        processed [C, V] in the embedding's dtype -> ([C, H], [C] bool). A row suffices when what
        is left out cannot change the result by half an ulp u:
        tail * max||E_v|| * sqrt(H) <= u * ||soft||.
        """
        ids, chosen = heaviest(processed)
        logits = processed.astype(mx.float32)
        shares = mx.exp(chosen.astype(mx.float32) - mx.logsumexp(logits, axis=-1, keepdims=True))
        rows = self.table.rows(ids, self.dtype)  # [C, K, H]
        mixed = (shares.astype(self.dtype)[:, None, :] @ rows)[:, 0] * self.scale
        tail = mx.maximum(1.0 - shares.sum(axis=-1), 0.0)
        size = mx.linalg.norm(mixed.astype(mx.float32), axis=-1)
        moved = tail * self.largest_norm() * self.scale.astype(mx.float32)
        return mixed, moved <= HALF_ULP[self.dtype] * size

    def largest_norm(self) -> mx.array:
        """max over the vocabulary of ||E_v||, float32; measured once, in pieces."""
        if self._largest_norm is None:
            largest = mx.array(0.0)
            for first in range(0, self.vocab_size, NORM_CHUNK):
                ids = mx.arange(first, min(first + NORM_CHUNK, self.vocab_size))
                norms = mx.linalg.norm(self.table.rows(ids, mx.float32), axis=-1)
                largest = mx.maximum(largest, norms.max())
                mx.eval(largest)
            self._largest_norm = largest
        return self._largest_norm


def heaviest(logits: mx.array) -> tuple[mx.array, mx.array]:
    """ids and values of large logits, [C, V] -> ([C, K] int32, [C, K]), found through block maxima.

    A sort over the vocabulary would cost more than the product it saves. The K found are the
    largest of the blocks with the largest maxima, not always the K largest of all: whoever uses
    them measures what is left out.
    """
    rows, vocab = logits.shape
    padded = -vocab % BLOCK
    if padded:
        logits = mx.pad(logits, [(0, 0), (0, padded)], constant_values=-float("inf"))
    blocks = logits.reshape(rows, -1, BLOCK)
    best = mx.argpartition(-blocks.max(axis=-1), BLOCKS_KEPT - 1, axis=-1)[:, :BLOCKS_KEPT]
    values = mx.take_along_axis(blocks, best[..., None], axis=1).reshape(rows, -1)
    ids = (best[..., None] * BLOCK + mx.arange(BLOCK, dtype=best.dtype)).reshape(rows, -1)
    top = mx.argpartition(-values, TOKENS_KEPT - 1, axis=-1)[:, :TOKENS_KEPT]
    ids = mx.minimum(mx.take_along_axis(ids, top, axis=-1), vocab - 1).astype(mx.int32)
    return ids, mx.take_along_axis(values, top, axis=-1)
