"""The encoded positions of a conversation, and how far it can go back in them."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any
from weakref import ReferenceType

import mlx.core as mx

from ..errors import PromptError, counted
from .cache import LayerCache, Span
from .images import ImageRun

BLOCK = 4096  # tokens compared at once


def same(number: int) -> int:
    """The number: there are no layers elsewhere."""
    return number


Buffers = list[tuple[LayerCache, Span]]
"""Layers and what their buffers held at a time."""


@dataclass
class Prefix:
    """The encoded positions: their token ids and every layer's keys and values.

    unread: the last ones, of which nobody has asked the device which tokens they are; images: the
    runs of positions that stand for images, in order; room: positions below which every layer is
    known to have slots. model: the one that computes the
    keys and values, which no other can go on with; weak, so that a prefix keeps no weights alive.
    least: a position that these layers allow -> the one that layers on other Macs allow, too.
    """

    layers: list[LayerCache]
    known: list[int] = field(default_factory=list)
    images: list[ImageRun] = field(default_factory=list)
    marked: int = 0
    reserved: int = 0
    room: int = 0
    model: ReferenceType[object] | None = field(default=None, repr=False, compare=False)
    unread: list[mx.array] = field(default_factory=list, repr=False, compare=False)
    least: Callable[[int], int] = field(default=same, repr=False, compare=False)

    def __repr__(self) -> str:
        images = f", {counted(len(self.images), 'image')}" if self.images else ""
        return f"Prefix({counted(self.length, 'token')}{images})"

    @property
    def tokens(self) -> list[int]:
        """The token ids; waits for those that are unread."""
        if self.unread:
            read = [_read(token) for token in self.unread]
            self.known += read  # no call comes between, so that Ctrl-C cannot part them
            self.unread = []
        return self.known

    def is_of(self, model: object) -> bool:
        """True where `model` made this prefix."""
        return self.model is not None and self.model() is model

    @property
    def length(self) -> int:
        """Encoded positions; the canvas stands at length, length + 1, ..."""
        return len(self.known) + len(self.unread)

    @property
    def keys(self) -> list[mx.array]:
        """Per layer, the stored keys [1, heads, n, D]: the whole prefix on full layers, at least
        the last window - 1 positions on sliding ones."""
        return [span.keys for span in self._stored()]

    @property
    def values(self) -> list[mx.array]:
        """Per layer, the stored values; see `keys`."""
        return [span.values for span in self._stored()]

    def _stored(self) -> list[Span]:
        return [
            layer.span.cut(layer.span.start, self.length)
            for layer in self.layers
            if layer.span is not None
        ]

    def shared(self, tokens: Sequence[int], images: Sequence[ImageRun] = ()) -> int:
        """The number of leading positions that the prefix has in common with a prompt.

        images: those of the prompt. The keys of an image's positions depend on all of it, so that
        an image is shared as a whole or not at all.
        """
        both = zip_longest(self.images, images)
        differing = next((pair for pair in both if pair[0] != pair[1]), ())
        starts = [run.start for run in differing if run is not None]
        return self._outside(min([_in_common(self.tokens, list(tokens)), *starts]))

    def _outside(self, position: int) -> int:
        """The position, or the start of the image in whose midst it lies."""
        inside = (run.start for run in self.images if run.start < position < run.stop)
        return next(inside, position)

    def extend(self, tokens: Sequence[int], images: Sequence[ImageRun] = ()) -> None:
        """Take over tokens, and the images among them, whose keys and values are in the layers."""
        known = [run for run in self.images if run.stop <= self.length]  # after an interruption
        self.images = [*known, *images]  # no call comes between, so that Ctrl-C cannot part them
        self.tokens.extend(tokens)

    def extend_unread(self, token: mx.array) -> None:
        """Take over a token [1] whose keys and values are in the layers, known or not."""
        self.unread.append(token)

    def mark(self) -> None:
        """Remember this point: a later prompt that shares the prefix can go back here."""
        self.marked = self.length

    def reserve(self, positions: int) -> None:
        """Full layers allocate for `positions` at once when they next grow."""
        self.reserved = positions

    def shrink(self) -> None:
        """Give back slots that hold nothing that may be needed; going on makes new ones."""
        if self.length:
            for layer in self.layers:
                layer.shrink(self.length, self.marked)
            self.find_room()

    def find_room(self) -> None:
        """Find up to which position every layer has slots."""
        self.room = min((layer.span.end if layer.span else 0 for layer in self.layers), default=0)

    def reachable(self, position: int) -> int:
        """The position, or the last earlier point that is still stored."""
        target = self._outside(min(position, self.length))
        while target != (reachable := self.least(self._reachable(target))):
            target = reachable  # the mark, or the start: in no image
        return target

    def _reachable(self, position: int) -> int:
        """The last position up to `position` that these layers can go back to."""
        return min(layer.reachable(position) for layer in self.layers)

    def roll_back(self, position: int) -> int:
        """Go back to `position`, or to the last earlier point still stored; returns that point."""
        self.room = 0  # a layer may take up a shorter buffer that was saved
        target = self.reachable(position)
        for layer in self.layers:
            layer.roll_back(target)
        self._forget(target)
        self.images = [run for run in self.images if run.stop <= target]
        self.marked = min(self.marked, target)
        return target

    def _forget(self, target: int) -> None:
        """Drop the tokens from `target` on, without waiting for those that are unread."""
        if target > len(self.known):
            del self.unread[target - len(self.known) :]
        else:
            self.unread.clear()
            del self.known[target:]

    def buffers(self) -> Buffers:
        """The buffers as they are now, for `put_back`; until it is let go, a write copies them."""
        return [
            (layer, replace(layer.span, keys=copy(layer.span.keys), values=copy(layer.span.values)))
            for layer in self.layers
            if layer.span is not None
        ]

    def put_back(self, buffers: Buffers) -> None:
        """Take back what was written since `buffers`, evaluated or not."""
        for layer, span in buffers:
            layer.span = span

    @property
    def num_bytes(self) -> int:
        """Bytes of all that is stored."""
        return sum(array.nbytes for array in self.arrays())

    def arrays(self) -> list[mx.array]:
        """All that is stored: until a snapshot is evaluated, it holds the buffer it is cut from."""
        spans = [span for layer in self.layers for span in (layer.span, layer.saved) if span]
        return [array for span in spans for array in (span.keys, span.values)]


def _read(token: mx.array) -> int:
    value: Any = token.item()
    return int(value)


def _in_common(one: list[int], other: list[int]) -> int:
    """The number of leading tokens that two lists have in common, compared block by block."""
    whole = min(len(one), len(other))
    starts = range(0, whole, BLOCK)
    first = next((at for at in starts if one[at : at + BLOCK] != other[at : at + BLOCK]), whole)
    pairs = enumerate(zip(one[first : first + BLOCK], other[first : first + BLOCK], strict=False))
    return next((first + at for at, (a, b) in pairs if a != b), min(first + BLOCK, whole))


def own_prefix(prefix: Prefix, model: object) -> Prefix:
    """The prefix, if `model` made it; PromptError for any other: its keys are of other weights."""
    if isinstance(prefix, Prefix) and prefix.is_of(model):
        return prefix
    got = "another model's" if isinstance(prefix, Prefix) else f"a {type(prefix).__name__}"
    raise PromptError(
        f"the prefix is {got}, expected one that this model's encode has returned; encode the "
        "tokens with this model."
    )
