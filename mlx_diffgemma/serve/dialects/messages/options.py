"""Thoughts, tools and the answer's form, as a request of the Messages API says them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....constrain.calls import ANY_TOOL, REQUIRED
from ....conversation.form import Wanted
from ....errors import brief
from ..fields import Fields, invalid
from ..tools import Tool, checked, chosen, declaration, not_here

CHOICES = ("auto", "any", "tool", "none")
PLACES = {"tools": "tools", "tool_choice": "tool_choice", "stop": "stop_sequences"}


def read_think(fields: Fields) -> tuple[bool | None, tuple[str, ...]]:
    """True, False, or None where nothing is said of thoughts; and lines for what is not done."""
    config = fields.object("thinking")
    if config is None:
        return None, ()
    kind = config.needed_text("type")
    lines = list[str]()
    if config.has("budget_tokens"):
        lines.append("thinking.budget_tokens is not used: max_tokens is the only bound.")
    if config.text("display") == "omitted":
        lines.append("thinking.display is omitted, and thoughts are sent all the same.")
    if kind in ("enabled", "adaptive"):
        return True, tuple(lines)
    if kind == "disabled":
        return False, tuple(lines)
    return None, (*lines, f"thinking.type is {brief(kind)}, which is not used here.")


def read_wanted(fields: Fields, stop: Sequence[str]) -> tuple[Wanted, bool, tuple[str, ...]]:
    """The form and the tools that are wanted, whether only one call is, and lines for the rest."""
    form, at = _format(fields)
    tools, lines = _tools(fields)
    choice = fields.object("tool_choice") or Fields({"type": "auto"}, "tool_choice")
    kind = choice.one_of("type", CHOICES) or "auto"
    one_call = bool(choice.flag("disable_parallel_tool_use"))
    if kind == "any" and not tools:
        raise invalid("tool_choice.type", "is any, expected a tool that can be called in tools.")
    named = {"auto": ANY_TOOL, "any": REQUIRED, "none": ANY_TOOL}.get(kind) or _named(choice, tools)
    wanted = Wanted(
        schema=None if form is None else form.needed_object("schema").value,
        tools=() if kind == "none" else tools,
        tool_choice=named,
    )
    places = {**PLACES, "schema": f"{at}.schema"}
    lines += [] if (config := fields.object("output_config")) is None else _unused(config)
    return checked(wanted, places, stop), one_call, tuple(lines)


def _named(choice: Fields, tools: Sequence[Tool]) -> str:
    """The name of the one tool that is to be called."""
    name = choice.needed_text("name")
    chosen(tools, (name,), choice.at("name"))
    return name


def _tools(fields: Fields) -> tuple[tuple[Tool, ...], list[str]]:
    """The tools that a client runs, and a line for each that only Anthropic's API knows."""
    tools, lines = [], []
    for tool in fields.objects("tools"):
        if tool.text("type") in (None, "custom"):
            tools.append(declaration(tool, "input_schema"))
        else:
            lines.append(not_here(tool))
    return tuple(tools), lines


def _format(fields: Fields) -> tuple[Fields | None, str]:
    """The answer's format, where one is asked for, and its place; `output_format` is the older."""
    config = fields.object("output_config")
    for holder, name in ((config, "format"), (fields, "output_format")):
        if holder is not None and (form := holder.object(name)) is not None:
            if form.needed_text("type") != "json_schema":
                raise form.wrong("type", "json_schema")
            return form, form.path
    return None, "output_config.format"


def _unused(config: Fields) -> Iterator[str]:
    if effort := config.text("effort"):
        yield f"output_config.effort is {brief(effort)}, and is not used: see thinking."
