"""The colours of the live view and of the pictures made of it, a row for each level of certainty.

With a theme each colour has at least 4.5:1 (WCAG) on every background that the theme is for: `dark`
from black to #2e3440, `light` from white to #fbf1c7. No colour has that on both: where the
background is not known, the view's have 3.5:1 on white and on #1e1e1e. All are among the 256 that
every terminal with 256 colours has: nothing is rounded there. Pictures know their background.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np
from rich.color import ColorSystem
from rich.style import Style


class Theme(Enum):
    """A kind of background."""

    DARK = "dark"
    LIGHT = "light"


@dataclass(frozen=True)
class Level:
    """The colours of tokens that have less entropy than `below` nats, and no lower level.

    named: in terminals with 16 colours, whose palette says how a name looks on its background;
    on_both: in others whose background is not known; dark, light: where it is; on_light, on_dark:
    in pictures. label: in the legend.
    """

    below: float
    label: str
    named: str
    on_both: str
    dark: str
    light: str
    on_light: str
    on_dark: str


# Mean entropy below 0.005 nats ends denoising; a uniform draw from the whole vocabulary has 12.5.
LEVELS = (
    Level(0.05, "<0.05", "green", "#00875f", "#00d787", "#005f00", "#00784f", "#2fb585"),
    Level(0.3, "<0.3", "cyan", "#5f8700", "#87af00", "#005f87", "#4d7300", "#8fb83a"),
    Level(1.0, "<1", "yellow", "#878700", "#ffd75f", "#875f00", "#736a00", "#c9b53a"),
    Level(3.0, "<3", "magenta", "#d75f00", "#ff8700", "#d70000", "#b34d00", "#ff8f45"),
    Level(float("inf"), "more", "red", "#ff005f", "#ff87af", "#af00af", "#cf0048", "#ff7090"),
)
EDGES = np.array([level.below for level in LEVELS[:-1]], np.float32)
FAINT = {Theme.DARK: "#a8a8a8", Theme.LIGHT: "#6c6c6c"}  # what is dim and has no certainty


@dataclass(frozen=True)
class Ground:
    """A picture's background, and on it the colours of text without a certainty."""

    back: str
    text: str
    faint: str


LIGHT = Ground("#ffffff", "#1f2328", "#636363")
DARK = Ground("#1e1e1e", "#d6d6d6", "#9a9a9a")

LEVEL_OF = {level.on_both: level for level in LEVELS}


@lru_cache(maxsize=256)
def shown_as(style: Style, colours: ColorSystem | None, theme: Theme | None) -> Style:
    """The view's style as a terminal with these colours shows it, on a background if it is known.

    Of 16 colours the names count, whatever the background. A terminal makes dim text of any
    contrast: where a theme promises one, it is grey, or slanted where its colour is its certainty.
    """
    if colours is None:
        return style.without_color
    level = LEVEL_OF.get(style.color.name) if style.color else None
    if colours is ColorSystem.STANDARD:
        return style + Style(color=level.named) if level else style
    if theme is None:
        return style
    if style.dim and level is None:
        return style + Style(dim=False, color=FAINT[theme])
    if level is None:
        return style
    slanted = Style(dim=False, italic=True) if style.dim else Style()
    return style + slanted + Style(color=level.dark if theme is Theme.DARK else level.light)
