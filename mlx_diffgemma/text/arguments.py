"""The arguments of a tool call, as a model writes them: well formed, or nearly so."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import brief, shown
from .argument_types import MAX_DEPTH, Schema, scalar_of, typed
from .call_text import BARE_NAME, BARE_NAME_IN_CALL, QUOTED, Bracket, CallText

WORD = re.compile(rf"(?:-?[0-9][0-9.eE+-]*|[A-Za-z]+)(?=[\s{{}}\[\](),{QUOTED}\"']|\Z)")
STRUCTURE = re.compile(rf"[{{}}\[\](),{QUOTED}]")
QUOTED_NAME = re.compile(rf"([{QUOTED}\"'])(.*?)\1", re.DOTALL)
NAME, NAME_IN_CALL = re.compile(f"{BARE_NAME}+"), re.compile(f"{BARE_NAME_IN_CALL}+")
SURROGATES = "utf-16-le"
ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


@dataclass
class Arguments:
    """A position in a call's text; each method reads one kind of value there and moves on.

    ValueError for what cannot be read in this way. repairs: what was not as it should be, in words
    that go on a sentence about the call.
    """

    call: CallText
    position: int
    schema: Schema
    repairs: dict[str, None] = field(default_factory=dict, init=False)
    _path: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.text, self.way = self.call.text, self.call.way

    def read(self) -> dict[str, object]:
        """All of the arguments, to the end of the text."""
        if self._at("("):
            arguments = self._in_parentheses()
        else:
            arguments = self._mapping(self.schema)
        if self.call.skip(self.position) != len(self.text):
            raise ValueError("something behind the arguments")
        return arguments

    def _in_parentheses(self) -> dict[str, object]:
        self._repair("had ( and ) around its arguments")
        if self.call.character(self.position + 1) != "{":
            return self._mapping(self.schema, "()")
        self._take("(")
        self.call.open.append(Bracket(")", Schema()))
        arguments = self._mapping(self.schema)
        self.call.open.pop()
        self._take(")")
        return arguments

    # --- brackets

    def _value(self, schema: Schema) -> object:
        if len(self.call.open) > MAX_DEPTH:
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
        self.call.open.append(Bracket(brackets[1], schema, members))
        while not self._at(brackets[1]):
            key = self._key()
            if key in members:
                raise ValueError("a key twice")
            self._path.append(key)
            members[key] = None  # known while its value is read, in which it does not come again
            members[key] = self._value(schema.member(key))
            self._comma(brackets[1])
            self._path.pop()
        self.call.open.pop()
        self._take(brackets[1])
        return members

    def _sequence(self, schema: Schema) -> list[object]:
        items: list[object] = []
        self._take("[")
        self.call.open.append(Bracket("]", schema))
        inner = schema.item()
        while not self._at("]"):
            items.append(self._value(inner))
            self._comma("]")
        self.call.open.pop()
        self._take("]")
        return items

    def _key(self) -> str:
        """A member's name and what parts it from its value."""
        bracket = self.call.open[-1]
        self.position = self.call.skip(self.position)
        quoted = QUOTED_NAME.match(self.text, self.position)
        if quoted and self.call.character(quoted.end()) in (":", "=" if bracket.in_call else ":"):
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
        elif (word := WORD.match(self.text, self.position)) and self.call.closed(word.end()):
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
        for end in self.call.all(QUOTED, start):
            if not self.way or self.call.closed(end + 1):
                self.position = end + 1
                return self._content(start, end)
        raise ValueError("a string without an end")

    def _other_string(self) -> str | None:
        """The text between quotes of another kind, as JSON and Python have them."""
        quote, start = self.text[self.position], self.position + 1
        for end in self.call.all(quote, start):
            if not self.call.escaped(start, end) and self.call.closed(end + 1):
                self.position = end + 1
                self._repair(f"had {quote} around {self._place}")
                return _unescaped(self._content(start, end))
        return None

    def _bare(self) -> str:
        """A text whose first quote, or both, are missing."""
        self._repair(f"lacked a quote around {self._place}")
        start, plain, bracket = self.position, True, self.call.open[-1]
        for found in STRUCTURE.finditer(self.text, start):
            at, mark = found.start(), found[0]
            if mark == QUOTED and self.call.closed(at + 1):
                self.position = at + 1
                return self._content(start, at).removeprefix('"')
            if plain and (
                self.call.ends(at) or (mark == "," and self.call.open[-1].members is None)
            ):
                self.position = at
                if content := self.text[start:at].strip():
                    return content
                break
            key = mark == "," and self.call.key_at(at + 1, bracket)
            plain = plain and mark in "()," and not key
        raise ValueError("no value")

    def _content(self, start: int, end: int) -> str:
        """A string's text; a quote token in it stands for the character."""
        content = self.text[start:end]
        if QUOTED in content:
            self._repair(f"had quotes inside {self._place}")
        return content.replace(QUOTED, '"')

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
        self.position = self.call.skip(self.position)
        return self.text.startswith(mark, self.position)


def _unescaped(text: str) -> str:
    """A text without the escapes that JSON and Python write."""
    plain = ESCAPE.sub(_character_of, text)
    return plain.encode(SURROGATES, "surrogatepass").decode(SURROGATES, "replace")


def _character_of(escape: re.Match[str]) -> str:
    code = escape[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else ESCAPED.get(code, code)
