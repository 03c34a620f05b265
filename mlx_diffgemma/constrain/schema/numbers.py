"""Numbers as JSON writes them, between bounds that are whole.

Digits and exponents are bounded, so that a number ends and no reader makes it infinite.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ..patterns import Chars, OneOf, Pattern, Text, Times, seq

MAX_DIGITS, MAX_EXPONENT_DIGITS = 18, 2
EXACT_DIGITS = 15  # decimals of no more digits than these stay apart as doubles

DIGIT = Chars(((0x30, 0x39),))
NOT_ZERO = Chars(((0x31, 0x39),))


@dataclass(frozen=True)
class Bounds:
    """The least and the largest value, None for no bound; open: the bound itself is not allowed."""

    low: int | None = None
    high: int | None = None
    low_open: bool = False
    high_open: bool = False


def number(bounds: Bounds) -> Pattern:
    """Numbers between bounds; without any, those with an exponent too."""
    if bounds != Bounds():
        return _decimal(bounds)
    exponent = seq(
        Chars.of("eE"), Times(Chars.of("+-"), 0, 1), Times(DIGIT, 1, MAX_EXPONENT_DIGITS)
    )
    sign, whole = Times(Text("-"), 0, 1), _naturals(0, 10**MAX_DIGITS - 1)
    return seq(sign, whole, _fraction(DIGIT, MAX_DIGITS), Times(exponent, 0, 1))


def integer(bounds: Bounds) -> Pattern:
    """Whole numbers between bounds, without leading zeros."""
    top = 10**MAX_DIGITS - 1
    low = -top if bounds.low is None else max(bounds.low + bounds.low_open, -top)
    high = top if bounds.high is None else min(bounds.high - bounds.high_open, top)
    parts: list[Pattern] = []
    if low < 0:
        parts.append(seq("-", _naturals(max(1, -high), -low)))
    if high >= 0:
        parts.append(_naturals(max(0, low), high))
    return OneOf(tuple(parts))


def _decimal(bounds: Bounds) -> Pattern:
    """Decimals without an exponent: those above zero, and those below it with their sign."""
    low, high = bounds.low, bounds.high
    mirrored = Bounds(
        None if high is None else -high,
        None if low is None else -low,
        bounds.high_open,
        bounds.low_open,
    )
    return OneOf((*_magnitudes(bounds, ""), *_magnitudes(mirrored, "-")))


def _magnitudes(bounds: Bounds, sign: str) -> Iterator[Pattern]:
    """Decimals from zero on, behind a sign; -0 is left out."""
    last, last_open = bounds.high, bounds.high_open
    if last is not None and (last < 0 or (last == 0 and (last_open or sign))):
        return
    first = max(bounds.low or 0, 0)
    first_open = bounds.low_open and bounds.low is not None and bounds.low >= 0
    first_open = first_open or bool(sign and first == 0)
    end = 10**MAX_DIGITS - 1 if last is None else last
    decimals = _decimals(bounds)
    fraction = _fraction(DIGIT, decimals)
    if first < end:
        start = first
        if first_open:  # the bound itself is out, what lies behind it is in
            zeros = Times(Text("0"), 0, decimals - 1)
            above = seq(".", zeros, NOT_ZERO, Times(DIGIT, 0, decimals - 1))
            yield seq(sign, _naturals(first, first), above)
            start += 1
        if start <= end - 1:
            yield seq(sign, _naturals(start, end - 1), fraction)
    if not last_open and end >= first and not (end == first and first_open):
        yield seq(sign, _naturals(end, end), _fraction(Text("0"), decimals))


def _decimals(bounds: Bounds) -> int:
    """Digits behind the point: with an open bound few enough that none is rounded to the bound."""
    open_ends = [
        abs(end)
        for end, is_open in ((bounds.low, bounds.low_open), (bounds.high, bounds.high_open))
        if is_open and end is not None
    ]
    if not open_ends:
        return MAX_DIGITS
    return max(1, EXACT_DIGITS - len(str(max(open_ends))))


def _fraction(digit: Pattern, most: int) -> Pattern:
    return Times(seq(".", Times(digit, 1, most)), 0, 1)


def _naturals(low: int, high: int) -> Pattern:
    """Whole numbers from low to high, both at least 0."""
    parts: list[Pattern] = []
    while low <= high:
        size = len(str(low))
        parts.append(_same_length(str(low), str(min(high, 10**size - 1))))
        low = 10**size
    return OneOf(tuple(parts))


def _same_length(low: str, high: str) -> Pattern:
    """Digits between two numerals of the same length."""
    if not low.strip("0") and not high.strip("9"):
        return Times(DIGIT, len(low), len(low))
    if low[0] == high[0]:
        return seq(low[0], _same_length(low[1:], high[1:]))
    rest = len(low) - 1
    parts = [
        seq(low[0], _same_length(low[1:], "9" * rest)),
        seq(high[0], _same_length("0" * rest, high[1:])),
    ]
    between = (ord(low[0]) + 1, ord(high[0]) - 1)
    if between[0] <= between[1]:
        parts.append(seq(Chars((between,)), Times(DIGIT, rest, rest)))
    return OneOf(tuple(parts))
