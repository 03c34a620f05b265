"""The order in which examples are taken, a function of the seed and of a number from 0.

Every example comes once an epoch, in an order of that epoch's own. A mix takes others between them,
evenly spread: their share of any n in a row, to within one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...generation.noise import philox
from .examples import Example

STREAM_ORDER, STREAM_GROUPS, STREAM_MIX = 16, 17, 18  # of the counter noise
WINDOW = 32  # blocks of examples at most that are sorted by length together
PARTS = 4  # windows of an epoch at least, or the same examples would always meet
ONE = 1 << 32  # shares are counted in parts of it


@dataclass
class Epochs:
    """The examples of one source, epoch after epoch.

    source: its number, which no other has. block: examples in a row that are of similar length, 0
    for any.
    """

    examples: Sequence[Example]
    seed: int
    source: int = 0
    block: int = 0
    _orders: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    def __getitem__(self, number: int) -> Example:
        """The one that comes after `number` others of this source."""
        epoch, place = divmod(number, len(self.examples))
        if epoch not in self._orders:
            for old in [old for old in self._orders if abs(old - epoch) > 1]:
                del self._orders[old]
            self._orders[epoch] = self._order(epoch)
        return self.examples[int(self._orders[epoch][place])]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        order = shuffled(self.seed, len(self.examples), epoch, self.source, STREAM_ORDER)
        return self._grouped(order, epoch) if self.block else order

    def _grouped(self, order: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """The order with blocks of similar lengths, which begin where batches do."""
        head = -epoch * len(order) % self.block
        most = max(1, min(WINDOW, len(order) // (PARTS * self.block)))
        pieces, size = [order[:head]], most * self.block
        for first in range(head, len(order), size):
            window = order[first : first + size]
            window = window[np.argsort(self._lengths[window], kind="stable")]
            whole = len(window) // self.block
            blocks = window[: whole * self.block].reshape(whole, self.block)
            mixed = shuffled(self.seed, whole, epoch, self.source, STREAM_GROUPS, first)
            pieces += [blocks[mixed].reshape(-1), window[whole * self.block :]]
        return np.concatenate(pieces)

    @cached_property
    def _lengths(self) -> NDArray[np.int64]:
        return np.array([len(example.ids) for example in self.examples])


class Sources:
    """The data itself, and other examples with the share of each."""

    def __init__(self, own: Epochs, mixed: Iterable[tuple[Epochs, float]] = ()) -> None:
        self.own = own
        self.turns, left = list[Turns](), 1.0
        for epochs, share in mixed:
            phase = int(philox(epochs.seed, 1, 0, epochs.source, STREAM_MIX)[0, 0])
            self.turns.append(Turns(epochs, round(share / left * ONE), phase))
            left -= share

    def __getitem__(self, number: int) -> Example:
        """The one that comes after `number` others."""
        for each in self.turns:
            before = each.count(number)
            if each.count(number + 1) > before:
                return each.epochs[before]
            number -= before
        return self.own[number]


@dataclass(frozen=True)
class Turns:
    """A source that has its turn where floor(n q + phase) rises with n.

    rise: q, its share of what the sources before it leave; both it and the phase in parts of ONE.
    """

    epochs: Epochs
    rise: int
    phase: int

    def count(self, number: int) -> int:
        """Its turns among the first `number`."""
        return (number * self.rise + self.phase) // ONE


def shuffled(
    seed: int, count: int, step: int, canvas: int, stream: int, first: int = 0
) -> NDArray[np.int64]:
    """The numbers below `count` in an order of the counter noise's."""
    words = philox(seed, count, step, canvas, stream, first).astype(np.uint64)
    return np.argsort((words[:, 0] << np.uint64(32)) | words[:, 1], kind="stable")
