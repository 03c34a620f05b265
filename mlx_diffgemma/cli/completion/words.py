"""The words that may stand at the cursor, by the commands and options that Typer is told of.

Nothing is parsed and no file read but the folder of cached models: this runs at every press of Tab.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import getdoc, signature
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from typer.models import OptionInfo, ParameterInfo

from ..parameters import PLACE, Values, choices

HELP = ("--help", "Show this message and exit.")
MOST_HELP = 60  # characters of the help behind a word

Word = tuple[str, str]
"""A word and the help on it."""


@dataclass(frozen=True)
class Offer:
    """Words for the place at the cursor; files: a file or a folder may stand there too."""

    words: tuple[Word, ...] = ()
    files: bool = False


@dataclass(frozen=True)
class Parameter:
    """An option, or an argument, which has no names."""

    info: ParameterInfo
    annotation: Any
    marks: Sequence[Any]  # what else the annotation says

    @cached_property
    def names(self) -> list[str]:
        """The option as it is typed, `--no-think` for one that switches it off included."""
        if not isinstance(self.info, OptionInfo):
            return []
        return [name for text in self.info.param_decls or () for name in text.split("/")]

    @property
    def takes_value(self) -> bool:
        """True where the next word belongs to the option."""
        return bool not in _types(self.annotation)

    @property
    def repeats(self) -> bool:
        """True for an option that may be typed more than once."""
        return list in _types(self.annotation)

    def offer(self) -> Offer:
        """The values of the option or argument."""
        if few := choices(self.annotation):
            return Offer(tuple((value, "") for value in few))
        for mark in self.marks:
            if isinstance(mark, Values):
                return Offer(tuple((value, "") for value in mark.all()))
        placed = PLACE in self.marks
        names = _model_names() if placed and not self.repeats else []
        return Offer(
            tuple((name, "model") for name in names),
            files=placed or Path in _types(self.annotation),
        )


@dataclass(frozen=True)
class Command:
    """A command of the program, or the program itself, and the commands below it."""

    callback: Callable[..., Any]
    help: str = ""
    commands: Mapping[str, "Command"] = field(default_factory=dict)

    @cached_property
    def parameters(self) -> Sequence[Parameter]:
        """Its options and arguments, in order."""
        return [
            p for each in signature(self.callback).parameters.values() for p in _parameter(each)
        ]

    @property
    def arguments(self) -> list[Parameter]:
        """The parameters without a name."""
        return [parameter for parameter in self.parameters if not parameter.names]

    def option(self, name: str) -> Parameter | None:
        """The option of a name, as it is typed."""
        return next((each for each in self.parameters if name in each.names), None)


def offer(program: Command, words: Sequence[str], current: str) -> Offer:
    """What may stand at the cursor; words: those before it, current: the part that is typed."""
    command, waiting, typed, count, ended = program, None, set(), 0, False
    for word in words:
        if word == "=":  # bash makes a word of it
            continue
        if waiting is not None:
            waiting = None
        elif word == "--":
            ended = True
        elif word.startswith("-") and not ended:
            typed.add(word.partition("=")[0])
            option = command.option(word)
            waiting = option if option is not None and option.takes_value else None
        elif word in command.commands and not count:
            command, typed = command.commands[word], set()
        else:
            count += 1
    if waiting is not None:
        return waiting.offer()
    if current.startswith("-") and not ended:
        return _options(command, typed, current)
    return _places(command, count)


def _options(command: Command, typed: set[str], current: str) -> Offer:
    """The options that are still to be typed, or behind an = the values of one."""
    name, behind, _ = current.partition("=")
    if behind:
        option = command.option(name)
        return option.offer() if option is not None and option.takes_value else Offer()
    words = [
        (name, _short(option.info.help or ""))
        for option in command.parameters
        if option.repeats or typed.isdisjoint(option.names)
        for name in option.names
    ]
    return Offer((*words, HELP))


def _places(command: Command, count: int) -> Offer:
    """The commands below a command, or what the argument behind `count` others may be."""
    if command.commands and not count:
        return Offer(tuple((name, each.help) for name, each in command.commands.items()))
    arguments = command.arguments
    return arguments[count].offer() if count < len(arguments) else Offer()


def program_of(app: typer.Typer) -> Command:
    """The commands of a Typer app, without building them."""
    below: dict[str, Command] = {}
    for info in app.registered_commands:
        if info.name and info.callback:
            below[info.name] = Command(info.callback, _help(info.short_help, info.callback))
    for group in app.registered_groups:
        if group.name and group.typer_instance:
            inner = program_of(group.typer_instance)
            text = _help(group.short_help, inner.callback)
            below[group.name] = replace(inner, help=text)
    own = app.registered_callback
    return Command(own.callback if own and own.callback else lambda: None, "", below)


def _parameter(parameter: Any) -> Iterator[Parameter]:
    """An option or an argument; nothing for what Typer passes by itself."""
    marks = getattr(parameter.annotation, "__metadata__", ())
    info = next((mark for mark in marks if isinstance(mark, ParameterInfo)), None)
    if info is not None:
        yield Parameter(info, parameter.annotation.__origin__, marks)


def _types(annotation: Any) -> set[Any]:
    """The types in an annotation such as `list[Path] | None`."""
    inside = {each for part in get_args(annotation) for each in _types(part)}
    return {get_origin(annotation) or annotation, *inside} if _is_type(annotation) else inside


def _is_type(annotation: Any) -> bool:
    return isinstance(get_origin(annotation) or annotation, type)


def _help(short: object, callback: Callable[..., Any]) -> str:
    """The help of a command in its own words, else its docstring's first sentence."""
    return short if isinstance(short, str) else _short(getdoc(callback) or "")


def _short(text: str) -> str:
    sentence = " ".join(text.split()).partition(". ")[0].rstrip(".")
    return sentence if len(sentence) <= MOST_HELP else sentence[: MOST_HELP - 3].rstrip() + "..."


def _model_names() -> list[str]:
    from ...assets import EMBEDDED
    from ...checkpoint.cache import cached_names

    return [*EMBEDDED, *cached_names()]
