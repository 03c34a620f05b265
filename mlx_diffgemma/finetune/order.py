"""The order in which examples are drawn, a function of the seed and a draw's number.

Every example comes once an epoch, in an order of that epoch's own. Beside them a mix draws from
other examples, evenly spread: of any n draws in a row, its share of n, to within one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..generation.noise import philox
from .data import Example

STREAM_ORDER, STREAM_GROUPS, STREAM_MIX = 16, 17, 18  # of the counter noise
WINDOW = 32  # batches' worth of examples that are sorted by length together
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
        """The example of draw `number` from this source."""
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
        pieces, size = [order[:head]], WINDOW * self.block
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


@dataclass(frozen=True)
class Sources:
    """The sources of all draws: the data itself, and others with the share of each."""

    own: Epochs
    mixed: tuple[tuple[Epochs, float], ...] = ()

    def __getitem__(self, number: int) -> Example:
        """The example of draw `number`.

        A source with share q of what the ones before it leave is drawn where floor(n q + phase)
        rises; the phase is the counter noise's.
        """
        left = 1.0
        for epochs, share in self.mixed:
            rise, left = round(share / left * ONE), left - share
            phase = int(philox(epochs.seed, 1, 0, epochs.source, STREAM_MIX)[0, 0])
            before, behind = ((n * rise + phase) // ONE for n in (number, number + 1))
            if behind > before:
                return epochs[before]
            number -= before
        return self.own[number]


def shuffled(
    seed: int, count: int, step: int, canvas: int, stream: int, first: int = 0
) -> NDArray[np.int64]:
    """The numbers below `count` in an order of the counter noise's."""
    words = philox(seed, count, step, canvas, stream, first).astype(np.uint64)
    return np.argsort((words[:, 0] << np.uint64(32)) | words[:, 1], kind="stable")
