"""The config file's values as defaults of a command's options, under click's own mechanism.

A value rests, without a word, where it does not go with what is typed or with the model: somebody
who typed nothing wrong is not to be stopped by a default of his own.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from ..errors import CheckpointError, ConfigFileError, DiffGemmaError, Setting, SettingsError, brief
from .parameters import choices, source

if TYPE_CHECKING:
    from ..checkpoint.config import ModelConfig
    from ..machine.user_config import UserConfig


class Defaults(dict[str, Any]):
    """What click asks for the default of an option; the file is read at the first question."""

    @cached_property
    def config(self) -> "UserConfig":
        """The file's content."""
        from ..machine.user_config import read_user_config

        return read_user_config()

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an option; `model` has the environment between, see `default_model`."""
        return default if name == "model" else self.config.values.get(name, default)


class ConfiguredCommand(TyperCommand):
    """A command whose options may have their defaults in the config file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's; ConfigFileError for a value of the file's that is no choice of its option."""
        ctx.default_map = defaults = Defaults()
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            name = getattr(error.param, "name", None)
            if name is None or source(ctx, name) != "DEFAULT_MAP":
                raise
            raise self._no_choice(defaults.config, name) from None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As Typer's, without the file: a broken one must not keep the help away."""
        ctx.default_map = None
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error about a value of the file's names its place."""
        config: UserConfig = ctx.default_map.config
        self._let_rest(ctx)
        try:
            return super().invoke(ctx)
        except DiffGemmaError as error:
            used = [name for name in ctx.params if source(ctx, name) == "DEFAULT_MAP"]
            raise blamed(error, config, used) from None

    def _let_rest(self, ctx: Any) -> None:
        """Put the program's own default in the place of each value that rests."""
        typed = [name for name in ctx.params if source(ctx, name) == "COMMANDLINE"]
        given = Given(dict(ctx.params), typed)
        for param in self.params:
            name = param.name
            if name and source(ctx, name) == "DEFAULT_MAP" and given.rests(name):
                ctx.params[name] = param.default
                ctx.set_parameter_source(name, type(ctx.get_parameter_source(name)).DEFAULT)

    def _no_choice(self, config: "UserConfig", name: str) -> ConfigFileError:
        found = choices(signature(self.callback).parameters[name].annotation)  # type: ignore[arg-type]
        *others, last = found or ("another value",)
        expected = f"{', '.join(others)} or {last}" if others else last
        said = f"{config.place(name)}: {name} is {brief(config.values[name])}"
        return ConfigFileError(f"{said}, expected {expected}.")


def blamed(error: DiffGemmaError, config: "UserConfig", used: Collection[str]) -> DiffGemmaError:
    """The error with the place of each setting that is the file's.

    A value out of its range is then no wrong usage, but a wrong file.
    """
    if not any(isinstance(part, Setting) and part in used for part in error.args):
        return error
    parts = []
    for number, part in enumerate(error.args):
        if isinstance(part, Setting) and part in used:
            place = config.place(part)
            part = f"{part} ({place})" if number else f"{place}: {part}"
        parts.append(part)
    if isinstance(error, SettingsError):
        return ConfigFileError(*parts)
    error.args = tuple(parts)
    return error


@dataclass(frozen=True)
class Given:
    """The values of all options, and which of them are typed."""

    values: Mapping[str, Any]
    typed: Collection[str]

    def rests(self, name: str) -> bool:
        """True where a value of the file's does not go with what is typed, or with the model."""
        rule = RESTS.get(name)
        return rule is not None and rule(self)

    @cached_property
    def model(self) -> "ModelConfig | None":
        """The config of the model that is asked for; None where it is not here, or broken."""
        from ..checkpoint.config import read_config
        from ..checkpoint.default import default_model
        from ..checkpoint.hub import known_folder

        name = self.values.get("model")
        folder = known_folder(default_model() if name is None else name)
        with suppress(CheckpointError):  # the command itself says what is wrong with it
            return None if folder is None else read_config(folder)
        return None


def _think_rests(given: Given) -> bool:
    """--raw has no template, and a model of one task was trained without thought or system text."""
    return bool(given.values.get("raw")) or (given.model is not None and bool(given.model.task))


def _system_rests(given: Given) -> bool:
    """As a thought; and a conversation that is loaded has its own."""
    return given.values.get("load") is not None or _think_rests(given)


def _mode_rests(given: Given) -> bool:
    """An option of another mode is typed, or the model was trained for canvases alone."""
    from ..generation.settings import MODES, OF_MODES

    mode = given.values["mode"]
    if any(mode not in OF_MODES.get(name, MODES) for name in given.typed):
        return True
    return mode != "diffusion" and given.model is not None and "ar" not in given.model.modes


def _max_tokens_rests(given: Given) -> bool:
    """The model does not hold as many behind any prompt."""
    if (config := given.model) is None:
        return False
    C = config.canvas_length
    needed: int = 1 + -(-given.values["max_tokens"] // C) * C
    return needed > config.text.max_position_embeddings


RESTS: Mapping[str, Callable[[Given], bool]] = {
    "system": _system_rests,
    "think": _think_rests,
    "mode": _mode_rests,
    "max_tokens": _max_tokens_rests,
}
"""A key -> the test that its value rests."""
