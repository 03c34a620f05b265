"""The prefixes of the last prompts, so that what stands in front of many questions is encoded once.

On a GPU the low bits of keys and values hang on the number of rows in a product, and so on the
pieces in which a prompt was encoded. So the ends of its pieces follow from the prompt alone, and a
kept prefix is gone on from at such an end only: the same prompt gives the same bits, whatever was
asked before.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from threading import RLock

import mlx.core as mx

from ..errors import FitError
from ..generation.prompt import Prompt
from ..model.cache import MARGIN, LayerCache, Span
from ..model.images import pieces
from ..model.memory import RoomCheck
from ..model.prefix import Prefix
from ..model.text import PREFILL_CHUNK, Model
from ..share.guard import is_lost, lost_macs

MOST_BYTES = 2**29  # of the prefixes that are kept beside the last one

Look = Callable[[], None]
"""A look between two pieces of work; an error that it raises ends the work there."""


def go_on() -> None:
    """The look that finds nothing in the way."""


def piece_ends(prompt: Prompt, shared: Sequence[int], chunk: int) -> list[int]:
    """The ends of the pieces in which a prompt is encoded: all of `shared`, and its own.

    An image is never cut: one that reaches over a shared end belongs to what stands behind it.
    """
    spans = [image.span for image in prompt.images]
    outside = [next((s.start for s in spans if s.start < at < s.stop), at) for at in shared]
    ends: list[int] = []
    for first, last in pairwise(sorted({0, *outside, len(prompt.tokens)})):
        inside = [range(s.start - first, s.stop - first) for s in spans if first <= s.start < last]
        ends += [first + piece.stop for piece in pieces(last - first, chunk, inside)]
    return ends


@dataclass
class Kept:
    """A prefix, the ends of the pieces it was encoded in, and how many positions others share."""

    prefix: Prefix
    shared: int
    ends: list[int] = field(default_factory=list)

    @property
    def of_others(self) -> int:
        """The positions that it holds and others share."""
        return min(self.shared, self.end(len(self.ends)))

    def end(self, count: int) -> int:
        """The end of its first `count` pieces."""
        return self.ends[count - 1] if count else 0

    def common(self, prompt: Prompt, ends: Sequence[int]) -> int:
        """The number of first pieces that it has in common with a prompt of these ends."""
        alike = self.prefix.shared(prompt.tokens, [image.run(0) for image in prompt.images])
        pairs = list(zip(self.ends, ends, strict=False))
        other = (at for at, (own, end) in enumerate(pairs) if own != end or end > alike)
        return next(other, len(pairs))

    def go_back(self, count: int) -> None:
        """Go back to the end of the first `count` pieces, or of as many as are still stored."""
        while self.prefix.length > self.end(count):
            count = bisect_right(self.ends, self.prefix.roll_back(self.end(count)), hi=count)
        del self.ends[count:]

    def beginning(self, count: int) -> "Kept | None":
        """Its first `count` pieces as a prefix of its own; None where they are not stored."""
        prefix = copied(self.prefix, self.end(count)) if count else None
        return None if prefix is None else Kept(prefix, self.shared, self.ends[:count])

    def sharing(self) -> "Kept | None":
        """All that others share of it as a prefix of its own; None where nothing is stored."""
        return self.beginning(bisect_right(self.ends, self.shared))


def copied(prefix: Prefix, position: int) -> Prefix | None:
    """The positions below `position` as a prefix of its own; None where they are not stored.

    It holds no more than what stands behind it can see.
    """
    layers = [own for layer in prefix.layers if (own := _copied(layer, position))]
    stored = len(layers) == len(prefix.layers)
    if not prefix.least(int(stored)):
        return None
    images = [run for run in prefix.images if run.stop <= position]
    tokens, model, least = prefix.tokens[:position], prefix.model, prefix.least
    made = Prefix(layers, tokens, images, model=model, least=least)
    made.mark()
    mx.eval(made.arrays())
    return made


def _copied(layer: LayerCache, position: int) -> LayerCache | None:
    needed, made = layer.first_visible(position), LayerCache(layer.window)
    for span in (layer.span, layer.saved):
        if span is not None and span.start <= needed and position <= span.end:
            first = max(span.start, needed - MARGIN) if layer.window else needed
            part = span.cut(first, position)
            made.span = Span(first, mx.contiguous(part.keys), mx.contiguous(part.values))
            return made
    return None


@dataclass
class KeptPrefixes:
    """The prefixes of the last prompts of one model, the last one whole.

    Of others is kept what their prompts said they share, `most_bytes` in all, and no more than fits
    into memory beside the last one: the oldest go first. require_room: FitError for positions that
    do not fit; encoded: positions encoded so far.
    """

    model: Model
    require_room: RoomCheck = lambda context, beside=0: None
    most_bytes: int = MOST_BYTES
    encoded: int = 0
    _kept: list[Kept] = field(default_factory=list, init=False)  # the last one is the newest
    _lock: RLock = field(default_factory=RLock, init=False, repr=False, compare=False)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """For the thread that encodes and reads a prefix, until it has evaluated what it made.

        After an error or an interruption the last prefix holds the pieces that were done. Where
        another Mac is lost it is given up: what is pending may wait for it for ever.
        """
        with self._lock:
            try:
                with lost_macs(self.model.part.share):
                    yield
            except BaseException as error:
                last = self._kept.pop() if self._kept else None
                with suppress(Exception):
                    if last is not None and not is_lost(error):
                        mx.eval(last.prefix.arrays())
                        self._kept.append(last)
                raise

    def encode(
        self, prompt: Prompt, shared: Sequence[int], room: int, look: Look = go_on
    ) -> Prefix:
        """The prefix of a prompt; only those of its pieces are encoded that no kept one has.

        shared: as a prompt of decisions has it; none: all of the prompt is kept. room: positions
        that are to come behind it; look: called in front of each piece. To be called in use.
        """
        chunk = self.model.choices.prefill_chunk or PREFILL_CHUNK
        ends = piece_ends(prompt, shared, chunk)
        kept = self._begun(prompt, ends)
        self.make_room(len(prompt.tokens) + room, own=1)
        kept.shared = shared[0] if shared else len(prompt.tokens)
        kept.prefix.reserve(len(prompt.tokens) + room)
        for last in ends[len(kept.ends) :]:
            look()
            self._encode_piece(prompt, range(kept.prefix.length, last), kept)
        return kept.prefix

    def make_room(self, positions: int, *, own: int = 0) -> None:
        """Let go of the oldest prefixes until so many positions fit beside the others.

        own: 1 where they are those of the last prefix, 0 where it stays beside them. FitError where
        they do not fit.
        """
        while True:
            try:
                return self.require_room(positions, self.num_bytes(own))
            except FitError:
                if len(self._kept) < 2:
                    raise
                del self._kept[0]

    def clear(self) -> bool:
        """Let go of all prefixes; False where there is none."""
        with self._lock:
            held = bool(self._kept)
            self._kept.clear()
            return held

    def num_bytes(self, without: int = 0) -> int:
        """Bytes of what is kept, `without` so many of the last prefixes."""
        return sum(kept.prefix.num_bytes for kept in self._kept[: len(self._kept) - without])

    def _encode_piece(self, prompt: Prompt, piece: range, kept: Kept) -> None:
        images = [image.pixels for image in prompt.images if image.span.start in piece]
        tokens = prompt.tokens[piece.start : piece.stop]
        self.model.encode(tokens, kept.prefix, images=images, chunk=len(piece))
        kept.ends.append(piece.stop)
        self.encoded += len(piece)
        if piece.stop == kept.shared:
            kept.prefix.mark()

    def _begun(self, prompt: Prompt, ends: Sequence[int]) -> Kept:
        """The prefix to go on from, the last one from here on: of those kept, what fits best.

        One whose prompt shares more than this prompt has stays, and its beginning is copied.
        """
        counts = [kept.common(prompt, ends) for kept in self._kept]
        at = max(range(len(counts)), key=lambda n: (counts[n], n), default=0)
        if any(counts) and self._kept[at].of_others <= self._kept[at].end(counts[at]):
            begun = self._kept.pop(at)
            begun.go_back(counts[at])
            is_last = at == len(self._kept)
        else:
            begun = (any(counts) and self._kept[at].beginning(counts[at])) or self._empty()
            is_last = False
        if self._kept and not is_last:
            self._put_away()
        self._kept.append(begun)
        return begun

    def _empty(self) -> Kept:
        return Kept(self.model.new_prefix(), 0)

    def _put_away(self) -> None:
        """Reduce the last prefix to what others share of it, and let go of the oldest."""
        if (shared := self._kept.pop().sharing()) is not None:
            self._kept.append(shared)
        while self.model.part.most(self.num_bytes()) > self.most_bytes:
            del self._kept[0]
