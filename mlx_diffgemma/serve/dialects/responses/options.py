"""Thoughts, tools and the answer's form, as a request of the Responses API says them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....constrain.calls import ANY_TOOL, CHOICES
from ....conversation.form import Wanted
from ....errors import brief
from ..fields import Fields, invalid
from ..openai import ANY_OBJECT, FORMATS, UNTHINKING
from ..tools import Tool, checked, chosen, declaration, not_here

PLACES = {
    "schema": "text.format.schema",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "stop": "stop",
}


def read_think(fields: Fields) -> bool | None:
    """False for the least effort, True for more, None where nothing is said of it."""
    reasoning = fields.object("reasoning")
    effort = None if reasoning is None else reasoning.text("effort")
    return None if effort is None else effort not in UNTHINKING


def read_wanted(fields: Fields, stop: Sequence[str]) -> tuple[Wanted, tuple[str, ...]]:
    """The form and the tools that are wanted, and lines for what of them is not used."""
    text = fields.object("text") or Fields({}, "text")
    tools, lines = _tools(fields)
    tools, choice = _chosen(fields, tools)
    wanted = Wanted(schema=_schema(text), tools=tools, tool_choice=choice)
    if verbosity := text.text("verbosity"):
        lines.append(f"text.verbosity is {brief(verbosity)}, and is not used.")
    return checked(wanted, PLACES, stop), tuple(lines)


def _schema(text: Fields) -> Any:
    """The schema that an answer has to fit, None for none."""
    form = text.object("format")
    kind = None if form is None else form.one_of("type", FORMATS)
    if form is None or kind in (None, "text"):
        return None
    return ANY_OBJECT if kind == "json_object" else form.needed_object("schema").value


def _tools(fields: Fields) -> tuple[tuple[Tool, ...], list[str]]:
    """The functions that a client runs, and a line for each tool that is none."""
    tools, lines = [], []
    for tool in fields.objects("tools"):
        if tool.needed_text("type") == "function":
            tools.append(declaration(tool.object("function") or tool))
        else:
            lines.append(not_here(tool))
    return tuple(tools), lines


def _chosen(fields: Fields, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], str]:
    """The tools that may be called, and the choice among them."""
    choice = fields.value.get("tool_choice")
    if choice is None or isinstance(choice, str):
        return _by_word(fields, tools)
    about = fields.needed_object("tool_choice")
    kind = about.needed_text("type")
    if kind == "function":
        return tools, _named(about.object("function") or about, tools)
    if kind == "allowed_tools":
        named = [each for each in about.objects("tools") if each.value.get("type") == "function"]
        allowed = chosen(tools, [each.needed_text("name") for each in named], about.at("tools"))
        return allowed, about.one_of("mode", CHOICES) or ANY_TOOL
    raise about.wrong("type", "function or allowed_tools: other tools are not here")


def _by_word(fields: Fields, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], str]:
    word = fields.one_of("tool_choice", ("none", *CHOICES)) or ANY_TOOL
    if word == "none":
        return (), ANY_TOOL
    if word != ANY_TOOL and not tools:
        raise invalid("tool_choice", f"is {word}, expected a function that can be called in tools.")
    return tools, word


def _named(about: Fields, tools: Sequence[Tool]) -> str:
    """The name of the one tool that is to be called."""
    name = about.needed_text("name")
    chosen(tools, (name,), about.at("name"))
    return name
