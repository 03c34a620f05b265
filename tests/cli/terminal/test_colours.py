"""Every colour can be read on every background that it may stand on."""

import re
from itertools import product
from pathlib import Path

import pytest
from contrast import contrast
from rich.color import Color, ColorSystem
from rich.segment import Segment

from mlx_diffgemma.cli.terminal.colours import LEVELS
from mlx_diffgemma.cli.terminal.picture import DIM_STYLES, TOKEN_STYLES, legend
from mlx_diffgemma.cli.terminal.screen import ansi
from mlx_diffgemma.generation.certainty import DARK, LIGHT, Ground

PAGE = Path(__file__).parents[3] / "docs" / "live-view.md"


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


def test_the_views_colours_are_the_same_with_256_colours() -> None:
    """macOS's own terminal had no more for a long time; rounding would change the contrast."""
    cube = (0, 95, 135, 175, 215, 255)
    shades = {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in product(cube, repeat=3)}
    assert used_on_screens() <= shades
    for colour in used_on_screens():
        number = Color.parse(colour).downgrade(ColorSystem.EIGHT_BIT).number
        assert number is not None
        r, g, b = ((number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6)
        assert colour == f"#{cube[r]:02x}{cube[g]:02x}{cube[b]:02x}"


def test_of_16_colours_each_level_has_another() -> None:
    """Their names, which the terminal's theme fits to its background; bold and the like stay."""
    escapes = ["".join(ansi(legend(), ColorSystem.STANDARD))]
    assert re.findall(r"\x1b\[3(\d)m", escapes[0]) == ["2", "6", "3", "5", "1"]
    (bold,) = ansi((Segment("x", TOKEN_STYLES[5]),), ColorSystem.STANDARD)
    assert bold.startswith("\x1b[1;32m")


@pytest.mark.parametrize("ground", [LIGHT, DARK])
def test_a_pictures_colours_can_be_read_on_its_own_background(ground: Ground) -> None:
    levels = [level.on_light if ground is LIGHT else level.on_dark for level in LEVELS]
    for colour in (ground.text, ground.faint, *levels):
        assert contrast(colour, ground.back) >= 4.5, colour


def test_the_page_has_every_level() -> None:
    content = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w-]+) \| (?:below )?([\d.]+)", content, re.MULTILINE)[: len(LEVELS)]
    assert [name for name, _ in rows] == ["green", "yellow-green", "olive", "orange", "red"]
    assert [float(nats) for _, nats in rows] == [*(level.below for level in LEVELS[:-1]), 3.0]
