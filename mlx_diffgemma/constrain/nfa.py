"""Patterns as a nondeterministic automaton over UTF-8 bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ConstraintError
from .patterns import Chars, Fields, OneOf, Pattern, Seq, Span, Text, Times

SURROGATES = (0xD800, 0xDFFF)


def utf8_spans(first: int, last: int) -> Iterable[tuple[Span, ...]]:
    """Spans of code points as sequences of byte spans, none of them a surrogate."""
    if first > last:
        return
    for limit in (0x7F, 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF):
        if first <= limit < last:
            yield from utf8_spans(first, limit)
            yield from utf8_spans(limit + 1, last)
            return
    if SURROGATES[0] <= first <= SURROGATES[1]:
        return
    for shift in (6, 12, 18):
        block = (1 << shift) - 1
        if last > 0x7F and first >> shift != last >> shift:
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
    """States with byte edges and empty edges; `limit` of them at most."""

    limit: int
    edges: list[list[tuple[int, int, int]]]
    empty: list[list[int]]

    def state(self) -> int:
        if len(self.edges) >= self.limit:
            raise ConstraintError(
                f"the pattern needs more than {self.limit} NFA states; shorten its repetitions "
                "(maxLength, minItems, maxItems) or its enums."
            )
        self.edges.append([])
        self.empty.append([])
        return len(self.edges) - 1

    def add(self, pattern: Pattern, start: int) -> int:
        """Compiles `pattern` behind `start`; the state it ends in has no edges of its own yet."""
        match pattern:
            case Text(text):
                for byte in text.encode():
                    start = self._step(start, byte, byte, self.state())
                end = self.state()
                self.empty[start].append(end)
                return end
            case Chars(spans):
                end = self.state()
                for first, last in spans:
                    for sequence in utf8_spans(first, last):
                        at = start
                        for low, high in sequence[:-1]:
                            at = self._step(at, low, high, self.state())
                        self._step(at, *sequence[-1], end)
                return end
            case Seq(parts):
                for part in parts:
                    start = self.add(part, start)
                return start if parts else self._joined([start])
            case OneOf(parts):
                return self._joined([self.add(part, self._joined([start])) for part in parts])
            case Times(part, least, most):
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
            case Fields(parts, separator):
                first, later = start, None  # nothing before it; something before it
                for part, needed in parts:
                    begin = self._joined([first] if first is not None else [])
                    if later is not None:
                        self.empty[self.add(separator, later)].append(begin)
                    end = self.add(part, begin)
                    if needed:
                        first, later = None, end
                    else:
                        later = self._joined([end] if later is None else [end, later])
                return self._joined([s for s in (first, later) if s is not None])

    def _step(self, start: int, low: int, high: int, end: int) -> int:
        self.edges[start].append((low, high, end))
        return end

    def _joined(self, ends: Sequence[int]) -> int:
        end = self.state()
        for state in ends:
            self.empty[state].append(end)
        return end
