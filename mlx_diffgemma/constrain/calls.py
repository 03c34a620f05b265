"""Tool calls as a pattern: `<|tool_call>call:NAME{...}<tool_call|>`, one or more.

The text between the two marks is what chat templates write and what `text/tools.py` reads back.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConstraintError, brief, shown
from .dfa import Dfa, avoiding, compile_pattern
from .patterns import ANY, Mark, OneOf, Pattern, Times, either, seq
from .schema.reader import SchemaReader
from .schema.spelling import CALL, QUOTE, SYNTAX

OPENING, CLOSING = Mark("<|tool_call>"), Mark("<tool_call|>")
ANY_TOOL = "auto"  # the model may call one, or answer: no form
REQUIRED = "required"  # any of the tools, one call or more
CHOICES = (ANY_TOOL, REQUIRED)  # no names of tools
MARKS = (OPENING.name, CLOSING.name, QUOTE.name)


def calls_pattern(tools: object, choice: object) -> tuple[Pattern, dict[str, int]]:
    """The pattern of an answer that calls tools, and the sizes that a SchemaReader found.

    tools: declarations {"type": "function", "function": {name, description, parameters}}, or only
    what stands under "function". choice: "required", or the name of the one tool to be called once.
    """
    readers = dict(declared(tools))
    if choice == REQUIRED:
        chosen = list(readers)
    elif isinstance(choice, str) and choice in readers:
        chosen = [choice]
    else:
        names = ", ".join(shown(name) for name in readers)
        raise ConstraintError(
            f"the tool choice is {brief(choice)}, expected {', '.join(CHOICES)} or one of {names}."
        )
    calls = [seq(OPENING, f"call:{name}", readers[name].pattern(), CLOSING) for name in chosen]
    one = OneOf(tuple(calls))
    sizes = {name: size for key in chosen for name, size in readers[key].sizes.items()}
    return (Times(one, 1) if choice == REQUIRED else one), sizes


def without_quotes(dfa: Dfa) -> Dfa:
    """The calls of which no string holds the text that would end it, and all texts beside them."""
    other = either(ANY, *map(Mark, dfa.marks))
    ends = compile_pattern(seq(Times(other), OPENING, Times(other), QUOTE.name))
    return avoiding(dfa, ends)


def declared(tools: object) -> list[tuple[str, SchemaReader]]:
    """The name of each tool, and what reads its parameters; ConstraintError for no declaration."""
    if not isinstance(tools, Sequence) or isinstance(tools, str) or not tools:
        raise ConstraintError(f"the tools are {brief(tools)}, expected a list of at least one.")
    found: dict[str, SchemaReader] = {}
    for number, tool in enumerate(tools, 1):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else tool
        if not isinstance(function, Mapping):
            raise ConstraintError(f"tool {number} is {brief(tool)}, expected a function's object.")
        name = _name(function.get("name"), number)
        if name in found:
            raise ConstraintError(
                f"tool {number} has the name of another, {brief(name)}; rename it."
            )
        place = f"tool {shown(name)} #"
        found[name] = SchemaReader(_arguments(function.get("parameters"), place), CALL, place)
    return list(found.items())


def _name(name: Any, number: int) -> str:
    wrong = not isinstance(name, str) or not name or name in CHOICES
    if wrong or any(c.isspace() or c in SYNTAX or "\ud800" <= c <= "\udfff" for c in name):
        raise ConstraintError(
            f"tool {number} has the name {brief(name)}, expected letters, digits and _."
        )
    return str(name)


def _arguments(parameters: Any, place: str) -> object:
    """The schema of a tool's arguments: of an object with names that are known."""
    root = {} if parameters is None else parameters
    if not isinstance(root, Mapping):
        return root  # refused where it is read
    if root.get("type", "object") != "object":
        raise ConstraintError(
            f"{place} has type {brief(root['type'])}, expected object: a call has arguments."
        )
    if not root.get("properties"):
        return {"properties": {}, **root, "type": "object", "additionalProperties": False}
    return {**root, "type": "object"}
