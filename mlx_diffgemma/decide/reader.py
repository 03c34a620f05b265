"""Decisions' one view of a model: log-probabilities of labels at the slots of a canvas.

Axes: S samples, N labels of a slot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Slot:
    """A position of a canvas that one question's label stands at; labels: their token ids."""

    position: int
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Sheet:
    """A canvas to read: tokens with the first label at each slot, and its slots.

    Every position that is no slot is pinned. The width is len(tokens).
    """

    tokens: tuple[int, ...]
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Reading:
    """What a sheet says: a slot's log-probabilities [S, N], normalised over its labels.

    mass [S]: the share of the whole vocabulary that the labels hold, None where nobody asked.
    """

    log_probabilities: tuple[NDArray[np.float64], ...]
    mass: tuple[NDArray[np.float64], ...] | None = None


@dataclass(frozen=True)
class ReadOptions:
    """Denoising steps of a read; seeds: one a sample; mass: also tell the labels' share."""

    seeds: tuple[int, ...]
    steps: int = 1
    mass: bool = False


class Reader(Protocol):
    """A model that reads sheets behind a prompt.

    The noise at a slot depends on the sample's seed alone, so that neighbours change nothing.
    """

    def read(
        self, prompt: Sequence[int], sheets: Sequence[Sheet], options: ReadOptions
    ) -> Sequence[Reading]:
        """One Reading a sheet. Sheets see the prompt and themselves, never each other."""
        ...

    def encoded(self) -> int:
        """Prompt positions encoded so far, in all reads: what a kept prefix spares is not in it."""
        ...

    def think(self, prompt: Sequence[int], limit: int, seed: int) -> list[int]:
        """A thought of at most `limit` tokens behind a prompt that opened one: without its end."""
        ...
