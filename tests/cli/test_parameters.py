"""Options as fields of dataclasses: what Typer is shown of them, and what derives from them."""

from dataclasses import dataclass, fields
from inspect import signature
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from mlx_diffgemma.cli.convert.options import PackingOptions
from mlx_diffgemma.cli.explain import OPTION_OF, explain
from mlx_diffgemma.cli.options import MediaOptions
from mlx_diffgemma.cli.parameters import flag, flattened, given_options, option, option_names
from mlx_diffgemma.cli.settings_options import ModeOptions, SamplerOptions
from mlx_diffgemma.convert.quantize import RecipeOptions
from mlx_diffgemma.errors import CheckpointError, PromptError, Setting, SettingsError
from mlx_diffgemma.generation.settings import Settings


@dataclass(frozen=True)
class Brush:
    """A group of options."""

    num_hairs: int | None = option("--hairs", "How many.", "N")
    wet: bool | None = option("--wet/--dry", "Dipped before.")
    fast: bool = flag("--fast", "In one stroke.")


def run(command: Any, *arguments: str) -> Any:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    return CliRunner().invoke(app, arguments)


def test_a_command_is_given_its_groups() -> None:
    @flattened()
    def paint(wall: str = "north", *, brush: Brush) -> int:
        typer.echo(f"{wall} {brush}")
        return 0

    assert run(paint).stdout == f"north {Brush()}\n"
    assert (
        run(paint, "--hairs", "3", "--dry", "--wall", "east").stdout == f"east {Brush(3, False)}\n"
    )


def test_fields_are_left_out_or_listed_last() -> None:
    @flattened(without=("fast",), last=("num_hairs",))
    def paint(*, brush: Brush, wall: str = "north") -> int:
        typer.echo(brush)
        return 0

    assert list(signature(paint).parameters) == ["wet", "wall", "num_hairs"]
    assert run(paint, "--hairs", "3").stdout == f"{Brush(3)}\n"
    assert run(paint, "--fast").exit_code == 2


def test_options_by_the_names_that_set_them() -> None:
    assert dict(option_names(Brush)) == {"num_hairs": "--hairs", "wet": "--wet", "fast": "--fast"}


@pytest.mark.parametrize(
    ("brush", "typed"),
    [
        (Brush(), []),
        (Brush(0, False), ["--hairs", "--dry"]),
        (Brush(wet=True, fast=True), ["--wet", "--fast"]),
    ],
)
def test_given_options_are_those_that_differ_from_their_defaults(
    brush: Brush, typed: list[str]
) -> None:
    assert list(given_options(brush)) == typed


@pytest.mark.parametrize(
    ("groups", "python"),
    [((SamplerOptions, ModeOptions), Settings), ((PackingOptions,), RecipeOptions)],
)
def test_groups_have_the_fields_of_what_they_make(
    groups: tuple[type[Any], ...], python: type[Any]
) -> None:
    options = [field.name for group in groups for field in fields(group)]
    assert options == [field.name for field in fields(python)]


def test_errors_name_options_and_keep_words() -> None:
    crossed = SettingsError(Setting("t_min"), " 1 must be below ", Setting("t_max"), " 0.")
    assert explain(crossed) == ("error: --t-min 1 must be below --t-max 0.", 2)
    assert str(crossed) == "t_min 1 must be below t_max 0."
    assert explain(PromptError("lower ", Setting("gaps"), ".")) == ("error: lower --gap.", 1)
    for text in ("the seed of all", "a stop text", "/t_min/config.json: t_min is 1"):
        assert explain(CheckpointError(text)) == (f"error: {text}", 1)


def test_every_setting_that_takes_a_value_has_its_option() -> None:
    """Seed and stop once had none: they are words too."""
    for group in (SamplerOptions, ModeOptions, MediaOptions, PackingOptions):
        names = {
            each.name for each in fields(group) if bool not in (each.type, *get_args(each.type))
        }
        assert names <= set(OPTION_OF)
    assert (OPTION_OF["max_denoising_steps"], OPTION_OF["seed"]) == ("--steps", "--seed")
    assert OPTION_OF["stop"] == "--stop"
    images = {"images": "--image", "video": "--video", "image_tokens": "--image-tokens"}
    assert images.items() <= OPTION_OF.items()
    assert OPTION_OF["soft_tokens"] == "--image-tokens"  # as `prepare_image` names it
