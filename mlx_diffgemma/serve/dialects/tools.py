"""Tools and forms of a request: declarations, the choice among them, and what can be enforced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ...constrain.form import Form, require_automaton
from ...conversation.form import Wanted
from ...errors import ConstraintError, Setting, SettingsError, brief
from ..refusal import Refusal
from .fields import Fields, invalid

Tool = dict[str, Any]
"""A declaration as chat templates take it: {"type": "function", "function": {...}}."""


def declaration(about: Fields, parameters: str = "parameters") -> Tool:
    """The declaration of a function: `name`, `description`, and a schema in the field `parameters`.

    Refusal for no name, or for a schema that is no object; the names of all are looked at by
    `checked`.
    """
    name = about.needed_text("name")
    if not name:
        raise about.wrong("name", "the name of a tool")
    schema = about.object(parameters)
    told = {"type": "object", "properties": {}, **(schema.value if schema else {})}
    function = {"name": name, "description": about.text("description") or "", "parameters": told}
    return {"type": "function", "function": function}


def not_here(tool: Fields) -> str:
    """A line for a tool of a type that only its maker's own servers, or models, know."""
    named = [brief(tool.value["name"])] if tool.has("name") else []
    said = ", ".join([*named, f"of type {brief(tool.value['type'])}"])
    return f"{tool.path} ({said}) is not here, and is not used."


def chosen(tools: Sequence[Tool], names: Sequence[str], path: str) -> tuple[Tool, ...]:
    """The tools of some names; Refusal for one that is not declared. path: of the choice."""
    known = {tool["function"]["name"]: tool for tool in tools}
    for name in names:
        if name not in known:
            listed = ", ".join(known) or "no tools"
            raise invalid(path, f"names the tool {name!r}, expected one of tools: {listed}.")
    return tuple(known[name] for name in names)


def checked(wanted: Wanted, names: Mapping[str, str], stop: Sequence[str] = ()) -> Wanted:
    """The same, where it can be enforced; Refusal before any work for what cannot.

    names: the request's fields for "schema", "tools", "tool_choice" and "stop". An automaton is
    made here, which may take a second.
    """
    with _refusing(names, "schema"):
        text = wanted.text_form()
    with _refusing(names, "tools"):
        calls = wanted.calls_form()
    form = wanted.joined(text, calls)
    if form is None:
        return wanted
    field = "tools" if form is calls else "schema"
    with _refusing(names, field):
        _require_automaton(form, calls, names)
    if stop:
        raise invalid(
            names["stop"],
            f"is given beside {names[field]}, which says the form of the answer, and could cut it "
            "where it is not whole; leave one of both out.",
        )
    return wanted


def _require_automaton(form: Form, calls: Form | None, names: Mapping[str, str]) -> None:
    """ConstraintError for a form that is too large; a Refusal where the calls in it are, alone."""
    try:
        require_automaton(form)
    except ConstraintError:
        if calls is not None and calls is not form:
            with _refusing(names, "tools"):
                require_automaton(calls)
        raise


@contextmanager
def _refusing(names: Mapping[str, str], field: str) -> Iterator[None]:
    """Errors of a form become refusals; field: the one of `names` that they are about."""
    try:
        yield
    except ConstraintError as error:
        said = f"{names[field]}: {error.told(names)}"
        raise Refusal("invalid", said, names[field]) from None
    except SettingsError as error:
        raise setting_refused(error, names) from None


def setting_refused(error: SettingsError, names: Mapping[str, str]) -> Refusal:
    """The refusal of a setting out of its range; names: the request's fields of settings."""
    first = next((str(part) for part in error.args if isinstance(part, Setting)), None)
    param = None if first is None else names.get(first, first)
    return Refusal("invalid", error.told(names), param)
