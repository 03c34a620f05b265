"""The form of an answer that a request asks for: tools, the choice among them, a JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....constrain.calls import ANY_TOOL, REQUIRED
from ....conversation.form import Wanted
from ..fields import Fields, either
from ..openai import ANY_OBJECT, FORMATS
from ..tools import Tool, checked, chosen, declaration

CHOICE = "tool_choice"
WORDS = ("none", ANY_TOOL, REQUIRED)
NAMES: Mapping[str, str] = {"schema": "response_format", "tools": "tools", CHOICE: CHOICE}


@dataclass(frozen=True)
class _Choice:
    """tool_choice as it is said: a word, or the names of tools beside one."""

    word: str = ANY_TOOL
    names: tuple[str, ...] | None = None
    path: str = CHOICE


def read_wanted(fields: Fields, stop: tuple[str, ...]) -> Wanted:
    """The form that is asked for; Refusal for one that cannot be enforced, before any work."""
    for name, instead in (("functions", "tools"), ("function_call", CHOICE)):
        if fields.has(name):
            raise fields.wrong(name, f"nothing: it is the old form of {instead}")
    tools = tuple(_tool(tool) for tool in fields.objects("tools"))
    schema, choice = _schema(fields), _choice(fields)
    if choice.names is not None:
        tools = chosen(tools, choice.names, choice.path)
    if choice.word not in WORDS:
        chosen(tools, (choice.word,), choice.path)
    without = choice.word == "none" or (choice.word == ANY_TOOL and not tools)
    wanted = Wanted(schema) if without else Wanted(schema, tools=tools, tool_choice=choice.word)
    return checked(wanted, {**NAMES, "stop": "stop"}, stop)


def _tool(tool: Fields) -> Tool:
    if tool.text("type") not in ("function", None):
        raise tool.wrong("type", "function")
    return declaration(tool.needed_object("function"))


def _choice(fields: Fields) -> _Choice:
    """The choice among tools: one word, one tool, or some tools that alone are allowed."""
    if not isinstance(fields.value.get(CHOICE), dict):
        return _Choice(fields.one_of(CHOICE, WORDS) or ANY_TOOL)
    about = fields.needed_object(CHOICE)
    match about.one_of("type", ("function", "allowed_tools")):
        case "function":
            one = about.needed_object("function")
            return _Choice(one.needed_text("name"), path=one.at("name"))
        case "allowed_tools":
            some = about.needed_object("allowed_tools")
            listed = [each.needed_object("function") for each in some.objects("tools")]
            names = tuple(each.needed_text("name") for each in listed)
            return _Choice(some.one_of("mode", WORDS[1:]) or ANY_TOOL, names, some.at("tools"))
    raise about.wrong("type", "function or allowed_tools")


def _schema(fields: Fields) -> Mapping[str, Any] | None:
    if (about := fields.object("response_format")) is None:
        return None
    if not about.has("type"):
        raise about.wrong("type", either(FORMATS))
    match about.one_of("type", FORMATS):
        case "json_schema":
            return about.needed_object("json_schema").needed_object("schema").value
        case "json_object":
            return ANY_OBJECT
    return None
