"""A loaded model as decisions see it: prompts of texts, and log-probabilities at slots of canvases.

Axes: S samples, N labels of a slot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Content = tuple[object, ...]
"""A text in parts: strings, and what `Texts.image` made where an image stands."""


@dataclass(frozen=True)
class Prompt:
    """Token ids in front of a canvas; images: what `Texts.image` made of each of theirs, in order.

    shared: the lengths of its beginnings that other prompts have as well, ascending, such as a
    system text or a state. Each is encoded by itself, and gives the same bits whatever stands
    behind it; the first one is kept when other prompts have come.
    """

    ids: tuple[int, ...]
    images: tuple[object, ...] = ()
    shared: tuple[int, ...] = ()

    def extended(self, ids: Sequence[int]) -> "Prompt":
        """The same with further ids behind; they share it as a whole."""
        return replace(self, ids=(*self.ids, *ids), shared=(*self.shared, len(self.ids)))


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
        self, prompt: Prompt, sheets: Sequence[Sheet], options: ReadOptions
    ) -> Sequence[Reading]:
        """One Reading a sheet. Sheets see the prompt and themselves, never each other."""
        ...

    def encoded(self) -> int:
        """Prompt positions encoded so far, in all reads: what a kept prefix spares is not in it."""
        ...

    def think(self, prompt: Prompt, limit: int, seed: int) -> Sequence[int]:
        """A thought of at most `limit` tokens behind a prompt that opened one: without its end."""
        ...


class Texts(Protocol):
    """A checkpoint's tokenizer and chat template, as far as decisions need them."""

    def encode(self, text: str) -> Sequence[int]:
        """The ids of a text, no bos added; markers of the vocabulary in it are recognised."""
        ...

    def prompt(self, system: Content, user: Content, *, think: bool) -> Prompt:
        """The chat prompt up to where the answer begins; think: with the marker of thinking."""
        ...

    def image(self, given: object) -> object:
        """An image for a Content, of bytes, a path or Pixels; ImageError for what is none."""
        ...


@dataclass(frozen=True)
class LoadedModel:
    """A model that decisions are asked of; `Session.decider` is one.

    name: what answers call it; thought: the texts that open and close a thought, None where the
    vocabulary has no such channel; turn_end, pad: the ids behind an answer; sees: images can be
    given; revision, quantization: the checkpoint's, which a calibration is bound to; labels: those
    of its vocabulary that were looked for.
    """

    reader: Reader
    texts: Texts
    name: str
    canvas_length: int
    context_length: int
    turn_end: int
    pad: int
    thought: tuple[str, str] | None = None
    sees: bool = False
    revision: str | None = None
    quantization: str | None = None
    labels: dict[object, tuple[str, ...]] = field(default_factory=dict, compare=False)

    @property
    def empty_thought(self) -> tuple[int, ...]:
        """The ids that a canvas begins with where nothing is thought."""
        return tuple(self.texts.encode("".join(self.thought))) if self.thought else ()
