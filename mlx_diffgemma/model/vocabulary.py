"""The ids of the vocabulary of which each rank holds the embeddings: whole slices of the draw.

Axes: V vocabulary, H hidden size, S slices.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from ..kernels.denoise.launch import SLICE
from ..share.part import Division, Part
from ..share.share import Span


@dataclass(frozen=True)
class Vocabulary(Division):
    """The ids of which each rank holds the embeddings; unit: ids of a slice."""

    unit: int = SLICE

    def own(self, total: int) -> Span:
        """This rank's first id, and the one behind its last, out of `total`."""
        return self.spans[self.share.rank] if self.spans else (0, total)

    def columns(self, x: mx.array) -> mx.array:
        """The columns of this rank's ids, out of [..., V]."""
        return x[..., slice(*self.own(x.shape[-1]))] if self.divided else x

    def rows(self, rows_of: Callable[[mx.array], mx.array], ids: mx.array) -> mx.array:
        """Rows [..., H] of ids [...]; those of ids that are another rank's are 0.

        rows_of: places in this rank's table -> rows.
        """
        if not self.divided:
            return rows_of(ids)
        first, stop = self.spans[self.share.rank]
        inside = (ids >= first) & (ids < stop)
        rows = rows_of(mx.clip(ids, first, stop - 1) - first)
        return mx.where(inside[..., None], rows, mx.zeros_like(rows))

    def sum(self, x: mx.array, name: str) -> mx.array:
        """What the ids of each rank give, summed; x itself where none are divided."""
        return self.share.sum(x, name) if self.divided else x

    def gathered(self, x: mx.array, name: str) -> mx.array:
        """Columns of this rank's ids -> those of all ids [..., V]."""
        if not self.divided:
            return x
        return self.share.gathered(x, self.lengths, -1, name)

    def gathered_slices(self, x: mx.array, name: str) -> mx.array:
        """Findings of this rank's slices [R, S, ...] -> those of all slices."""
        counts = [-(-length // self.unit) for length in self.lengths]
        return self.share.gathered(x, counts, 1, name)


ALL_IDS = Vocabulary()


def vocabulary_of(part: Part, total: int) -> Vocabulary:
    """The division of `total` ids where tensors are cut, as `Part.vocabulary` has it."""
    return Vocabulary(part.share, part.vocabulary(total, SLICE), SLICE)
