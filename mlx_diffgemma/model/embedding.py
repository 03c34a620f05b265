"""The tied token embedding: lookup, language-model head and soft embedding from one table.

The soft embedding is the product of a distribution with the whole table or, in 16 bits, the sum
over the tokens that carry weight, which the kernel soft_gather must agree with.
Axes: C canvas positions, R any number of rows, V vocabulary, H hidden size, K tokens kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..checkpoint.tensors import StoredWeight
from ..machine.device import in_numpy, on_gpu
from .matrices import PackedMatrix
from .products import multiply

KEPT = 64  # tokens kept a row, at most
# A token is kept for its share of the row's mass. Shares are looked at in steps of half a binary
# order of magnitude, so that a kernel finds the last one that enough tokens reach without sorting.
LEVELS = (2.0 ** (-np.arange(64) / 2)).astype(np.float32)
BLOCK = 32  # ids that share one maximum when the heaviest tokens are looked for

# Half an ulp at 1 of the dtypes in which what the gather leaves out can be measured at all.
HALF_ULP = {mx.bfloat16: 2.0**-9, mx.float16: 2.0**-12}
NORM_CHUNK = 16_384  # table rows at a time when the largest row norm is measured


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


class Embedding:
    """Token ids to vectors, vectors to logits, and distributions back to vectors.

    Source: transformers `DiffusionGemmaTextScaledWordEmbedding`; sqrt(H) is rounded to `dtype`.
    """

    def __init__(self, table: AnyTable, vocab_size: int, hidden_size: int, dtype: mx.Dtype) -> None:
        self.table, self.vocab_size, self.dtype = table, vocab_size, dtype
        self.hidden_size = hidden_size
        self.scale = mx.array(hidden_size**0.5).astype(dtype)

    def lookup(self, ids: mx.array) -> mx.array:
        """ids [...] -> scaled embeddings [..., H]."""
        return self.table.rows(ids, self.dtype) * self.scale

    def head(self, hidden: mx.array) -> mx.array:
        """hidden [..., C, H] -> raw logits [..., C, V] in the hidden's dtype."""
        return self.table.head(hidden)

    def mix(self, weights: mx.array, total: mx.array) -> mx.array:
        """The mean embedding under `weights` [..., C, V], which sum to `total` [..., C, 1]."""
        return self.table.mix(weights.astype(self.dtype)) / total.astype(self.dtype) * self.scale

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

    def soft(self, processed: mx.array) -> mx.array:
        """softmax(processed [..., C, V]) @ embedding * sqrt(H) -> [..., C, H].

        Rounded where the reference rounds.
        """
        weights = mx.softmax(processed.astype(self.dtype).astype(mx.float32), axis=-1)
        return self.table.mix(weights.astype(self.dtype)) * self.scale

    @property
    def gathers(self) -> bool:
        """True where `gather` can be used: a 16-bit dtype, and more tokens than it looks at."""
        return self.dtype in HALF_ULP and self.vocab_size > BLOCK * (KEPT + 1)

    def gathered(self, processed: mx.array) -> "Gathered":
        """Soft embeddings of processed logits [R, V] from the tokens that carry weight.

        The logits are rounded first, as the reference rounds them.
        """
        return gather(processed.astype(self.dtype), self.gather_table)

    @cached_property
    def gather_table(self) -> "Table":
        """The table as `gather` takes it; making it measures the largest row once."""
        scale = float(np.array(self.scale.astype(mx.float32)))
        return Table(self.table.stored, self.dtype, scale, self.largest_norm())

    def largest_norm(self) -> float:
        """Maximum over the vocabulary of ||E_v||, measured in pieces."""
        largest = 0.0
        for first in range(0, self.vocab_size, NORM_CHUNK):
            ids = mx.arange(first, min(first + NORM_CHUNK, self.vocab_size))
            norms = mx.linalg.norm(self.table.rows(ids, mx.float32), axis=-1)
            largest = max(largest, float(np.array(norms.max())))
        return largest


def _distances(a: mx.array, b: mx.array) -> mx.array:
    """Euclidean distances [N, M] of vectors a [N, H] and b [M, H]."""
    return mx.sqrt(mx.square(a[:, None] - b[None]).sum(axis=-1))


# --- the soft embedding from few tokens


@dataclass(frozen=True)
class Table:
    """An embedding [V, H] to gather from, packed or not.

    dtype: that of activations; scale: sqrt(H) rounded to it; largest_norm: max over V of ||E_v||.
    """

    stored: StoredWeight
    dtype: mx.Dtype
    scale: float
    largest_norm: float

    def rows(self, ids: mx.array) -> mx.array:
        """Rows [..., H] of the ids [...], in `dtype`, not scaled."""
        return table(self.stored).rows(ids, self.dtype)

    @property
    def reach(self) -> float:
        """Distance by which a whole unit of mass could move a soft embedding."""
        return self.largest_norm * self.scale

    @property
    def half_ulp(self) -> float:
        """Half an ulp at 1 of the dtype."""
        return HALF_ULP[self.dtype]


class Gathered(NamedTuple):
    """soft [R, H]; tail [R] float32: the share left out; suffices [R] bool: the tail is too small
    to change the row."""

    soft: mx.array
    tail: mx.array
    suffices: mx.array


def gather(processed: mx.array, table: Table) -> Gathered:
    """Soft embeddings of processed logits [R, V], in the table's 16-bit dtype, from few tokens.

    Kept are the tokens of at least the lowest of LEVELS that at most KEPT tokens reach. A row
    suffices when what is left out cannot change the result by half an ulp u:
    tail * max||E_v|| * sqrt(H) <= u * ||soft||.
    """
    ids, chosen = heaviest(processed, KEPT + 1)
    chosen = chosen.astype(mx.float32)
    largest = chosen.max(axis=-1, keepdims=True)
    mass = total_mass(processed.astype(mx.float32), largest)
    weights = mx.exp(chosen - largest)
    weights = mx.where(weights >= lowest_level(weights[:, KEPT:], mass), weights, 0.0)
    shares = weights[:, :KEPT] / mass
    rows = table.rows(ids[:, :KEPT])  # [R, K, H]
    soft = (shares.astype(table.dtype)[:, None, :] @ rows)[:, 0] * table.scale
    tail = mx.maximum(1.0 - shares.sum(axis=-1), 0.0)
    size = mx.linalg.norm(soft.astype(mx.float32), axis=-1)
    return Gathered(soft, tail, tail * table.reach <= table.half_ulp * size)


def total_mass(logits: mx.array, largest: mx.array) -> mx.array:
    """The sum of exp(logits - largest) over V, [R, V] and [R, 1] -> [R, 1], float32.

    On the CPU by numpy, whose sums are pairwise: MLX's there are off by 1e-4 of themselves, which
    a tail is not to be measured with.
    """
    if on_gpu():
        return mx.exp(mx.logsumexp(logits, axis=-1, keepdims=True) - largest)
    return in_numpy(lambda x, top: np.exp(x - top).sum(axis=-1, keepdims=True), logits, largest)


def lowest_level(too_many: mx.array, mass: mx.array) -> mx.array:
    """The weight [R, 1] at the lowest of LEVELS that `too_many` [R, 1] does not reach.

    too_many: the largest weight that is one too many; mass [R, 1]: what shares are of.
    """
    levels = mx.array(LEVELS) * mass
    above = (too_many < levels).sum(axis=-1, keepdims=True)
    return mx.take_along_axis(levels, mx.maximum(above, 1) - 1, axis=-1)


def heaviest(logits: mx.array, count: int) -> tuple[mx.array, mx.array]:
    """ids and values of the `count` largest logits, [R, V] -> ([R, count] int32, [R, count]).

    The last one is the least. Found through block maxima, since the `count` largest lie within the
    `count` blocks with the largest maxima: a sort over the vocabulary would cost more than the
    product it saves.
    """
    rows, vocab = logits.shape
    padded = -vocab % BLOCK
    if padded:
        logits = mx.pad(logits, [(0, 0), (0, padded)], constant_values=-float("inf"))
    blocks = logits.reshape(rows, -1, BLOCK)
    best = mx.argpartition(-blocks.max(axis=-1), count - 1, axis=-1)[:, :count]
    values = mx.take_along_axis(blocks, best[..., None], axis=1).reshape(rows, -1)
    ids = (best[..., None] * BLOCK + mx.arange(BLOCK, dtype=best.dtype)).reshape(rows, -1)
    top = mx.argpartition(-values, count - 1, axis=-1)[:, :count]
    ids = mx.minimum(mx.take_along_axis(ids, top, axis=-1), vocab - 1).astype(mx.int32)
    return ids, mx.take_along_axis(values, top, axis=-1)
