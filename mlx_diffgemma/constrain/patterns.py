"""Patterns of text: characters, texts, sequences, choices, repetitions, optional fields, marks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Span = tuple[int, int]
"""Code points from the first to the last, both among them."""

MAX_CODE = 0x10FFFF
MAX_DEPTH = 64  # of schemas, values and groups inside one another: whoever recurses over them may


@dataclass(frozen=True)
class Chars:
    """One character out of spans of code points."""

    spans: tuple[Span, ...]

    @staticmethod
    def of(text: str) -> Chars:
        """One of the characters of a text."""
        return Chars(tuple((ord(c), ord(c)) for c in text))

    def inverted(self) -> Chars:
        """Any other character."""
        spans: list[Span] = []
        low = 0
        for first, last in sorted(self.spans):
            if low < first:
                spans.append((low, first - 1))
            low = max(low, last + 1)
        return Chars(tuple([*spans, (low, MAX_CODE)] if low <= MAX_CODE else spans))

    def within(self, other: Chars) -> Chars:
        """The characters that both have."""
        pairs = ((max(a, c), min(b, d)) for a, b in self.spans for c, d in other.spans)
        return Chars(tuple((low, high) for low, high in pairs if low <= high))

    def holds(self, code: int) -> bool:
        """True where a code point is among them."""
        return any(first <= code <= last for first, last in self.spans)


@dataclass(frozen=True)
class Text:
    """Exactly this text."""

    text: str


@dataclass(frozen=True)
class Mark:
    """A control token by its name: no bytes, and nothing that a text could hold."""

    name: str


@dataclass(frozen=True)
class Seq:
    """All of these, one behind the other."""

    parts: tuple[Pattern, ...]


@dataclass(frozen=True)
class OneOf:
    """One of these."""

    parts: tuple[Pattern, ...]


@dataclass(frozen=True)
class Times:
    """A part, `least` to `most` times; any number of times where most is None."""

    part: Pattern
    least: int = 0
    most: int | None = None


@dataclass(frozen=True)
class Fields:
    """Parts in this order with a separator between two; those that are not needed may be absent.

    A part is a pattern, and True where it is needed. Each is compiled once, where an alternation
    would hold every optional part twice.
    """

    parts: tuple[tuple[Pattern, bool], ...]
    separator: Pattern


Pattern = Chars | Text | Mark | Seq | OneOf | Times | Fields

ANY = Chars(((0, MAX_CODE),))


def seq(*parts: Pattern | str) -> Pattern:
    """Patterns, and texts as they are, one behind the other."""
    return Seq(_patterns(parts))


def either(*parts: Pattern | str) -> Pattern:
    """One of some patterns, and of texts as they are."""
    return OneOf(_patterns(parts))


def _patterns(parts: Iterable[Pattern | str]) -> tuple[Pattern, ...]:
    return tuple(Text(part) if isinstance(part, str) else part for part in parts)
