"""Typer's parameters as fields of dataclasses: groups of options that several commands share.

A field says all there is to an option: its type, its default, the name a user types and the help. A
command takes a group as one argument, and `flattened` shows Typer a parameter for each field.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from typer.models import OptionInfo

Command = Callable[..., int]
INFO = "typer"  # the key of what Typer is to know of a field, in the field's metadata
PLACE = "place"  # the key of what is true of a field for the names of files
VALUES = "values"  # the key of what completion offers for a field


@dataclass(frozen=True)
class Values:
    """The values that completion offers for a parameter whose type does not tell them."""

    all: Callable[[], Iterable[str]]


def option(
    name: str,
    text: str,
    metavar: str | None = None,
    *,
    default: Any = None,
    place: bool = False,
    short: str | None = None,
    values: Values | None = None,
) -> Any:
    """A field that is an option; its help says the default itself.

    place: its text may be the name of a file or folder, whose bytes need not be UTF-8; short: the
    letter that stands for its name, such as -m; values: what completion offers.
    """
    names = (name, short) if short else (name,)
    info = typer.Option(..., *names, help=text, metavar=metavar, show_default=False)
    return field(default=default, metadata={INFO: info, PLACE: place, VALUES: values})


def flag(name: str, text: str) -> Any:
    """A field that is an option without a value: True where it is typed."""
    return option(name, text, default=False)


def argument(
    metavar: str,
    text: str,
    *,
    default: Any = None,
    place: bool = False,
    values: Values | None = None,
) -> Any:
    """A field that is an argument, a required one with MISSING as its default.

    place, values: as for `option`.
    """
    info = typer.Argument(metavar=metavar, help=text, show_default=False)
    return field(default=default, metadata={INFO: info, PLACE: place, VALUES: values})


def choices(annotation: Any) -> tuple[str, ...]:
    """The values of a parameter that has few, by its annotation; none for any other."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return next(filter(None, map(choices, get_args(annotation))), ())
    return ()


def source(ctx: typer.Context, name: str) -> str:
    """Where the value of a parameter is from: COMMANDLINE, DEFAULT_MAP for the config file, ..."""
    found = ctx.get_parameter_source(name)
    return "" if found is None else found.name


def flattened(
    *, without: Collection[str] = (), last: Sequence[str] = ()
) -> Callable[[Command], Command]:
    """Give a command one parameter for each field of the groups that it takes.

    without: fields that the command does not offer, which keep their defaults; last: fields that
    `--help` lists after all others.
    """

    def flatten(command: Command) -> Command:
        parameters = signature(command).parameters
        groups = {
            name: parameter.annotation
            for name, parameter in parameters.items()
            if is_dataclass(parameter.annotation)
        }
        flat = _flat(parameters, groups)
        shown = [*(name for name in flat if name not in {*without, *last}), *last]

        @wraps(command)
        def call(**given: Any) -> int:
            for group in groups.values():
                _require_utf8(group, given)
            return command(**_grouped(given, groups))

        call.__dict__["__signature__"] = Signature([flat[name] for name in shown])
        call.__annotations__ = {name: flat[name].annotation for name in shown}
        return call

    return flatten


def _flat(parameters: Mapping[str, Parameter], groups: Mapping[str, Any]) -> dict[str, Parameter]:
    """The parameters in order, each group replaced by its fields."""
    flat: dict[str, Parameter] = {}
    for name, parameter in parameters.items():
        if name in groups:
            flat |= {each.name: _parameter(each) for each in fields(groups[name])}
        else:
            flat[name] = parameter.replace(kind=Parameter.KEYWORD_ONLY)
    return flat


def _parameter(field: Field[Any]) -> Parameter:
    default = Parameter.empty if field.default is MISSING else field.default
    marks = [PLACE] if field.metadata[PLACE] else []
    marks += filter(None, [field.metadata[VALUES]])
    annotation = Annotated[field.type, field.metadata[INFO], *marks]  # type: ignore[name-defined]
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _grouped(given: Mapping[str, Any], groups: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the command itself takes, from the values of all parameters."""
    rest = dict(given)
    made = {
        name: group(**{f.name: rest.pop(f.name) for f in fields(group) if f.name in rest})
        for name, group in groups.items()
    }
    return {**rest, **made}


def _require_utf8(group: Any, given: Mapping[str, Any]) -> None:
    """Wrong arguments where a text is not UTF-8: Python reads such a byte as half a surrogate pair.

    A file's name is no text: it is kept as it is.
    """
    for each in fields(group):
        values = given.get(each.name)
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str) or each.metadata[PLACE]:
                continue
            try:
                value.encode()
            except UnicodeEncodeError as error:
                byte = ord(value[error.start]) & 0xFF
                raise typer.BadParameter(
                    f"not UTF-8 (byte 0x{byte:02x} at character {error.start + 1:,}), expected a "
                    "text in UTF-8",
                    param_hint=_typed(each),
                ) from None


def option_names(group: Any) -> Iterator[tuple[str, str]]:
    """Each option with the name a user types to set it: `t_min` and `--t-min`."""
    for each in fields(group):
        if isinstance(each.metadata[INFO], OptionInfo):
            yield each.name, _typed(each).partition("/")[0]


def given_options(*groups: Any) -> Iterator[str]:
    """The options whose values are not the default, as a user types them."""
    for group in groups:
        for each in fields(group):
            if (value := getattr(group, each.name)) != each.default:
                on, _, off = _typed(each).partition("/")
                yield off if value is False else on


def _typed(field: Field[Any]) -> str:
    """The name of a field's option; `--on/--off` for a flag that has both."""
    info = field.metadata[INFO]
    return str(info.param_decls[0]) if info.param_decls else str(info.metavar)
