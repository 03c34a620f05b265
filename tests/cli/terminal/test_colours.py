"""Every colour can be read on every background that it may stand on."""

import re
from itertools import product
from pathlib import Path

import pytest
from contrast import contrast
from rich.color import Color, ColorSystem
from rich.segment import Segment

from mlx_diffgemma.cli.terminal.colours import LEVELS, Theme, shown_as
from mlx_diffgemma.cli.terminal.legend import explained, legend
from mlx_diffgemma.cli.terminal.picture import DIM_STYLES, FAINT, TOKEN_STYLES
from mlx_diffgemma.cli.terminal.screen import ansi
from mlx_diffgemma.generation.certainty import DARK, LIGHT, Ground

PAGE = Path(__file__).parents[3] / "docs" / "live-view.md"
# Each theme's outermost backgrounds, and usual ones between them: black, VS Code, Dracula,
# Solarized, Nord; white, Solarized, Catppuccin Latte, Gruvbox.
BACKGROUNDS = {
    Theme.DARK: ("#000000", "#1e1e1e", "#282a36", "#002b36", "#2e3440"),
    Theme.LIGHT: ("#ffffff", "#fdf6e3", "#eff1f5", "#fbf1c7"),
}
CUBE = (0, 95, 135, 175, 215, 255)


def test_the_ratio_is_wcags() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def used_on_screens() -> set[str]:
    """The colours that any token or the legend may have."""
    styles = [*TOKEN_STYLES, *DIM_STYLES, *(segment.style for segment in legend())]
    return {style.color.name for style in styles if style and style.color}


@pytest.mark.parametrize("ground", [LIGHT, DARK])
def test_the_views_colours_can_be_read_on_white_and_on_black(ground: Ground) -> None:
    """Bug: yellow had 2.2:1 on white, olive 2.4:1."""
    assert used_on_screens() == {level.on_both for level in LEVELS}
    for colour in used_on_screens():
        assert contrast(colour, ground.back) >= 3.5, colour


def rgb(number: int) -> str:
    """One of 256 colours, as xterm's palette has those that no theme changes."""
    if number >= 232:
        return "#" + 3 * f"{8 + 10 * (number - 232):02x}"
    r, g, b = ((number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6)
    return f"#{CUBE[r]:02x}{CUBE[g]:02x}{CUBE[b]:02x}"


def written(theme: Theme, colours: ColorSystem) -> set[str]:
    """The colours that a terminal gets for all that the view can show."""
    styles = [*TOKEN_STYLES, *DIM_STYLES, FAINT, *(s.style for s in explained(200, ["auto"])[0])]
    shown = [shown_as(style, colours, theme) for style in styles if style]
    named = {style.color for style in shown if style.color}
    if colours is ColorSystem.TRUECOLOR:
        return {color.name for color in named}
    return {rgb(color.downgrade(colours).number or 0) for color in named}


@pytest.mark.parametrize("theme", Theme)
@pytest.mark.parametrize("colours", [ColorSystem.EIGHT_BIT, ColorSystem.TRUECOLOR])
def test_a_themes_colours_have_the_contrast_of_text(theme: Theme, colours: ColorSystem) -> None:
    """Bug: 3.5:1, and dim text less than that, however the terminal dims it."""
    shades = written(theme, colours)
    assert len(shades) == len(LEVELS) + 1  # and what is faint
    for colour, back in product(shades, BACKGROUNDS[theme]):
        assert contrast(colour, back) >= 4.5, (colour, back)


@pytest.mark.parametrize("theme", Theme)
def test_a_theme_dims_nothing(theme: Theme) -> None:
    """What is dim keeps its certainty's colour, slanted, or is grey."""
    line = tuple(Segment("x", style) for style in [*DIM_STYLES, FAINT])
    escapes = re.findall(r"\x1b\[([\d;]*)m", "".join(ansi(line, ColorSystem.EIGHT_BIT, theme)))
    parts = [escape.replace("38;5;", "").split(";") for escape in escapes[::2]]
    assert not any("2" in each for each in parts)
    assert ["3" in each for each in parts] == [True] * len(DIM_STYLES) + [False]


def test_the_views_colours_are_the_same_with_256_colours() -> None:
    """macOS's own terminal had no more for a long time; rounding would change the contrast."""
    for colour in used_on_screens():
        number = Color.parse(colour).downgrade(ColorSystem.EIGHT_BIT).number
        assert number is not None
        assert colour == rgb(number)
    for colour in (shade for level in LEVELS for shade in (level.dark, level.light)):
        assert colour == rgb(Color.parse(colour).downgrade(ColorSystem.EIGHT_BIT).number or 0)


def test_of_16_colours_each_level_has_another() -> None:
    """Their names, which the terminal's theme fits to its background; bold and the like stay."""
    for theme in (None, *Theme):
        escapes = "".join(ansi(legend(), ColorSystem.STANDARD, theme))
        assert re.findall(r"\x1b\[3(\d)m", escapes) == ["2", "6", "3", "5", "1"]
    (bold,) = ansi((Segment("x", TOKEN_STYLES[5]),), ColorSystem.STANDARD)
    assert bold.startswith("\x1b[1;32m")


@pytest.mark.parametrize("ground", [LIGHT, DARK])
def test_a_pictures_colours_can_be_read_on_its_own_background(ground: Ground) -> None:
    levels = [level.on_light if ground is LIGHT else level.on_dark for level in LEVELS]
    for colour in (ground.text, ground.faint, *levels):
        assert contrast(colour, ground.back) >= 4.5, colour


def test_the_page_has_every_level() -> None:
    content = PAGE.read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (?:below )?([\d.]+)[^|]*\|([^|]+)\|([^|]+)\|([^|]+)\|$", content, re.MULTILINE
    )
    assert [float(row[0]) for row in rows] == [*(level.below for level in LEVELS[:-1]), 3.0]
    names = [[word.strip() for word in column] for column in list(zip(*rows, strict=True))[1:]]
    assert [len(set(column)) for column in names] == [len(LEVELS)] * 3
