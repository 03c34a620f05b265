"""Patterns of text: characters, texts, sequences, choices, repetitions and optional fields."""

from dataclasses import dataclass

MAX_CODE = 0x10FFFF


Span = tuple[int, int]


@dataclass(frozen=True)
class Chars:
    """One character out of spans of code points."""

    spans: tuple[Span, ...]

    @staticmethod
    def of(text: str) -> "Chars":
        return Chars(tuple((ord(c), ord(c)) for c in text))

    def inverted(self) -> "Chars":
        spans, low = [], 0
        for first, last in sorted(self.spans):
            if low < first:
                spans.append((low, first - 1))
            low = max(low, last + 1)
        return Chars(tuple(spans + ([(low, MAX_CODE)] if low <= MAX_CODE else [])))


@dataclass(frozen=True)
class Text:
    """Exactly this."""

    text: str


@dataclass(frozen=True)
class Seq:
    parts: tuple["Pattern", ...]


@dataclass(frozen=True)
class OneOf:
    """One of these."""

    parts: tuple["Pattern", ...]


@dataclass(frozen=True)
class Times:
    """`part`, least to most times; most None: any number."""

    part: "Pattern"
    least: int = 0
    most: int | None = None


@dataclass(frozen=True)
class Fields:
    """Parts in this order, those that are not needed may be left out, a separator between two.

    An alternation would hold every optional part twice; here each is compiled once.
    """

    parts: tuple[tuple["Pattern", bool], ...]  # pattern, needed
    separator: "Pattern"


Pattern = Chars | Text | Seq | OneOf | Times | Fields


def seq(*parts: Pattern | str) -> Pattern:
    return Seq(tuple(Text(p) if isinstance(p, str) else p for p in parts))


def either(*parts: Pattern | str) -> Pattern:
    return OneOf(tuple(Text(p) if isinstance(p, str) else p for p in parts))
