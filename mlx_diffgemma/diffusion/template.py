"""A template as token ids, and its state while its holes are filled from left to right.

A canvas begins at the first hole that is not settled, or earlier where the rest would leave it
partly empty. It settles what has half a canvas, or all that is left of the template, in view to
its right; a hole longer than that is settled a part at a time. C canvas positions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .pinned import OPEN, TEXT, PinnedPositions


@dataclass(frozen=True)
class TokenTemplate:
    """A template as token ids: texts[0], a hole, texts[1], ..., a hole, texts[-1].

    lengths: positions of each hole. closing: ids right behind the template; padding: the id after
    that, to the canvas's end; fillers: ids that end a hole, and leave it with all behind them.
    """

    texts: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]
    closing: tuple[int, ...]
    padding: int
    fillers: frozenset[int]

    @property
    def num_positions(self) -> int:
        """Positions of the template with its holes at full length, and what closes it."""
        return sum(map(len, self.texts)) + sum(self.lengths) + len(self.closing)


@dataclass
class TemplateState:
    """A token a position, OPEN where none is settled, and the hole each position belongs to."""

    template: TokenTemplate
    tokens: list[int] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, text in enumerate(self.template.texts):
            self._append(text, TEXT)
            if number < len(self.template.lengths):
                self._append([OPEN] * self.template.lengths[number], number)

    @property
    def complete(self) -> bool:
        """True where every hole is settled."""
        return OPEN not in self.tokens

    def begin(self, earliest: int, canvas_length: int) -> int:
        """The beginning of the next canvas; everything before it is settled.

        earliest: the end of what has been encoded.
        """
        full = len(self.tokens) + len(self.template.closing) - canvas_length
        return max(earliest, min(self.tokens.index(OPEN), full))

    def positions(self, start: int, canvas_length: int) -> PinnedPositions:
        """Pinned and open positions of the canvas at `start`."""
        closing = self.template.closing
        tokens = [*self.tokens[start:], *closing][:canvas_length]
        tokens += [self.template.padding] * (canvas_length - len(tokens))
        holes = self.holes[start : start + canvas_length]
        return PinnedPositions(tokens, holes + [TEXT] * (canvas_length - len(holes)))

    def settle(self, start: int, canvas: Sequence[int]) -> None:
        """Take over the tokens of the canvas at `start`, as far as enough of it is in view."""
        for position in range(start, self._border(start, len(canvas))):
            if self.tokens[position] == OPEN:
                self.tokens[position] = canvas[position - start]
        self._drop_fillers(start)

    def _border(self, start: int, canvas_length: int) -> int:
        """The end of what a canvas at `start` settles: that of the template where it is in view."""
        length = len(self.tokens)
        if start + canvas_length >= length + len(self.template.closing):
            return length
        border = start + canvas_length - canvas_length // 2
        cut = border < length and self.holes[border - 1] == self.holes[border]
        if cut and self.tokens[border - 1] == OPEN:
            first = self.holes.index(self.holes[border])
            if first > start:  # the next canvas holds the whole hole
                return first
        return border

    def _drop_fillers(self, start: int) -> None:
        """End each hole at its first filler, and take the positions behind it out of the hole."""
        ended: set[int] = set()
        kept: list[int] = []
        for position in range(start, len(self.tokens)):
            hole = self.holes[position]
            if hole != TEXT and self.tokens[position] in self.template.fillers:
                ended.add(hole)
            if hole not in ended:
                kept.append(position)
        self.tokens[start:] = [self.tokens[position] for position in kept]
        self.holes[start:] = [self.holes[position] for position in kept]

    def _append(self, tokens: Iterable[int], hole: int) -> None:
        before = len(self.tokens)
        self.tokens += tokens
        self.holes += [hole] * (len(self.tokens) - before)
