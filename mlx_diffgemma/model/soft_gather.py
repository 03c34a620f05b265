"""The soft embedding from the tokens that carry weight, as MLX operations: the definition of right.

The kernel soft_gather must equal it. Axes: R rows, V vocabulary, H hidden size, K tokens kept.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..machine.device import in_numpy, on_gpu
from .matrices import PackedMatrix

KEPT = 64  # tokens kept a row, at most
# A token is kept for its share of the row's mass. Shares are looked at in steps of half a binary
# order of magnitude, so that a kernel finds the last one that enough tokens reach without sorting.
LEVELS = (2.0 ** (-np.arange(64) / 2)).astype(np.float32)
BLOCK = 32  # ids that share one maximum when the heaviest tokens are looked for

# Half an ulp at 1 of the dtypes in which what the gather leaves out can be measured at all.
HALF_ULP = {mx.bfloat16: 2.0**-9, mx.float16: 2.0**-12}


@dataclass(frozen=True)
class Table:
    """An embedding [V, H], packed or not.

    dtype: that of activations; scale: sqrt(H) rounded to it; largest_norm: max over V of ||E_v||.
    """

    matrix: mx.array | PackedMatrix
    dtype: mx.Dtype
    scale: float
    largest_norm: float

    def rows(self, ids: mx.array) -> mx.array:
        """[...] int -> [..., H] in `dtype`, not scaled."""
        if isinstance(self.matrix, PackedMatrix):
            return self.matrix.rows(ids, self.dtype)
        return self.matrix[ids].astype(self.dtype)

    @property
    def reach(self) -> float:
        """How far a whole unit of mass could move a soft embedding."""
        return self.largest_norm * self.scale


@dataclass(frozen=True)
class Gathered:
    """soft [R, H]; tail [R] float32: the share left out; suffices [R] bool: it cannot matter."""

    soft: mx.array
    tail: mx.array
    suffices: mx.array


def gathered(processed: mx.array, table: Table) -> Gathered:
    """processed logits [R, V] in the table's 16-bit dtype -> their soft embeddings.

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
    return Gathered(soft, tail, tail * table.reach <= HALF_ULP[table.dtype] * size)


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
