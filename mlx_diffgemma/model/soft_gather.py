"""The soft embedding from the tokens that carry weight, in 16 bits.

The kernel soft_gather must agree with `gather`.
Axes: R any number of rows, V vocabulary, H hidden size, K tokens kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.tensors import StoredWeight
from ..kernels.soft_gather.tiers import FIRST, KEPT, PRODUCT, SECOND
from ..machine.device import in_host, in_numpy, on_gpu
from .tables import table

# A token is kept for its share of the row's mass. Shares are looked at in steps of half a binary
# order of magnitude, so that a kernel finds the last one that enough tokens reach without sorting.
LEVELS = (2.0 ** (-np.arange(64) / 2)).astype(np.float32)
BLOCK = 32  # ids that share one maximum when the heaviest tokens are looked for

# Half an ulp at 1 of the dtypes in which what the gather leaves out can be measured at all.
HALF_ULP = {mx.bfloat16: 2.0**-9, mx.float16: 2.0**-12}
PIECE = 8192  # table rows at a time when mean and norms are measured
GATHERED = 2**13  # table rows that exist at a time while they are gathered: 46 MB of 2,816 numbers


def tiers_of(vocab: int) -> tuple[int, ...]:
    """The tokens that a row keeps at most, by tier; none that are not far fewer than all."""
    return tuple(count for count in KEPT if vocab > BLOCK * (count + 1))


@dataclass(frozen=True)
class Table:
    """An embedding [V, H] to gather from, packed or not.

    dtype: that of activations; scale: sqrt(H) rounded to it; mean [H] in it: what stands for the
    tokens left out; largest_norm, largest_distance: maxima over V of ||E_v|| and ||E_v - mean||;
    kept: the tokens that a row keeps at most, by tier.
    """

    stored: StoredWeight
    dtype: mx.Dtype
    scale: float
    mean: mx.array
    largest_norm: float
    largest_distance: float
    kept: tuple[int, ...]

    def rows(self, ids: mx.array) -> mx.array:
        """Rows [..., H] of the ids [...], in `dtype`, not scaled."""
        return table(self.stored).rows(ids, self.dtype)

    @property
    def reach(self) -> float:
        """Distance by which a whole unit of mass left out could move a soft embedding."""
        return self.largest_distance * self.scale

    @property
    def longest(self) -> float:
        """No soft embedding is longer: a mean of rows, and less than 2% of roundings."""
        return 1.02 * self.largest_norm * self.scale

    @property
    def half_ulp(self) -> float:
        """Half an ulp at 1 of the dtype."""
        return HALF_ULP[self.dtype]


def measured(stored: StoredWeight, dtype: mx.Dtype, scale: float) -> Table:
    """The Table of an embedding in memory, which is read twice, a piece at a time."""
    vocab, width = stored.shape
    total, largest = mx.zeros(width), mx.zeros(2)
    for rows in _pieces(stored):
        total = total + rows.sum(axis=0)
        mx.eval(total)
    mean = (total / vocab).astype(dtype)
    for rows in _pieces(stored):
        norms = [mx.linalg.norm(part, axis=-1).max() for part in (rows, rows - mean)]
        largest = mx.maximum(largest, mx.stack(norms))
        mx.eval(largest)
    norm, distance = np.array(largest).tolist()
    return Table(stored, dtype, scale, mean, norm, distance, tiers_of(vocab))


def _pieces(stored: StoredWeight) -> Iterator[mx.array]:
    """The rows of an embedding in float32, PIECE of them at a time."""
    vocab, _ = stored.shape
    for first in range(0, vocab, PIECE):
        ids = mx.arange(first, min(first + PIECE, vocab))
        yield table(stored).rows(ids, mx.float32)


class Gathered(NamedTuple):
    """soft [R, H], 0 where the product is needed; tail [R] float32: the share left out; tier [R]
    uint8: the tier whose tokens suffice, or PRODUCT."""

    soft: mx.array
    tail: mx.array
    tier: mx.array


class Rows(NamedTuple):
    """Processed logits [R, V] with the largest of each row [R, 1] and the row's mass [R, 1]."""

    logits: mx.array
    largest: mx.array
    mass: mx.array

    @staticmethod
    def of(logits: mx.array) -> "Rows":
        """Logits with what is measured of them."""
        exact = logits.astype(mx.float32)
        largest = exact.max(axis=-1, keepdims=True)
        return Rows(logits, largest, total_mass(exact, largest))


class Kept(NamedTuple):
    """The tokens that rows keep, ids and shares [R, K], 0 for none; tail [R]: what is left out."""

    ids: mx.array
    shares: mx.array
    tail: mx.array


def gather(processed: mx.array, table: Table) -> Gathered:
    """Soft embeddings of processed logits [R, V], in the table's 16-bit dtype, from few tokens.

    Kept are the tokens of at least the lowest of LEVELS that at most so many reach as the tier
    keeps; the mean embedding m stands for the others. They suffice when what is left out, the sum
    of p_v (E_v - m) over the others, cannot change the result by half an ulp u:
    tail * max||E_v - m|| * sqrt(H) <= u * ||soft||. Rows for which they do not are evaluated, and
    try the next tier.
    """
    rows = Rows.of(processed)
    kept = keep(rows, table.kept[FIRST])
    found = _gathered(kept, table, FIRST)
    for tier in range(SECOND, len(table.kept)):
        missing = np.flatnonzero(in_host(found.tier) == PRODUCT)
        if missing.size:
            kept = keep(Rows(*_taken(rows, missing)), table.kept[tier])
            found.tail[mx.array(missing)] = kept.tail
            near = np.flatnonzero(
                in_host(kept.tail * table.reach <= table.half_ulp * table.longest)
            )
            if near.size:
                own, again = (
                    mx.array(missing[near]),
                    _gathered(Kept(*_taken(kept, near)), table, tier),
                )
                found.soft[own], found.tier[own] = again.soft, again.tier
    return found


def _taken(parts: Sequence[mx.array], rows: NDArray[np.intp]) -> Iterator[mx.array]:
    return (part[mx.array(rows)] for part in parts)


def keep(rows: Rows, count: int) -> Kept:
    """The heaviest tokens of some rows, at most `count`."""
    ids, chosen = heaviest(rows.logits, count + 1)
    weights = mx.exp(chosen.astype(mx.float32) - rows.largest)
    weights = mx.where(weights >= lowest_level(weights[:, count:], rows.mass), weights, 0.0)
    shares = weights[:, :count] / rows.mass
    return Kept(ids[:, :count], shares, mx.maximum(1.0 - shares.sum(axis=-1), 0.0))


def _gathered(kept: Kept, table: Table, tier: int) -> Gathered:
    """Soft embeddings of kept tokens, and whether these suffice; GATHERED rows at a time."""
    length, size = kept.ids.shape[0], max(1, GATHERED // kept.ids.shape[1])
    parts = []
    for first in range(0, length, size):
        parts.append(_mixed(Kept(*(part[first : first + size] for part in kept)), table))
        if length > size:
            mx.eval(parts)
    soft = mx.concatenate(parts)
    norm = mx.linalg.norm(soft.astype(mx.float32), axis=-1)
    suffices = kept.tail * table.reach <= table.half_ulp * norm
    soft = mx.where(suffices[:, None], soft, mx.zeros_like(soft))
    return Gathered(soft, kept.tail, mx.where(suffices, tier, PRODUCT).astype(mx.uint8))


def _mixed(kept: Kept, table: Table) -> mx.array:
    """Soft embeddings [R, H] of kept tokens, and of the mean for the others."""
    shares = mx.concatenate([kept.shares, kept.tail[:, None]], axis=-1).astype(table.dtype)
    mean = mx.broadcast_to(table.mean, (kept.ids.shape[0], 1, table.mean.shape[0]))
    rows = mx.concatenate([table.rows(kept.ids), mean], axis=1)  # [R, K + 1, H]
    return (shares[:, None, :] @ rows)[:, 0] * table.scale


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
