"""Patterns as a nondeterministic automaton over UTF-8 bytes, and marks behind the 256 of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .compiling import check_cancelled
from .patterns import Chars, Fields, Mark, OneOf, Pattern, Seq, Span, Text, Times

BYTES = 256  # symbols from here on are marks
MAX_NFA_STATES = 100_000
SURROGATES = (0xD800, 0xDFFF)
LENGTHS = (0x7F, 0x7FF, SURROGATES[0] - 1, SURROGATES[1], 0xFFFF)  # the last codes of their kind


class TooLargeError(Exception):
    """A pattern that needs more than an automaton may have; `needs` says more of what.

    Only form.py sees it: there it becomes a ConstraintError that says what to shorten.
    """

    def __init__(self, needs: str) -> None:
        super().__init__(f"the form needs {needs}.")
        self.needs = needs


def utf8_spans(first: int, last: int) -> Iterator[tuple[Span, ...]]:
    """Code points from first to last as sequences of byte spans; surrogates are left out."""
    if first > last:
        return
    for limit in LENGTHS:
        if first <= limit < last:
            yield from utf8_spans(first, limit)
            yield from utf8_spans(limit + 1, last)
            return
    if SURROGATES[0] <= first <= SURROGATES[1]:
        return
    for shift in (6, 12, 18):
        block = (1 << shift) - 1
        if last > LENGTHS[0] and first >> shift != last >> shift:
            if first & block:
                yield from utf8_spans(first, first | block)
                yield from utf8_spans((first | block) + 1, last)
                return
            if last & block != block:
                yield from utf8_spans(first, (last & ~block) - 1)
                yield from utf8_spans(last & ~block, last)
                return
    yield tuple(zip(chr(first).encode(), chr(last).encode(), strict=True))


@dataclass
class Nfa:
    """States with edges (first symbol, last symbol, target) and empty edges.

    marks: the names of the symbols 256, 257, ...
    """

    limit: int = MAX_NFA_STATES
    edges: list[list[tuple[int, int, int]]] = field(default_factory=list)
    empty: list[list[int]] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    def state(self) -> int:
        """A new state; TooLargeError beyond the limit."""
        check_cancelled()
        if len(self.edges) >= self.limit:
            raise TooLargeError(f"more than {self.limit:,} states before they are merged")
        self.edges.append([])
        self.empty.append([])
        return len(self.edges) - 1

    def add(self, pattern: Pattern, start: int) -> int:
        """Compile a pattern behind a state; the state in which it ends has no edges of its own."""
        match pattern:
            case Text(text):
                return self._text(text, start)
            case Mark(name):
                return self._step(start, (symbol := self._symbol(name)), symbol, self.state())
            case Chars(spans):
                return self._chars(spans, start)
            case Seq(parts):
                for part in parts:
                    start = self.add(part, start)
                return start if parts else self._joined([start])
            case OneOf(parts):
                return self._joined([self.add(part, self._joined([start])) for part in parts])
            case Times(part, least, most):
                return self._times(part, least, most, start)
            case Fields():
                return self._fields(pattern, start)

    def _symbol(self, mark: str) -> int:
        if mark not in self.marks:
            self.marks.append(mark)
        return BYTES + self.marks.index(mark)

    def _text(self, text: str, start: int) -> int:
        for byte in text.encode():
            start = self._step(start, byte, byte, self.state())
        return self._joined([start])

    def _chars(self, spans: Sequence[Span], start: int) -> int:
        end = self.state()
        for first, last in spans:
            for sequence in utf8_spans(first, last):
                at = start
                for low, high in sequence[:-1]:
                    at = self._step(at, low, high, self.state())
                self._step(at, *sequence[-1], end)
        return end

    def _times(self, part: Pattern, least: int, most: int | None, start: int) -> int:
        for _ in range(least):
            start = self.add(part, start)
        if most is None:
            loop = self._joined([start])
            self.empty[self.add(part, loop)].append(loop)
            return self._joined([loop])
        ends = [start]
        for _ in range(most - least):
            ends.append(self.add(part, self._joined([ends[-1]])))
        return self._joined(ends)

    def _fields(self, fields: Fields, start: int) -> int:
        """first: the state with no part before it; later: that behind a part. None: no such."""
        first: int | None = start
        later: int | None = None
        for part, needed in fields.parts:
            begin = self._joined([first] if first is not None else [])
            if later is not None:
                self.empty[self.add(fields.separator, later)].append(begin)
            end = self.add(part, begin)
            if needed:
                first, later = None, end
            else:
                later = self._joined([end] if later is None else [end, later])
        return self._joined([state for state in (first, later) if state is not None])

    def _step(self, start: int, low: int, high: int, end: int) -> int:
        self.edges[start].append((low, high, end))
        return end

    def _joined(self, ends: Sequence[int]) -> int:
        end = self.state()
        for state in ends:
            self.empty[state].append(end)
        return end
