"""The tied token embedding: lookup, language-model head and soft embedding from one table.

The soft embedding is the product of a distribution with the whole table or, in 16 bits, gathered
from the tokens that carry weight (soft_gather.py). Where Macs divide the vocabulary, each holds the
rows of its own ids: what they give is summed, and what one process would find is found by all.
Axes: C canvas positions, R any number of rows, V vocabulary, N ids of this Mac, H hidden size.
"""

from collections.abc import Sequence
from functools import cached_property

import mlx.core as mx
import numpy as np

from .elementwise import exp
from .soft_gather import HALF_ULP, Gathered, Table, gather, measured, tiers_of
from .tables import AnyTable
from .vocabulary import ALL_IDS, Vocabulary


class Embedding:
    """Token ids to vectors, vectors to logits, and distributions back to vectors.

    own: the ids that the table holds. Source: transformers
    `DiffusionGemmaTextScaledWordEmbedding`; sqrt(H) is rounded to `dtype`.
    """

    def __init__(
        self,
        table: AnyTable,
        vocab_size: int,
        hidden_size: int,
        dtype: mx.Dtype,
        own: Vocabulary = ALL_IDS,
    ) -> None:
        self.table, self.vocab_size, self.dtype = table, vocab_size, dtype
        self.hidden_size, self.own = hidden_size, own
        self.scale = mx.array(hidden_size**0.5).astype(dtype)

    def lookup(self, ids: mx.array) -> mx.array:
        """ids [...] -> scaled embeddings [..., H]."""
        return self.own.sum(self.own_rows(ids, self.dtype), "lookup") * self.scale

    def own_rows(self, ids: mx.array, dtype: mx.Dtype) -> mx.array:
        """ids [...] -> rows [..., H] of the table; 0 for those that another Mac holds."""
        return self.own.rows(lambda own: self.table.rows(own, dtype), ids)

    def head(self, hidden: mx.array) -> mx.array:
        """hidden [..., C, H] -> raw logits [..., C, V] in the hidden's dtype, on every Mac."""
        return self.own.gathered(self.table.head(hidden), "logits")

    def own_head(self, hidden: mx.array) -> mx.array:
        """hidden [..., C, H] -> raw logits [..., C, N] of this Mac's ids."""
        return self.table.head(hidden)

    def mix(self, weights: mx.array, total: mx.array) -> mx.array:
        """The mean embedding under `weights` [..., C, V], which sum to `total` [..., C, 1]."""
        return self._mixed(weights.astype(self.dtype)) / total.astype(self.dtype) * self.scale

    def nearest(self, vectors: mx.array, ids: Sequence[int]) -> tuple[list[int], list[float]]:
        """The one of `ids` whose scaled embedding is nearest to each of `vectors` [N, H].

        And its distance, in halves of the least distance between two of those embeddings: below 1
        no other of them can be nearer.
        """
        rows = self.lookup(mx.array(list(ids))).astype(mx.float32)
        apart = mx.where(mx.eye(len(ids)) == 1, mx.inf, _distances(rows, rows)).min()
        found = _distances(vectors.astype(mx.float32), rows)
        choice: list[int] = found.argmin(axis=-1).tolist()  # type: ignore[assignment]
        away: list[float] = (2 * found.min(axis=-1) / apart).tolist()  # type: ignore[assignment]
        return [ids[index] for index in choice], away

    def soft(self, processed: mx.array, bias: mx.array | None = None) -> mx.array:
        """softmax(processed [..., C, V]) @ embedding * sqrt(H) -> [..., C, H].

        Rounded where the reference rounds.
        """
        weights = mx.softmax(self.rounded(processed, bias).astype(mx.float32), axis=-1)
        return self._mixed(weights.astype(self.dtype)) * self.scale

    def own_soft(self, processed: mx.array, largest: mx.array, total: mx.array) -> mx.array:
        """This Mac's part [R, H] of soft embeddings, which `summed` makes whole.

        processed [R, N]: of its own ids; largest, total [R, 1] float32: of all ids the largest
        logit, and the mass of the rounded logits below it.
        """
        rounded = self.rounded(processed, None).astype(mx.float32)
        return self.table.mix((exp(rounded - largest) / total).astype(self.dtype))

    def summed(self, parts: mx.array) -> mx.array:
        """Soft embeddings [R, H], on every Mac, of the parts of all."""
        return self.own.sum(parts, "soft embeddings") * self.scale

    def _mixed(self, weights: mx.array) -> mx.array:
        """weights [..., V] @ embedding -> [..., H], not scaled."""
        return self.own.sum(self.table.mix(self.own.columns(weights)), "soft embeddings")

    @property
    def gathers(self) -> bool:
        """True where `gather` can be used: a 16-bit dtype, and more tokens than it looks at.

        Never where Macs divide the vocabulary: each multiplies by its own rows.
        """
        return self.dtype in HALF_ULP and bool(tiers_of(self.vocab_size)) and not self.own.divided

    def gathered(self, processed: mx.array, bias: mx.array | None = None) -> Gathered:
        """Soft embeddings of processed logits [R, V] from the tokens that carry weight."""
        return gather(self.rounded(processed, bias), self.gather_table)

    def rounded(self, processed: mx.array, bias: mx.array | None) -> mx.array:
        """Processed logits [R, V] rounded first, as the reference rounds them, in `dtype`.

        A constraint's bias [R, V] float32 is added to them afterwards, in float32: it moves all
        tokens of a class alike, which a second rounding would not.
        """
        rounded = processed.astype(self.dtype)
        return rounded if bias is None else rounded.astype(mx.float32) + bias

    @cached_property
    def gather_table(self) -> Table:
        """The table as `gather` takes it; making it measures the embedding once.

        RuntimeError where another Mac holds some of it.
        """
        if self.own.divided:
            raise RuntimeError("a Mac that holds some of the embedding gathers nothing from it.")
        scale = float(np.array(self.scale.astype(mx.float32)))
        return measured(self.table.stored, self.dtype, scale)


def _distances(a: mx.array, b: mx.array) -> mx.array:
    """Euclidean distances [N, M] of vectors a [N, H] and b [M, H]."""
    return mx.sqrt(mx.square(a[:, None] - b[None]).sum(axis=-1))
