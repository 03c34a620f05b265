"""The arguments of a tool call, as a model writes them: well formed, or nearly so.

A quote token is one character here, QUOTED, which no text has. Whether one ends a string is seen by
what comes behind it: a comma and a key, or the brackets that are open, to the end of the call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from ..errors import brief, shown
from .argument_types import MAX_DEPTH, Schema, scalar_of, typed

QUOTED = "\udc22"  # a surrogate, which decoded text cannot hold
LOOKS = 8  # a character, and 10,000 for any call: places where a value might end

AS_WRITTEN, DECLARED, ANY = WAYS = range(3)
"""Ways to read: without repairs, with declared names alone for keys behind what is repaired, and
with any."""

BLANK = re.compile(r"\s*")
WORD = re.compile(rf"(?:-?[0-9][0-9.eE+-]*|[A-Za-z]+)(?=[\s{{}}\[\](),{QUOTED}\"']|\Z)")
STRUCTURE = re.compile(rf"[{{}}\[\](),{QUOTED}]")
VALUE_BEGINS = re.compile(rf"\s*(?:[{QUOTED}\"'{{\[0-9-]|(?:[tT]rue|[fF]alse|null|None)\b)")
SURROGATES = "utf-16-le"
ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
BARE_NAME = rf"[^{{}}\[\]:,{QUOTED}]"
BARE_NAME_IN_CALL = rf"[^{{}}\[\]():=,{QUOTED}]"


def _next_key(bare: str, parts: str) -> re.Pattern[str]:
    """A key that begins where the pattern does, and what parts it from its value."""
    quoted = (rf"{mark}([^{mark}]{{1,200}}){mark}\s*" for mark in (QUOTED, '"', "'"))
    return re.compile(rf"(?:{'|'.join(quoted)}|({bare}{{1,200}})){parts}")


QUOTED_NAME = re.compile(rf"([{QUOTED}\"'])(.*?)\1", re.DOTALL)
NEXT_KEY, NEXT_KEY_IN_CALL = _next_key(BARE_NAME, ":"), _next_key(BARE_NAME_IN_CALL, "[:=]")
NAME, NAME_IN_CALL = re.compile(f"{BARE_NAME}+"), re.compile(f"{BARE_NAME_IN_CALL}+")


@dataclass
class _Open:
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
class Arguments:
    """A position in a call's text; each method reads one kind of value there and moves on.

    ValueError for what cannot be read in this way. repairs: what was not as it should be, in words
    that go on a sentence about the call.
    """

    text: str
    position: int
    way: int
    schema: Schema
    repairs: dict[str, None] = field(default_factory=dict)
    _open: list[_Open] = field(default_factory=list)
    _path: list[str] = field(default_factory=list)
    _looks: int = 10_000

    def read(self) -> dict[str, object]:
        """All of the arguments, to the end of the text."""
        self._looks += LOOKS * len(self.text)
        if self._at("("):
            arguments = self._in_parentheses()
        else:
            arguments = self._mapping(self.schema)
        if self._skip(self.position) != len(self.text):
            raise ValueError("something behind the arguments")
        return arguments

    def _in_parentheses(self) -> dict[str, object]:
        self._repair("had ( and ) around its arguments")
        if self._character(self.position + 1) != "{":
            return self._mapping(self.schema, "()")
        self._take("(")
        self._open.append(_Open(")", Schema()))
        arguments = self._mapping(self.schema)
        self._open.pop()
        self._take(")")
        return arguments

    # --- brackets

    def _value(self, schema: Schema) -> object:
        if len(self._open) > MAX_DEPTH:
            raise ValueError("nested too deep")
        written = None
        if self._at("{"):
            value: object = self._mapping(schema)
        elif self._at("["):
            value = self._sequence(schema)
        else:
            value, written = self._plain()
        given = typed(value, written, schema)
        if given is not value:
            said = f"the text {brief(value, 40)}" if isinstance(value, str) else written
            wanted = " or ".join(sorted(schema.kinds))
            self.repairs[f"had {said} for {self._place}, whose type is {wanted}"] = None
        return given

    def _mapping(self, schema: Schema, brackets: str = "{}") -> dict[str, object]:
        members: dict[str, object] = {}
        self._take(brackets[0])
        self._open.append(_Open(brackets[1], schema, members))
        while not self._at(brackets[1]):
            key = self._key()
            if key in members:
                raise ValueError("a key twice")
            self._path.append(key)
            members[key] = self._value(schema.member(key))
            self._comma(brackets[1])
            self._path.pop()
        self._open.pop()
        self._take(brackets[1])
        return members

    def _sequence(self, schema: Schema) -> list[object]:
        items: list[object] = []
        self._take("[")
        self._open.append(_Open("]", schema))
        inner = schema.item()
        while not self._at("]"):
            items.append(self._value(inner))
            self._comma("]")
        self._open.pop()
        self._take("]")
        return items

    def _key(self) -> str:
        """A member's name and what parts it from its value."""
        bracket = self._open[-1]
        self.position = self._skip(self.position)
        quoted = QUOTED_NAME.match(self.text, self.position)
        if quoted and self._character(quoted.end()) in (":", "=" if bracket.in_call else ":"):
            if (quote := quoted[1]) != QUOTED:
                self._repair(f"had {quote} around {shown(quoted[2], 40)}")
            key, self.position = quoted[2], quoted.end()
        elif found := (NAME_IN_CALL if bracket.in_call else NAME).match(self.text, self.position):
            key, self.position = found[0].strip(), found.end()
        else:
            raise ValueError("no key")
        self._take("=" if bracket.in_call and self._at("=") else ":")
        return key

    def _comma(self, closing: str) -> None:
        """Past a comma, which an item has to follow; without one the closing bracket is next."""
        if self._at(closing):
            return
        if self._at(","):
            self.position += 1
            if self._at(closing):
                self._repair(f"had a comma too many behind {self._place}")
        else:
            self._repair(f"lacked a comma behind {self._place}")

    # --- texts, words and numbers

    def _plain(self) -> tuple[object, str | None]:
        """A value without brackets, and the text of a word or a number."""
        if self._at(QUOTED):
            return self._string(), None
        if self.way and (self._at('"') or self._at("'")):
            if (content := self._other_string()) is not None:
                return content, None
        elif (word := WORD.match(self.text, self.position)) and self._closed(word.end()):
            try:
                value = scalar_of(word[0])
            except ValueError:
                pass
            else:
                self.position = word.end()
                return value, word[0]
        return self._bare(), None

    def _string(self) -> str:
        """The text between two quote tokens, to the letter: nothing is escaped."""
        start = self.position + 1
        for end in self._all(QUOTED, start):
            if not self.way or self._closed(end + 1):
                self.position = end + 1
                return self._content(start, end)
        raise ValueError("a string without an end")

    def _other_string(self) -> str | None:
        """The text between quotes of another kind, as JSON and Python have them."""
        quote, start = self.text[self.position], self.position + 1
        for end in self._all(quote, start):
            if not self._escaped(start, end) and self._closed(end + 1):
                self.position = end + 1
                self._repair(f"had {quote} around {self._place}")
                return _unescaped(self._content(start, end))
        return None

    def _bare(self) -> str:
        """A text whose first quote, or both, are missing."""
        self._repair(f"lacked a quote around {self._place}")
        start, plain = self.position, True
        for found in STRUCTURE.finditer(self.text, start):
            at, mark = found.start(), found[0]
            if mark == QUOTED and self._closed(at + 1):
                self.position = at + 1
                return self._content(start, at).removeprefix('"')
            if plain and self._ends(at):
                self.position = at
                if content := self.text[start:at].strip():
                    return content
                break
            key = mark == "," and self._key_at(at + 1, self._open[-1])
            plain = plain and mark in "()," and not key
        raise ValueError("no value")

    def _content(self, start: int, end: int) -> str:
        """A string's text; a quote token in it stands for the character."""
        content = self.text[start:end]
        if QUOTED in content:
            self._repair(f"had quotes inside {self._place}")
        return content.replace(QUOTED, '"')

    # --- ends of values

    def _closed(self, at: int) -> bool:
        """True where a value may end: at what follows one, or where a comma is missing."""
        return self._ends(at) or (bool(self.way) and self._lacks_comma(at))

    def _ends(self, at: int) -> bool:
        """True where open brackets close here one after the other, down to a comma or the end."""
        self._looks -= 1 + len(self._open)
        if self._looks < 0:
            raise ValueError("too much to look at")
        for bracket in reversed(self._open):
            at = self._skip(at)
            if self.text[at : at + 1] == ",":
                last = self._character(at + 1) == bracket.closing
                return last or bracket.members is None or self._is_key(at + 1, bracket)
            if self.text[at : at + 1] != bracket.closing:
                return False
            at += 1
        return self._skip(at) == len(self.text)

    def _lacks_comma(self, at: int) -> bool:
        """True where the next member or item begins."""
        bracket = self._open[-1]
        if bracket.members is not None:
            if (key := self._key_at(at, bracket)) is None or not self._is_key(at, bracket):
                return False
            return VALUE_BEGINS.match(self.text, key.end()) is not None
        item = self._skip(at)
        if self.text.startswith(QUOTED, item):
            return not self._ends(item + 1)
        return item > at and VALUE_BEGINS.match(self.text, item) is not None

    def _is_key(self, at: int, bracket: _Open) -> bool:
        """True where a key that may come next stands with its colon."""
        if not self.way:
            return True  # what is well formed is not looked at twice
        if (found := self._key_at(at, bracket)) is None:
            return False
        key = next(filter(None, found.groups())).strip()
        names = bracket.names if self.way == DECLARED else ()
        return bool(key) and key not in (bracket.members or ()) and (not names or key in names)

    def _key_at(self, at: int, bracket: _Open) -> re.Match[str] | None:
        """A key with its colon, whatever it is called."""
        pattern = NEXT_KEY_IN_CALL if bracket.in_call else NEXT_KEY
        return None if bracket.members is None else pattern.match(self.text, self._skip(at))

    def _all(self, mark: str, start: int) -> Iterator[int]:
        """The places of a mark, in order."""
        while (start := self.text.find(mark, start)) >= 0:
            yield start
            start += 1

    # --- marks

    def _repair(self, said: str) -> None:
        """Take note of a repair; ValueError where none is made."""
        if not self.way:
            raise ValueError(said)
        self.repairs[said] = None

    @property
    def _place(self) -> str:
        return shown(".".join(self._path), 40) or "a value"

    def _take(self, mark: str) -> None:
        if not self._at(mark):
            raise ValueError("something else")
        self.position += 1

    def _at(self, mark: str) -> bool:
        self.position = self._skip(self.position)
        return self.text.startswith(mark, self.position)

    def _escaped(self, start: int, at: int) -> bool:
        """True where a character stands behind an odd number of backslashes."""
        first = at
        while first > start and self.text[first - 1] == "\\":
            first -= 1
        return (at - first) % 2 == 1

    def _character(self, at: int) -> str:
        """The next character that is no blank, "" at the end."""
        at = self._skip(at)
        return self.text[at : at + 1]

    def _skip(self, at: int) -> int:
        """The place of the next character that is no blank."""
        found = BLANK.match(self.text, at)
        return found.end() if found else at


def _unescaped(text: str) -> str:
    """A text without the escapes that JSON and Python write."""
    plain = ESCAPE.sub(_character_of, text)
    return plain.encode(SURROGATES, "surrogatepass").decode(SURROGATES, "replace")


def _character_of(escape: re.Match[str]) -> str:
    code = escape[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else ESCAPED.get(code, code)
