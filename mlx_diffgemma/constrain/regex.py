r"""Regular expressions as patterns: the part of ECMA 262 that is regular, \d and \w in ASCII.

What an automaton cannot follow (look-around, back-references, word boundaries) is refused, with the
character at which it stands.
"""

import re
from dataclasses import dataclass
from typing import NoReturn

from ..errors import ConstraintError, brief
from .patterns import ANY, MAX_DEPTH, Chars, OneOf, Pattern, Seq, Text, Times

DIGITS = Chars(((0x30, 0x39),))
WORD = Chars(((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)))
BLANK = Chars(  # white space of ECMA 262: Unicode's category Zs, ends of lines, U+FEFF
    (
        *((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
        *((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
    )
)
NAMED = {"d": DIGITS, "w": WORD, "s": BLANK}
CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
HEX_DIGITS = {"x": 2, "u": 4}
DOT = Chars.of("\n\r\u2028\u2029").inverted()
COUNT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
FROM_NOTHING = re.compile(r"\{,[0-9]+\}")
MOST_DIGITS = 6  # of a repetition's number: far more than any automaton has states
MOST_SOURCE = 8192  # characters of an expression; each may become states that are to be merged
LOOKS = ("?=", "?!", "?<=", "?<!")
GROUP_NAME = re.compile(r"\?P?<[^<>()=!]+>")

HIGH, LOW = (0xD800, 0xDBFF), (0xDC00, 0xDFFF)  # the halves of a surrogate pair


def parse_regex(source: object, at: str = "the regular expression") -> Pattern:
    """The texts that match as a whole; ^ at the beginning and $ at the end say nothing more.

    at: what the expression is, or where it stands, for errors.
    """
    return _Reader(_checked(source, at), at).whole(searching=False)


def parse_search(source: object, at: str) -> Pattern:
    """The texts of which some part matches, as JSON Schema reads `pattern`; ^ and $ bind it."""
    return _Reader(_checked(source, at), at).whole(searching=True)


def _checked(source: object, at: str) -> str:
    if not isinstance(source, str):
        raise ConstraintError(f"{at} is {brief(source)}, expected a regular expression.")
    if len(source) > MOST_SOURCE:
        raise ConstraintError(
            f"{at} is {brief(source)}, which has {len(source):,} characters, expected "
            f"{MOST_SOURCE:,} at most; shorten it, or list texts as an enum."
        )
    return source


@dataclass
class _Reader:
    source: str
    place: str
    at: int = 0
    depth: int = 0

    def whole(self, searching: bool) -> Pattern:
        around = [Times(ANY)] if searching else []
        parts = [
            Seq((*([] if begins else around), middle, *([] if ends else around)))
            for begins, middle, ends in self._branches(top=True)
        ]
        if self.at < len(self.source):
            self._refuse("a ) that no ( opens", r"write \) for the character", self.at)
        return parts[0] if len(parts) == 1 else OneOf(tuple(parts))

    def _branches(self, top: bool) -> list[tuple[bool, Pattern, bool]]:
        """For each alternative: bound to the beginning, its pattern, bound to the end."""
        branches = [self._branch(top)]
        while self._take("|"):
            branches.append(self._branch(top))
        return branches

    def _branch(self, top: bool) -> tuple[bool, Pattern, bool]:
        begins = top and self._take("^")
        parts: list[Pattern] = []
        while self.at < len(self.source) and self.source[self.at] not in "|)":
            if top and self._next() == "$" and self.source[self.at + 1 :][:1] in ("", "|"):
                self.at += 1
                return begins, Seq(tuple(parts)), True
            parts.append(self._repeated(self._atom()))
        return begins, Seq(tuple(parts)), False

    def _repeated(self, part: Pattern) -> Pattern:
        counts = self._counts()
        if counts is None:
            return part
        self._take("?")  # lazy or greedy: the same texts
        at = self.at
        if self._next() in ("*", "+", "?") or self._counts() is not None:
            self._refuse("two repetitions in a row", "put the first into (?:...)", at)
        return Times(part, *counts)

    def _counts(self) -> tuple[int, int | None] | None:
        """The least and the most of a repetition that stands here, or None."""
        for mark, least, most in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self._take(mark):
                return least, most
        at = self.at
        if FROM_NOTHING.match(self.source, at):
            self._refuse("a repetition without a least number", "write {0,n}", at)
        if not (found := COUNT.match(self.source, at)):
            return None
        self.at = found.end()
        if max(len(found[1]), len(found[3] or "")) > MOST_DIGITS:
            self._refuse("a repetition of too many times", "shorten it", at)
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if most is not None and most < least:
            self._refuse(f"{found[0]}, which ends before it begins", "exchange the numbers", at)
        return least, most

    def _atom(self) -> Pattern:
        at, char = self.at, self.source[self.at]
        self.at += 1
        match char:
            case "(":
                return self._group(at)
            case "[":
                return self._set(at)
            case ".":
                return DOT
            case "\\":
                return self._escape(at)
            case "^" | "$":
                self._refuse(f"{char} in the middle", rf"write \{char} for the character", at)
            case "*" | "+" | "?":
                self._refuse(f"{char} with nothing to repeat", rf"write \{char}", at)
        if 0xD800 <= ord(char) <= 0xDFFF:
            self._refuse("half a surrogate pair", "give the whole character", at)
        return Text(char)

    def _group(self, at: int) -> Pattern:
        if self.source.startswith(LOOKS, self.at):
            self._refuse("look-around", "an automaton cannot follow it, leave it out", at)
        if name := GROUP_NAME.match(self.source, self.at):
            self.at = name.end()
        elif self._next() == "?" and not self._take("?:"):
            self._refuse("a group of an unknown kind", "write (...) or (?:...)", at)
        if self.depth == MAX_DEPTH:
            self._refuse(f"more than {MAX_DEPTH} groups inside one another", "flatten it", at)
        self.depth += 1
        inner = tuple(middle for _, middle, _ in self._branches(top=False))
        self.depth -= 1
        if not self._take(")"):
            self._refuse("a ( that is not closed", r"close it, or write \(", at)
        return inner[0] if len(inner) == 1 else OneOf(inner)

    def _escape(self, at: int) -> Chars:
        """The characters of what stands behind a backslash; at: its place."""
        char = self._next()
        self.at += 1
        if not char:
            self._refuse("a backslash at its end", r"write \\ for the character", at)
        if (named := NAMED.get(char.lower())) is not None:
            return named if char.islower() else named.inverted()
        if char in HEX_DIGITS:
            return self._code(char, at)
        if char == "0" and self._next() in tuple("0123456789"):
            self._refuse("an octal number", r"write \x and two hexadecimal digits", at)
        if char in CONTROL:
            return Chars.of(CONTROL[char])
        if char.isdigit() or char == "k":
            self._refuse("a back-reference", "an automaton cannot follow it, leave it out", at)
        if char in "bB":
            self._refuse("a word boundary", "an automaton cannot follow it, leave it out", at)
        if char.isalnum():
            self._refuse(f"\\{char}, which is not known", "list the characters in [...]", at)
        return Chars.of(char)

    def _code(self, letter: str, at: int) -> Chars:
        code = self._hex(letter, at)
        if HIGH[0] <= code <= HIGH[1] and self._take("\\u"):
            low = self._hex("u", at)
            if LOW[0] <= low <= LOW[1]:
                code = 0x10000 + ((code - HIGH[0]) << 10) + low - LOW[0]
        if HIGH[0] <= code <= LOW[1]:
            self._refuse("half a surrogate pair", "give the whole character", at)
        return Chars(((code, code),))

    def _hex(self, letter: str, at: int) -> int:
        digits = HEX_DIGITS[letter]
        number = self.source[self.at : self.at + digits]
        if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", number):
            self._refuse(rf"\{letter} without {digits} hexadecimal digits", "add them", at)
        self.at += digits
        return int(number, 16)

    def _set(self, at: int) -> Chars:
        inverted = self._take("^")
        spans: list[tuple[int, int]] = []
        while not self._take("]"):
            first = self._member(at)
            if self._next() == "-" and self.source[self.at + 1 :][:1] not in ("]", ""):
                self.at += 1
                first = self._range(first, self._member(at), at)
            spans += first.spans
        chars = Chars(tuple(spans))
        return chars.inverted() if inverted else chars

    def _range(self, first: Chars, last: Chars, at: int) -> Chars:
        spans = first.spans + last.spans
        if len(spans) != 2 or any(low != high for low, high in spans) or spans[0] > spans[1]:
            self._refuse("a range without an order", r"write \- for the character", at)
        return Chars(((spans[0][0], spans[1][0]),))

    def _member(self, at: int) -> Chars:
        """One entry of a set; at: where the set begins."""
        if self.at >= len(self.source):
            self._refuse("a [ that is not closed", r"close it, or write \[", at)
        char = self._next()
        self.at += 1
        if char != "\\":
            return Chars.of(char)
        if self._take("b"):
            return Chars.of("\b")
        return self._escape(self.at - 1)

    def _next(self) -> str:
        return self.source[self.at : self.at + 1]

    def _take(self, mark: str) -> bool:
        found = self.source.startswith(mark, self.at)
        self.at += len(mark) * found
        return found

    def _refuse(self, what: str, advice: str, at: int) -> NoReturn:
        raise ConstraintError(
            f"{self.place} {brief(self.source)} has {what}, at character {at}; {advice}."
        )
