"""The part of the network's work that is one rank's: rows of a canvas, layers, or parts of tensors.

Rows: every rank holds all weights and computes some rows of the canvas, and of each piece of a
prompt; keys and values travel, a layer at a time. Layers: every rank holds some layers and
computes all rows; hidden states travel from one rank to the next. In both nothing that is summed is
cut, so the bits are those of one process where its products do not depend on their number of rows.
Tensor: every rank holds some heads, inner widths, experts and ids of the vocabulary of every layer,
and computes all rows; what they give is rounded by each rank and summed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import mlx.core as mx

from ..errors import ShareError, counted
from ..machine.device import in_host
from .guard import lost_macs
from .share import ALONE, Share, Span, cuts, unsent

Cut = Literal["rows", "layers", "tensor"]
CUTS: tuple[Cut, ...] = get_args(Cut)

LEAST_ROWS = 16  # a rank's, of a prompt's piece: for fewer a link takes longer than they do

Sliced = TypeVar("Sliced")  # of a canvas or an array's first axis


@dataclass(frozen=True)
class Division:
    """Rows, or ids, of which each rank has some; spans: by rank, empty where each has all."""

    share: Share = ALONE
    spans: tuple[Span, ...] = ()

    @property
    def divided(self) -> bool:
        """True where each rank has some of its own."""
        return bool(self.spans)

    @property
    def first(self) -> int:
        """The first of this rank's."""
        return self.spans[self.share.rank][0] if self.spans else 0

    @property
    def lengths(self) -> list[int]:
        """How many each rank has."""
        return [end - first for first, end in self.spans]


@dataclass(frozen=True)
class Rows(Division):
    """The rows that each rank computes of a canvas, of its denoised positions, or of a prompt."""

    @property
    def own(self) -> slice:
        """This rank's rows."""
        return slice(*self.spans[self.share.rank]) if self.spans else slice(None)

    def count(self, total: int) -> int:
        """The number of this rank's rows, out of `total`."""
        return len(range(total)[self.own])

    def among(self, before: Callable[[int], int]) -> "Rows":
        """The same division of chosen rows; before: a row -> the number of chosen ones before."""
        return Rows(self.share, tuple((before(a), before(b)) for a, b in self.spans))

    def gathered(self, x: mx.array, axis: int, name: str) -> mx.array:
        """This rank's rows, along `axis` -> all rows."""
        if not self.divided:
            return x
        return self.share.gathered(x, self.lengths, axis, name)

    def agreed(self, x: mx.array, name: str) -> mx.array:
        """Findings of this rank's rows, along axis 0 -> those of all rows, alike on all ranks.

        Where every rank computes all rows, rank 0's hold: unlike chips round differently.
        """
        return self.gathered(x, 0, name) if self.divided else self.share.of_rank_0(x, name)


@dataclass(frozen=True)
class Part:
    """The part of a network that is this rank's; WHOLE is that of one process."""

    share: Share = ALONE
    cut: Cut = "rows"

    @property
    def in_stages(self) -> bool:
        """True where hidden states go from rank to rank."""
        return self.cut == "layers" and not self.share.alone

    @property
    def in_tensors(self) -> bool:
        """True where each rank holds parts of all matrices."""
        return self.cut == "tensor" and not self.share.alone

    def sum(self, x: mx.array, name: str) -> mx.array:
        """What the parts of a matrix give on all ranks, summed; x itself where none is cut."""
        return self.share.sum(x, name) if self.in_tensors else x

    def behind(self, x: mx.array, before: mx.array) -> mx.array:
        """x, which waits for `before` where tensors are cut; else x itself.

        Two messages of which neither waits for the other may go in either order, as MLX walks a
        graph, and those of unlike chips differ. Sums of one shape would be taken for each other.
        """
        return mx.depends([x], [before])[0] if self.in_tensors else x

    def vocabulary(self, total: int, unit: int) -> tuple[Span, ...]:
        """The ids of each rank, in slices of `unit`; empty where every rank has all of them.

        A vocabulary of fewer slices than there are ranks is not cut.
        """
        if not self.in_tensors or -(-total // unit) < self.share.size:
            return ()
        return tuple(cuts(total, self.share.size, unit))

    def layers(self, total: int) -> range:
        """The numbers of this rank's layers."""
        return range(*self.share.span(total)) if self.in_stages else range(total)

    def rows(self, total: int) -> Rows:
        """The rows of a canvas that each rank computes."""
        if self.share.alone or self.cut != "rows":
            return Rows(self.share)
        return Rows(self.share, tuple(cuts(total, self.share.size)))

    def piece_rows(self, total: int) -> Rows:
        """The rows of a prompt's piece that each rank computes; few rows are computed by all."""
        return self.rows(total) if total >= LEAST_ROWS * self.share.size else Rows(self.share)

    def through(
        self, x: mx.array, run: Callable[[mx.array], mx.array], *, returned: bool = True
    ) -> mx.array:
        """The input x of all layers -> the output of the last, on every rank.

        run: this rank's layers. Not returned: only the last rank has the output, the others get
        zeros that wait for what they have to send. These must be evaluated.
        """
        if not self.in_stages:
            return run(x)
        for rank in range(self.share.size):
            x = run(x) if rank == self.share.rank else unsent(x)
            if returned or rank + 1 < self.share.size:
                x = self.share.sum(x, "hidden states")
        return x

    def least(self, number: int) -> int:
        """The least of numbers that depend on this rank's layers, such as a position still kept."""
        return min(self._of_ranks(number, "positions")) if self.in_stages else number

    def most(self, number: int) -> int:
        """The most of numbers that depend on this rank's part, such as bytes of what is kept."""
        differ = self.in_stages or self.in_tensors
        return max(self._of_ranks(number, "bytes")) if differ else number

    def _of_ranks(self, number: int, name: str) -> list[int]:
        """A number of every rank's."""
        self.share.alive()
        with lost_macs(self.share):
            told = in_host(self.share.gather(mx.array([number], mx.int64), name))
        return [int(each) for each in told.ravel()]

    def require_divisible(self, layers: int, canvas: int) -> None:
        """ShareError for more ranks than there are layers, or rows of a canvas, to divide.

        Heads, widths and the like of tensors are looked at where they are cut.
        """
        if self.cut == "tensor":
            return
        what, count = ("layer", layers) if self.cut == "layers" else ("row", canvas)
        if self.share.size > count:
            raise ShareError(
                f"{counted(self.share.size, 'Mac')} share by {self.cut}, expected {count} at most: "
                f"the model has {counted(count, what)}; name fewer Macs."
            )


WHOLE = Part()
