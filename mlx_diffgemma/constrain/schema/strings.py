"""Strings as JSON writes them, and the formats that are known by name."""

import json

from ..patterns import Chars, OneOf, Pattern, Seq, Text, Times, either, seq

PLAIN = Chars(((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x10FFFF)))
HEX = Chars(((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)))
NOT_D = Chars(((0x30, 0x39), (0x41, 0x43), (0x45, 0x46), (0x61, 0x63), (0x65, 0x66)))
BELOW_8, FROM_8_TO_B, FROM_C = Chars.of("01234567"), Chars.of("89abAB"), Chars.of("cdefCDEF")

UNIT = either(
    seq(NOT_D, HEX, HEX, HEX),
    seq(Chars.of("dD"), BELOW_8, HEX, HEX),
    seq(Chars.of("dD"), FROM_8_TO_B, HEX, HEX, "\\u", Chars.of("dD"), FROM_C, HEX, HEX),
)  # half a surrogate pair is no character
LETTERS = Chars.of('"\\/bfnrt')
CHARACTER = either(PLAIN, seq("\\", either(LETTERS, seq("u", UNIT))))
COUNTED = either(PLAIN, seq("\\", LETTERS))  # \u is left out where each character costs its states

SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
ESCAPED = (*range(0x20), 0x22, 0x5C)  # code points that a string never holds as they are

CLOCK = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
DAY = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
WORD = r"[A-Za-z0-9_+-]+"
PATH = r"([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"  # a character of a URI's path, RFC 3986
HOST = r"([A-Za-z0-9._~-]+(:\d{1,5})?)"  # and port; no user, and no address in brackets
FORMATS = {
    "date": DAY,
    "time": CLOCK,
    "date-time": f"{DAY}T{CLOCK}",
    "uuid": r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "email": rf"{WORD}(\.{WORD})*@({LABEL}\.)+[A-Za-z]{{2,}}",
    "ipv4": rf"({BYTE}\.){{3}}{BYTE}",
    "uri": rf"[A-Za-z][A-Za-z0-9+.-]*:(//{HOST}?(/{PATH}*)*|{PATH}+(/{PATH}*)*)"
    rf"(\?({PATH}|[/?])*)?(#({PATH}|[/?])*)?",
}
"""Regular expressions of a whole string."""


def quoted(content: Pattern) -> Pattern:
    """A JSON string whose characters follow a pattern."""
    return seq('"', escaped(content), '"')


def free_string(least: int, most: int | None) -> Pattern:
    """Any JSON string of so many characters."""
    counted = least > 0 or most is not None
    return seq('"', Times(COUNTED if counted else CHARACTER, least, most), '"')


def escaped(pattern: Pattern) -> Pattern:
    """A pattern of a string's characters as one of what JSON writes for them."""
    match pattern:
        case Text(text):
            return Text(json.dumps(text, ensure_ascii=False)[1:-1])
        case Chars():
            return _escaped_character(pattern)
        case Seq(parts):
            return Seq(tuple(map(escaped, parts)))
        case OneOf(parts):
            return OneOf(tuple(map(escaped, parts)))
        case Times(part, least, most):
            return Times(escaped(part), least, most)
    raise TypeError(pattern)


def _escaped_character(chars: Chars) -> Pattern:
    parts: list[Pattern] = [
        Text(SHORT.get(chr(code), f"\\u{code:04x}")) for code in ESCAPED if chars.holds(code)
    ]
    plain = chars.within(PLAIN)
    return OneOf((*parts, plain) if plain.spans else tuple(parts))
