"""A tool call's text, and the places in it where a value may end.

A quote token is one character here, QUOTED, which no text has. Whether one ends a string is seen by
what comes behind it: a comma and a key, or the brackets that are open, to the end of the call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from .argument_types import Schema

QUOTED = "\udc22"  # a surrogate, which decoded text cannot hold
LOOKS = 8  # a character, and 10,000 for any call: places where a value might end

AS_WRITTEN, DECLARED, ANY = WAYS = range(3)
"""Ways to read: without repairs, with declared names alone for keys behind what is repaired, and
with any."""

BLANK = re.compile(r"\s*")
VALUE_BEGINS = re.compile(rf"\s*(?:[{QUOTED}\"'{{\[0-9-]|(?:[tT]rue|[fF]alse|null|None)\b)")
ENDS = ("", ",", "]", "}", ")")
BARE_NAME = rf"[^{{}}\[\]:,{QUOTED}]"
BARE_NAME_IN_CALL = rf"[^{{}}\[\]():=,{QUOTED}]"


def _next_key(bare: str, parts: str) -> re.Pattern[str]:
    """A key that begins where the pattern does, and what parts it from its value."""
    quoted = (rf"{mark}([^{mark}]{{1,200}}){mark}\s*" for mark in (QUOTED, '"', "'"))
    return re.compile(rf"(?:{'|'.join(quoted)}|({bare}{{1,200}})){parts}")


NEXT_KEY, NEXT_KEY_IN_CALL = _next_key(BARE_NAME, ":"), _next_key(BARE_NAME_IN_CALL, "[:=]")


@dataclass
class Bracket:
    """A bracket that is open: what closes it, and of an object the members so far."""

    closing: str
    schema: Schema
    members: dict[str, object] | None = None

    @property
    def in_call(self) -> bool:
        """True for the parentheses of `call:name(key=value)`."""
        return self.closing == ")"

    @cached_property
    def names(self) -> frozenset[str]:
        """The declared names of the members."""
        return self.schema.names


@dataclass
class CallText:
    """A call's text with the brackets that are open; way: one of WAYS.

    ValueError where too many places have to be looked at.
    """

    text: str
    way: int
    open: list[Bracket] = field(default_factory=list, init=False)
    _looks: int = field(default=10_000, init=False)

    def __post_init__(self) -> None:
        self._looks += LOOKS * len(self.text)

    def closed(self, at: int) -> bool:
        """True where a value may end: at what follows one, or where a comma is missing."""
        return self.ends(at) or self._lacks_comma(at, self.open[-1])

    def ends(self, at: int) -> bool:
        """True where open brackets close here one after the other, down to a comma or the end."""
        self._looks -= 1 + len(self.open)
        if self._looks < 0:
            raise ValueError("too much to look at")
        first = at
        for bracket in reversed(self.open):
            mark = self.character(at)
            if mark != bracket.closing:
                if mark == ",":
                    return self._goes_on(at, bracket)
                return at > first and self._lacks_comma(at, bracket)
            at = self.skip(at) + 1
        return self.skip(at) == len(self.text)

    def _goes_on(self, at: int, bracket: Bracket) -> bool:
        """True where another member or item stands behind a comma, or nothing does."""
        at = self.skip(at) + 1
        if self.character(at) == bracket.closing:
            return True
        if bracket.members is None:
            # Calls have no blank behind a comma, sentences do.
            value = self.way != DECLARED or VALUE_BEGINS.match(self.text, at)
            return bool(value) or self.skip(at) == at
        return self._is_key(at, bracket)

    def _lacks_comma(self, at: int, bracket: Bracket) -> bool:
        """True where the next member or item begins."""
        if not self.way:
            return False
        if bracket.members is not None:
            if (key := self.key_at(at, bracket)) is None or not self._is_key(at, bracket):
                return False
            return VALUE_BEGINS.match(self.text, key.end()) is not None
        item = self.skip(at)
        if item == at and self.text.startswith(QUOTED, at):  # three of them are text
            beside = self.text[at - 2 : at - 1] + self.text[at + 1 : at + 2]
            return QUOTED not in beside and self.character(at + 1) not in ENDS
        return item > at and VALUE_BEGINS.match(self.text, item) is not None

    def _is_key(self, at: int, bracket: Bracket) -> bool:
        """True where a key that may come next stands with its colon."""
        if not self.way:
            return True  # what is well formed is not looked at twice
        if (found := self.key_at(at, bracket)) is None:
            return False
        key = next(filter(None, found.groups())).strip()
        names = bracket.names if self.way == DECLARED else ()
        return bool(key) and key not in (bracket.members or ()) and (not names or key in names)

    def key_at(self, at: int, bracket: Bracket) -> re.Match[str] | None:
        """A key with its colon, whatever it is called."""
        pattern = NEXT_KEY_IN_CALL if bracket.in_call else NEXT_KEY
        return None if bracket.members is None else pattern.match(self.text, self.skip(at))

    def all(self, mark: str, start: int) -> Iterator[int]:
        """The places of a mark, in order."""
        while (start := self.text.find(mark, start)) >= 0:
            yield start
            start += 1

    def escaped(self, start: int, at: int) -> bool:
        """True where a character stands behind an odd number of backslashes."""
        first = at
        while first > start and self.text[first - 1] == "\\":
            first -= 1
        return (at - first) % 2 == 1

    def character(self, at: int) -> str:
        """The next character that is no blank, "" at the end."""
        at = self.skip(at)
        return self.text[at : at + 1]

    def skip(self, at: int) -> int:
        """The place of the next character that is no blank."""
        found = BLANK.match(self.text, at)
        return found.end() if found else at
