"""Tool calls as the model writes them: `call:NAME{key:<|"|>text<|"|>,n:3,flag:true,list:[..]}`.

A hand-written parser: mlx-lm's (tool_parsers/gemma4.py, regular expressions to JSON) refuses blanks
in front of a key and keys that are no identifiers, skips text around a call without a word, and its
import brings all of mlx-lm and transformers along.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

CALL_OPENING, CALL_CLOSING = "<|tool_call>", "<tool_call|>"  # around a call
QUOTE = '<|"|>'
MAX_DEPTH = 64  # lists and objects inside one another
HEAD = re.compile(r"\s*call:\s*([^\s{}\[\]:,]+)\s*(?=\{)")
KEY = re.compile(r"[^{}\[\]:,]+")
SCALAR = re.compile(r"[^{}\[\],\s]+")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
WORDS: dict[str, object] = {"true": True, "false": False, "null": None, "None": None}


@dataclass(frozen=True)
class ToolCall:
    """One call the model asks for."""

    name: str
    arguments: dict[str, object]


def parse_tool_call(text: str) -> ToolCall | None:
    """The call written between `<|tool_call>` and `<tool_call|>`, or None where it is malformed."""
    head = HEAD.match(text)
    if head is None:
        return None
    reader = _Reader(text, head.end())
    try:
        arguments = reader.mapping(0)
    except ValueError:
        return None
    return ToolCall(head[1], arguments) if reader.at_end() else None


@dataclass
class _Reader:
    """A position in a call's text; each method reads one kind of value there and moves on.

    Whatever leaves the format raises ValueError, which `parse_tool_call` turns into None.
    """

    text: str
    position: int

    def value(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deep")
        if self.at("{"):
            return self.mapping(depth)
        if self.at("["):
            return self.sequence(depth)
        return self.string() if self.at(QUOTE) else self.scalar()

    def mapping(self, depth: int) -> dict[str, object]:
        result: dict[str, object] = {}
        self.take("{")
        while not self.at("}"):
            key = self.string() if self.at(QUOTE) else self.match(KEY).strip()
            self.take(":")
            if key in result:
                raise ValueError("a key twice")
            result[key] = self.value(depth + 1)
            self.take_comma("}")
        self.take("}")
        return result

    def sequence(self, depth: int) -> list[object]:
        result: list[object] = []
        self.take("[")
        while not self.at("]"):
            result.append(self.value(depth + 1))
            self.take_comma("]")
        self.take("]")
        return result

    def string(self) -> str:
        """The text between two quote markers, to the letter: nothing is escaped."""
        self.take(QUOTE)
        end = self.text.index(QUOTE, self.position)
        content = self.text[self.position : end]
        self.position = end + len(QUOTE)
        return content

    def scalar(self) -> object:
        """true, false, null (None, as one template prints it) or a finite number."""
        word = self.match(SCALAR)
        if word in WORDS:
            return WORDS[word]
        number = NUMBER.fullmatch(word)
        if number is None:
            raise ValueError("neither a word nor a number")
        if number[2] is None and number[3] is None:
            return int(word)
        if not math.isfinite(decimal := float(word)):
            raise ValueError("too large a number")
        return decimal

    def take_comma(self, closing: str) -> None:
        """Past a comma, which an item has to follow; without one the closing bracket is next."""
        if self.at(closing):
            return
        self.take(",")
        if self.at(closing):
            raise ValueError("a comma without an item")

    def match(self, pattern: re.Pattern[str]) -> str:
        self.skip_blank()
        found = pattern.match(self.text, self.position)
        if found is None:
            raise ValueError("something else")
        self.position = found.end()
        return found[0]

    def take(self, mark: str) -> None:
        if not self.at(mark):
            raise ValueError("something else")
        self.position += len(mark)

    def at(self, mark: str) -> bool:
        self.skip_blank()
        return self.text.startswith(mark, self.position)

    def at_end(self) -> bool:
        self.skip_blank()
        return self.position == len(self.text)

    def skip_blank(self) -> None:
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1
