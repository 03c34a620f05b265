"""Keys and values of a prefix, with room behind them for the canvas being denoised.

Each layer has one buffer [1, heads, slots, D] for keys and one for values: the prefix, then the
canvas, so that a denoising step writes the canvas in place and concatenates nothing. Full layers
keep the whole prefix; sliding layers the last window - 1 positions and ROLLBACK more, so that a
conversation can go back a little without encoding again. All that decides how many slots there are
stands in `first_kept`, `num_slots` and `most_room`: buffers and the memory plan ask the same.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any
from weakref import ReferenceType

import mlx.core as mx

from ..errors import PromptError, counted
from .images import ImageRun

ROLLBACK = 1024  # positions behind the window that a sliding layer keeps
MARGIN = (
    64  # positions before a mark that stay reachable: the end of a generation prompt may differ
)
STEP = 256  # buffers grow by multiples of this
BLOCK = 4096  # tokens compared at once


@dataclass
class Span:
    """Keys and values [1, heads, n, D] of the positions start, start + 1, ..."""

    start: int
    keys: mx.array
    values: mx.array

    @property
    def end(self) -> int:
        return self.start + int(self.keys.shape[2])

    def cut(self, first: int, last: int) -> "Span":
        """A view of the positions first <= p < last."""
        a, b = first - self.start, last - self.start
        return Span(first, self.keys[:, :, a:b], self.values[:, :, a:b])


def first_kept(window: int | None, length: int) -> int:
    """The first position that a layer still needs when those from `length` on are to come."""
    return 0 if window is None else max(0, length - (window - 1) - ROLLBACK)


def num_slots(window: int | None, positions: int) -> int:
    """Slots of a buffer made for so many positions; those of sliding layers have room to go on."""
    return -(-positions // STEP) * STEP + (0 if window is None else ROLLBACK)


@dataclass(frozen=True)
class Room:
    """Positions for which one layer stores keys and values: at most, however they come.

    stored: in the buffer, and copied out of it for a rollback; replaced: of the smaller buffer that
    is still there while its successor is filled.
    """

    stored: int
    replaced: int


def most_room(window: int | None, positions: int, piece: int) -> Room:
    """The Room of a layer for `positions` that are written in pieces of at most `piece`."""
    if positions == 0:
        return Room(0, 0)
    if window is None:
        slots = num_slots(None, positions)
        return Room(slots, max(0, slots - STEP))
    kept = window - 1 + ROLLBACK  # as first_kept has it; the piece comes behind them
    slots = num_slots(window, min(positions, kept + piece))
    if positions < kept + 2:  # the buffer still begins at position 0
        return Room(slots, slots)
    moved = num_slots(window, min(positions - 1, kept + piece)) + window - 1 + MARGIN
    return Room(max(slots, moved), slots)


class LayerCache:
    """One layer's keys and values; `window` is None on full layers."""

    def __init__(self, window: int | None) -> None:
        self.window = window
        self.span: Span | None = None
        self.saved: Span | None = None  # what a rollback to the mark needs, once trimmed away

    def first_visible(self, position: int) -> int:
        """The first prefix position that a canvas or query at `position` sees."""
        return 0 if self.window is None else max(0, position - (self.window - 1))

    def write(self, keys: mx.array, values: mx.array, position: int) -> Span:
        """Store [1, heads, n, D] at position, ...; the span that is visible, up to its end.

        The slots must have been made by `make_room`.
        """
        if self.span is None:
            raise RuntimeError("make_room comes before write")
        span, end = self.span, position + int(keys.shape[2])
        a, b = position - span.start, end - span.start
        span.keys[:, :, a:b] = keys
        span.values[:, :, a:b] = values
        return span.cut(self.first_visible(position), end)

    def make_room(self, length: int, end: int, like: tuple[int, int, mx.Dtype], mark: int) -> None:
        """Slots for the positions up to `end`, keeping those below `length` that may be needed.

        like: heads, head dimension and dtype of the keys; mark: where a rollback may go back to.
        """
        heads, head_dim, dtype = like
        first = first_kept(self.window, length)
        old = None if self.span is None else self.span.cut(max(first, self.span.start), length)
        start = length if old is None else old.start
        shape = (1, heads, num_slots(self.window, end - start), head_dim)
        span = Span(start, mx.zeros(shape, dtype), mx.zeros(shape, dtype))
        if old is not None and old.end > start:
            self._save(mark, start)
            span.keys[:, :, : old.end - start] = old.keys
            span.values[:, :, : old.end - start] = old.values
            kept = self.saved or span
            mx.eval(span.keys, span.values, kept.keys, kept.values)  # before the next layer copies
        self.span = span  # last: an interruption leaves the old one whole

    def shrink(self, length: int, mark: int) -> None:
        """Give back the slots from `length` on, and those of positions that are not needed."""
        if self.span is None:
            return
        first = max(first_kept(self.window, length), self.span.start)
        self._save(mark, first)
        kept = self.span.cut(first, length)
        span = Span(first, mx.contiguous(kept.keys), mx.contiguous(kept.values))
        saved = self.saved or span
        mx.eval(span.keys, span.values, saved.keys, saved.values)  # before the next layer copies
        self.span = span  # last: an interruption leaves the old one whole

    def _save(self, mark: int, new_start: int) -> None:
        """Copy the keys and values that a rollback to `mark` needs, if they are about to go."""
        if self.span is None or self.window is None:
            return
        needed = max(0, self.first_visible(mark) - MARGIN)
        if needed < new_start and self.span.start <= needed:
            kept = self.span.cut(needed, mark)
            self.saved = Span(needed, mx.contiguous(kept.keys), mx.contiguous(kept.values))

    def reachable(self, position: int) -> int:
        """The last position <= `position` to which this layer can go back."""
        for span in (self.span, self.saved):
            if span is not None:
                target = min(position, span.end)
                if span.start <= self.first_visible(target):
                    return target
        return 0

    def roll_back(self, position: int) -> None:
        """Forget the positions from `position` on; `reachable` said that it can."""
        span = self.span
        if span is not None and span.start > self.first_visible(position):
            self.span = None if self.saved is None else self.saved.cut(self.saved.start, position)
        if self.saved is not None and self.saved.end > position:  # other tokens may come there
            start = self.saved.start
            self.saved = self.saved.cut(start, position) if start < position else None
        if position == 0:
            self.span = self.saved = None


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
