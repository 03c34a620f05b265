"""Tool calls as the model writes them: `call:NAME{key:<|"|>text<|"|>,n:3,flag:true,list:[..]}`.

A hand-written parser: mlx-lm's (tool_parsers/gemma4.py, regular expressions to JSON) refuses blanks
in front of a key and keys that are no identifiers, skips text around a call without a word, and its
import brings all of mlx-lm and transformers along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import shown
from .argument_types import Schema
from .arguments import Arguments
from .call_text import QUOTED, WAYS, CallText

CALL_OPENING, CALL_CLOSING = "<|tool_call>", "<tool_call|>"  # around a call
QUOTE = '<|"|>'
HEAD = re.compile(r"\s*call\s*:\s*([^\s{}()\[\],]+)\s*(?=[{(])")
AROUND_NAME = f"{QUOTED}\"'`"

Tool = Mapping[str, object]
"""A declaration as OpenAI's API has it, or only what stands under its "function"."""


@dataclass(frozen=True)
class ToolCall:
    """One call the model asks for."""

    name: str
    arguments: dict[str, object]


@dataclass(frozen=True)
class ReadCall:
    """A call, and a line for each thing in which it is not as it was written."""

    call: ToolCall
    repairs: tuple[str, ...] = ()


def parse_tool_call(text: str, tools: Sequence[Tool] = ()) -> ToolCall | None:
    """The call in the text between `<|tool_call>` and `<tool_call|>`, or None; see `read_call`.

    For a text as templates write it, in which each `<|"|>` is the quote token.
    """
    read = read_call(text.replace(QUOTE, QUOTED), tools)
    return read.call if read else None


def read_call(written: str, tools: Sequence[Tool] = ()) -> ReadCall | None:
    """The call between `<|tool_call>` and `<tool_call|>`, or None where it cannot be read.

    written: its text, with QUOTED for each quote token; the characters `<|"|>` are data. tools:
    those declared, whose schemas say what types the arguments are of. Never raises.

    What is well formed is read as it stands, anything else with as few repairs as there are ways.
    """
    if (head := HEAD.match(written)) is None:
        return None
    name = head[1].strip(AROUND_NAME) or head[1]
    for way in WAYS:
        reader = Arguments(CallText(written, way), head.end(), _schema_of(name, tools))
        try:
            arguments = reader.read()
        except ValueError:
            continue
        repairs = tuple(_line(name, repair) for repair in reader.repairs)
        return ReadCall(ToolCall(name, arguments), repairs)
    return None


def spelled(written: str) -> str:
    """A call's inside as its tokens are called."""
    return written.replace(QUOTED, QUOTE)


def _schema_of(name: str, tools: Sequence[Tool]) -> Schema:
    for tool in tools:
        about = tool.get("function", tool)
        if isinstance(about, Mapping) and about.get("name") == name:
            return Schema(about.get("parameters"), about.get("parameters"))
    return Schema()


def _line(name: str, repair: str) -> str:
    return f"the call of {shown(name)} {repair}; it was read all the same."
