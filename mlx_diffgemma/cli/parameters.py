"""Typer's parameters as fields of dataclasses: groups of options that several commands share.

A field says all there is to an option: its type, its default, and in the annotation the name a user
types and the help. A command takes a group as one keyword argument, and `flattened` shows Typer a
parameter for each field.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_args, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

Command = Callable[..., int]


def option(name: str, text: str, metavar: str | None = None) -> OptionInfo:
    """An option for an annotation; its help says the default itself."""
    info: OptionInfo = typer.Option(..., name, help=text, metavar=metavar, show_default=False)
    return info


def argument(metavar: str, text: str) -> ArgumentInfo:
    """An argument for an annotation; its help says the default itself."""
    info: ArgumentInfo = typer.Argument(metavar=metavar, help=text, show_default=False)
    return info


def flattened(
    *, without: Collection[str] = (), last: Sequence[str] = ()
) -> Callable[[Command], Command]:
    """Give a command one parameter for each field of the groups that it takes.

    without: fields that the command does not offer, which keep their defaults; last: fields that
    `--help` lists after all others.
    """

    def flatten(command: Command) -> Command:
        parameters = signature(command).parameters
        annotations = {name: parameter.annotation for name, parameter in parameters.items()}
        groups = {
            name: kind
            for name, kind in annotations.items()
            if isinstance(kind, type) and is_dataclass(kind)
        }
        flat = _flat(parameters, groups)
        shown = [*(name for name in flat if name not in {*without, *last}), *last]

        @wraps(command)
        def call(**given: Any) -> int:
            return command(**_grouped(given, groups))

        call.__dict__["__signature__"] = Signature([flat[name] for name in shown])
        call.__annotations__ = {name: flat[name].annotation for name in shown}
        return call

    return flatten


def _flat(
    parameters: Mapping[str, Parameter], groups: Mapping[str, type[Any]]
) -> dict[str, Parameter]:
    """The parameters in order, each group replaced by its fields."""
    flat: dict[str, Parameter] = {}
    for name, parameter in parameters.items():
        if name not in groups:
            flat[name] = parameter.replace(kind=Parameter.KEYWORD_ONLY)
            continue
        hints = get_type_hints(groups[name], include_extras=True)
        for field in fields(groups[name]):
            flat[field.name] = Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
    return flat


def _grouped(given: Mapping[str, Any], groups: Mapping[str, type[Any]]) -> dict[str, Any]:
    """The arguments that the command itself takes, from the values of all parameters."""
    rest = dict(given)
    made = {
        name: group(**{f.name: rest.pop(f.name) for f in fields(group) if f.name in rest})
        for name, group in groups.items()
    }
    return {**rest, **made}


def option_names(group: type[Any]) -> Iterator[tuple[str, str]]:
    """Each field that takes a value, with the option a user types: `t_min` and `--t-min`."""
    for name, hint in get_type_hints(group, include_extras=True).items():
        kind = get_args(hint)[0]
        if bool not in (kind, *get_args(kind)):
            yield name, _declared(hint)


def given_options(*groups: Any) -> Iterator[str]:
    """The options whose values are not the default, as a user types them."""
    for group in groups:
        hints = get_type_hints(type(group), include_extras=True)
        for field in fields(group):
            if (value := getattr(group, field.name)) != field.default:
                on, _, off = _declared(hints[field.name]).partition("/")
                yield off if value is False else on


def _declared(hint: Any) -> str:
    """The name in a field's annotation; `--on/--off` for a flag that has both."""
    _, info = get_args(hint)
    return str(info.param_decls[0])
