"""Regular expressions as patterns: the part of ECMA 262 that is regular, with ASCII \\d \\w \\s.

What cannot be matched by an automaton (look-around, back-references, word boundaries) is refused.
"""

import re
from dataclasses import dataclass

from ..errors import ConstraintError
from .patterns import MAX_CODE, Chars, OneOf, Pattern, Seq, Text, Times

DIGITS = Chars(((48, 57),))
WORD = Chars(((48, 57), (65, 90), (95, 95), (97, 122)))
BLANK = Chars.of(" \t\n\r\f\v")
NAMED = {"d": DIGITS, "w": WORD, "s": BLANK}
CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
DOT = Chars.of("\n\r\u2028\u2029").inverted()
ANYTHING = Chars(((0, MAX_CODE),))
COUNT = re.compile(r"\{(\d+)(,(\d*))?\}")


def parse_regex(source: str) -> Pattern:
    """The whole text has to match; ^ at the beginning and $ at the end say nothing more."""
    return _Reader(source).whole(searching=False)


def parse_search(source: str) -> Pattern:
    """JSON Schema's `pattern`: some part of the text has to match, unless ^ and $ bind it."""
    return _Reader(source).whole(searching=True)


@dataclass
class _Reader:
    source: str
    at: int = 0

    def whole(self, searching: bool) -> Pattern:
        parts = []
        for branch in self._branches(top=True):
            begin, middle, end = branch
            around = Times(ANYTHING)
            free = [] if begin or not searching else [around]
            parts.append(Seq((*free, middle, *([] if end or not searching else [around]))))
        if self.at < len(self.source):
            self._refuse("an unopened parenthesis")
        return parts[0] if len(parts) == 1 else OneOf(tuple(parts))

    def _branches(self, top: bool) -> list[tuple[bool, Pattern, bool]]:
        branches = [self._branch(top)]
        while self._take("|"):
            branches.append(self._branch(top))
        return branches

    def _branch(self, top: bool) -> tuple[bool, Pattern, bool]:
        begin = top and self._take("^")
        parts: list[Pattern] = []
        while self.at < len(self.source) and self.source[self.at] not in "|)":
            if top and self.source[self.at] == "$" and self.source[self.at + 1 :][:1] in ("", "|"):
                self.at += 1
                return begin, Seq(tuple(parts)), True
            parts.append(self._repeated(self._atom()))
        return begin, Seq(tuple(parts)), False

    def _repeated(self, part: Pattern) -> Pattern:
        while True:
            if self._take("*"):
                part = Times(part)
            elif self._take("+"):
                part = Times(part, 1)
            elif self._take("?"):
                part = Times(part, 0, 1)
            elif count := COUNT.match(self.source, self.at):
                self.at = count.end()
                least = int(count[1])
                most = least if count[2] is None else int(count[3]) if count[3] else None
                if most is not None and most < least:
                    self._refuse("a repetition that ends before it begins")
                part = Times(part, least, most)
            else:
                return part
            self._take("?")  # lazy or greedy: the same texts

    def _atom(self) -> Pattern:
        char = self.source[self.at]
        self.at += 1
        if char == "(":
            if self._take("?") and not self._take(":"):
                if self.source[self.at : self.at + 2] == "P<" or (
                    self._take("<") and self.source[self.at : self.at + 1] not in "=!"
                ):
                    self.at = self.source.index(">", self.at) + 1
                else:
                    self._refuse("look-around")
            inner = [middle for _, middle, _ in self._branches(top=False)]
            if not self._take(")"):
                self._refuse("an unclosed parenthesis")
            return inner[0] if len(inner) == 1 else OneOf(tuple(inner))
        if char == "[":
            return self._set()
        if char == ".":
            return DOT
        if char == "\\":
            return self._escape()
        if char in "^$":
            self._refuse(f"{char} in the middle")
        if char in "*+?":
            self._refuse(f"{char} with nothing to repeat")
        return Text(char)

    def _escape(self) -> Chars:
        char = self.source[self.at : self.at + 1]
        self.at += 1
        if char.lower() in NAMED and char:
            named = NAMED[char.lower()]
            return named if char.islower() else named.inverted()
        if char in CONTROL:
            return Chars.of(CONTROL[char])
        for letter, digits in (("x", 2), ("u", 4)):
            if char == letter:
                number = self.source[self.at : self.at + digits]
                if not re.fullmatch("[0-9a-fA-F]{%d}" % digits, number):
                    self._refuse(f"\\{letter} without {digits} hexadecimal digits")
                self.at += digits
                return Chars(((int(number, 16),) * 2,))
        if not char or char.isalnum():
            self._refuse(f"\\{char}")
        return Chars.of(char)

    def _set(self) -> Chars:
        inverted, spans = self._take("^"), []
        while not self._take("]"):
            first = self._member()
            if self.source[self.at : self.at + 1] == "-" and self.source[self.at + 1 :][:1] not in (
                "]",
                "",
            ):
                self.at += 1
                last = self._member()
                if len(first.spans) + len(last.spans) > 2 or last.spans[0][0] < first.spans[0][0]:
                    self._refuse("a range that has no order")
                spans.append((first.spans[0][0], last.spans[0][1]))
            else:
                spans += first.spans
        chars = Chars(tuple(spans))
        return chars.inverted() if inverted else chars

    def _member(self) -> Chars:
        if self.at >= len(self.source):
            self._refuse("an unclosed [")
        char = self.source[self.at]
        self.at += 1
        if char != "\\":
            return Chars.of(char)
        if self._take("b"):
            return Chars.of("\b")
        return self._escape()

    def _take(self, mark: str) -> bool:
        found = self.source.startswith(mark, self.at)
        self.at += len(mark) * found
        return found

    def _refuse(self, what: str) -> None:
        raise ConstraintError(f"the regular expression {self.source!r} has {what}, at {self.at}.")
