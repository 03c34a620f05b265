"""Keys and values of a layer, with room behind them for the canvas being denoised.

Each layer has one buffer [1, heads, slots, D] for keys and one for values: the prefix, then the
canvas, so that a denoising step writes the canvas in place and concatenates nothing. Full layers
keep the whole prefix; sliding layers the last window - 1 positions and ROLLBACK more, so that a
conversation can go back a little without encoding again. All that decides how many slots there are
stands in `first_kept`, `num_slots` and `most_room`: buffers and the memory plan ask the same.
"""

from dataclasses import dataclass

import mlx.core as mx

ROLLBACK = 1024  # positions behind the window that a sliding layer keeps
MARGIN = (
    64  # positions before a mark that stay reachable: the end of a generation prompt may differ
)
STEP = 256  # buffers grow by multiples of this


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
