"""The form that a command's answers are held to: read and checked before a model is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...constrain.form import require_automaton
from ...conversation.form import Wanted
from ...errors import ConstraintError, brief, one_line, shown
from ...machine.files import parse_json
from ...text.chat import name_of_tool
from ..errors import ArgumentError, FileError
from ..form_options import TOOL_CHOICES, FormOptions
from ..options import STANDARD_INPUT
from .prompt import read_given_bytes

MOST_BYTES = 1 << 20  # of a file with a schema or tools: a hundred times the largest in use
PART = re.compile(r"((?:\\[\\,]|[^,])*)(,|$)", re.DOTALL)
OF_TOOL = {"name", "description", "parameters", "strict", "response", "type"}
ESCAPED = re.compile(r"\\([\\,])")


@dataclass(frozen=True)
class GivenOption:
    """An option that holds answers to something; `options` is that as a session's `turn` takes it.

    kind: the option's name, None where it is not given; source: its file, expression or choices.
    """

    kind: str | None = None
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GivenForm:
    """What answers are held to: the form of a text, tools to be called in its place, or both."""

    text: GivenOption = field(default_factory=GivenOption)
    tools: GivenOption = field(default_factory=GivenOption)

    @property
    def given(self) -> tuple[GivenOption, ...]:
        """The options that are given."""
        return tuple(each for each in (self.text, self.tools) if each.kind)

    @property
    def options(self) -> Mapping[str, Any]:
        """All of it as a session's `turn` takes it."""
        return {**self.text.options, **self.tools.options}

    def enforced(self) -> GivenForm:
        """The same; ConstraintError where both are too much together, or calls cannot be held."""
        if self.text.kind and self.tools.kind:
            _require_of(self.tools.source, self.options)
        return self


def read_form(held: FormOptions) -> GivenForm:
    """The form that options ask for, checked as far as that needs no model.

    FileError: a file that cannot be read, or is no JSON; ConstraintError: a schema or tools that
    cannot be enforced; ArgumentError: a pattern or choices that cannot.
    """
    text = _read_text(held)
    tools = GivenOption() if held.tools is None else read_tools(held.tools, held.tool_choice)
    return GivenForm(text, tools).enforced()


def _read_text(held: FormOptions) -> GivenOption:
    """The option that says the form of a text; the errors are those of `read_form`."""
    if held.schema is not None:
        return read_schema(held.schema)
    if held.pattern == "":
        raise ArgumentError("--pattern is empty, which allows no answer; leave it out.")
    if held.pattern is not None:
        return _typed("pattern", held.pattern, held.pattern)
    if held.choices is not None:
        choices = tuple(each for text in held.choices for each in split_choices(text))
        return _typed("choices", ", ".join(choices), choices)
    return GivenOption()


def _typed(kind: str, source: str, value: Any) -> GivenOption:
    """A form that stands on the command line; ArgumentError where it cannot be enforced."""
    options = {kind: value}
    try:
        _require_enforceable(options)
    except ConstraintError as error:
        raise ArgumentError(*error.args) from None
    return GivenOption(kind, source, options)


def split_choices(text: str) -> Iterator[str]:
    """The choices between commas, without the blanks around them; ArgumentError for an empty one.

    A backslash makes text of a comma or a backslash behind it, and is text before all else.
    """
    at, end = 0, ","
    while end:
        part = PART.match(text, at)
        assert part is not None  # it matches "" too
        at, end = part.end(), part[2]
        if not (choice := ESCAPED.sub(r"\1", part[1]).strip()):
            raise ArgumentError(
                f"--choices is {brief(text)}, which has an empty choice; leave it out, and write a "
                "comma within a choice as \\, ."
            )
        yield choice


def read_schema(file: Path) -> GivenOption:
    """The form of a file with a JSON schema; the errors are those of `read_form`."""
    schema = _read_json(file, "schema")
    if not isinstance(schema, dict):
        raise FileError(f"{_place(file)} holds {brief(schema)}, expected a JSON schema, an object.")
    return _of_file("schema", file, {"schema": schema})


def read_tools(file: Path, choice: str | None = None) -> GivenOption:
    """The form of a file with declarations of tools, a list or one; errors as of `read_form`."""
    tools = _read_json(file, "tools")
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list) or not tools:
        raise FileError(
            f"{_place(file)} holds {brief(tools)}, expected a tool's declaration or a list of them."
        )
    names = [_tool_name(file, number, tool) for number, tool in enumerate(tools, 1)]
    if choice not in (None, *TOOL_CHOICES, *names):
        raise ArgumentError(
            f"--tool-choice is {brief(choice)}, expected {', '.join(TOOL_CHOICES)} or one of "
            f"{shown(', '.join(names))}."
        )
    chosen = {} if choice is None else {"tool_choice": choice}
    return _of_file("tools", file, {"tools": tools, **chosen})


def _tool_name(file: Path, number: int, tool: Any) -> str:
    """The name of a tool; FileError for what is no declaration."""
    if not isinstance(tool, dict) or not (name := name_of_tool(tool)):
        raise FileError(
            f"{_place(file)}: tool {number} is {brief(tool)}, expected an object with a name, "
            "description and parameters."
        )
    if foreign := sorted(tool.get("function", tool).keys() - OF_TOOL):
        raise FileError(
            f"{_place(file)}: the tool {shown(name)} has {shown(', '.join(foreign))}, expected "
            "name, description and parameters, as OpenAI's API has them."
        )
    return name


def _of_file(kind: str, file: Path, options: Mapping[str, Any]) -> GivenOption:
    """A checked option."""
    _require_of(_place(file), options)
    return GivenOption(kind, _place(file), options)


def _require_of(place: str, options: Mapping[str, Any]) -> None:
    """ConstraintError as `_require_enforceable`, with the place in front of what is wrong in it."""
    try:
        _require_enforceable(options)
    except ConstraintError as error:
        raise ConstraintError(f"{place}: ", *error.args) from None


def _require_enforceable(options: Mapping[str, Any]) -> None:
    """ConstraintError for a form that no model could be held to."""
    if form := Wanted(**options).form():
        require_automaton(form)


def _read_json(file: Path, what: str) -> Any:
    """The JSON value in a file or, for `-`, in standard input."""
    advice = "; write JSON into a file and name that" if str(file)[:1] in ("{", "[") else ""
    content = read_given_bytes(file, f"the {what}", advice)
    place = _place(file)
    if len(content) > MOST_BYTES:
        raise FileError(f"{place} is larger than {MOST_BYTES >> 20} MiB; shorten it.")
    if not content.strip():
        raise FileError(f"{place} is empty, expected JSON.")
    try:
        return parse_json(content)
    except ValueError as error:
        raise FileError(f"{place} is no JSON that can be used: {one_line(error)}.") from None


def _place(file: Path) -> str:
    return "standard input" if file == STANDARD_INPUT else str(file)
