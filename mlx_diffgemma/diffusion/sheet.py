"""A template as token ids, and the sheet on which its holes are filled from left to right.

A canvas begins at the first hole that is not settled, or earlier where the rest would leave it
partly empty. It settles what has half a canvas, or all that is left of the template, in view to
its right; a hole longer than that is settled a part at a time. C canvas positions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .pins import OPEN, TEXT, Pins


@dataclass(frozen=True)
class Form:
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
class Sheet:
    """The state of a form: a token a position, OPEN where none is settled, and whose it is."""

    form: Form
    tokens: list[int] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, text in enumerate(self.form.texts):
            self._append(text, TEXT)
            if number < len(self.form.lengths):
                self._append([OPEN] * self.form.lengths[number], number)

    @property
    def complete(self) -> bool:
        """Whether every hole is settled."""
        return OPEN not in self.tokens

    def begin(self, earliest: int, canvas_length: int) -> int:
        """Where the next canvas begins; everything before it is settled.

        earliest: what lies before it has been encoded.
        """
        full = len(self.tokens) + len(self.form.closing) - canvas_length
        return max(earliest, min(self.tokens.index(OPEN), full))

    def pins(self, start: int, canvas_length: int) -> Pins:
        """The canvas at `start`."""
        closing = self.form.closing
        tokens = [*self.tokens[start:], *closing][:canvas_length]
        tokens += [self.form.padding] * (canvas_length - len(tokens))
        holes = self.holes[start : start + canvas_length]
        return Pins(tokens, holes + [TEXT] * (canvas_length - len(holes)))

    def settle(self, start: int, canvas: Sequence[int]) -> None:
        """Takes over what the canvas at `start` has come to, as far as enough of it is in view."""
        for place in range(start, self._border(start, len(canvas))):
            if self.tokens[place] == OPEN:
                self.tokens[place] = canvas[place - start]
        self._drop_fillers(start)

    def _border(self, start: int, canvas_length: int) -> int:
        """What lies before it is settled by a canvas at `start`; all, where the end is in view."""
        length = len(self.tokens)
        if start + canvas_length >= length + len(self.form.closing):
            return length
        border = start + canvas_length - canvas_length // 2
        cut = border < length and self.holes[border - 1] == self.holes[border]
        if cut and self.tokens[border - 1] == OPEN:
            first = self.holes.index(self.holes[border])
            if first > start:  # the next canvas holds the whole hole
                return first
        return border

    def _drop_fillers(self, start: int) -> None:
        """Ends each hole at its first filler; what was given to it and is not needed goes."""
        ended: set[int] = set()
        kept: list[int] = []
        for place in range(start, len(self.tokens)):
            hole = self.holes[place]
            if hole != TEXT and self.tokens[place] in self.form.fillers:
                ended.add(hole)
            if hole not in ended:
                kept.append(place)
        self.tokens[start:] = [self.tokens[place] for place in kept]
        self.holes[start:] = [self.holes[place] for place in kept]

    def _append(self, tokens: Iterable[int], hole: int) -> None:
        before = len(self.tokens)
        self.tokens += tokens
        self.holes += [hole] * (len(self.tokens) - before)
