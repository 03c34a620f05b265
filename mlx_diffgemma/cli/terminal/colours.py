"""The colours of the live view and of the pictures made of it, a row for each level of certainty.

A terminal does not say how its background looks, and no colour has 4.5:1 (WCAG) both on white and
on #1e1e1e. So the view's have at least 3.5:1 on both, and are among the 256 that every terminal
with 256 colours has: nothing is rounded there. Pictures know their background: 4.5:1 and more.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rich.style import Style


@dataclass(frozen=True)
class Level:
    """The colours of tokens that have less entropy than `below` nats, and no lower level.

    on_both: for terminals, whatever their background; named: for those with 16 colours, whose theme
    says how a name looks on its background; on_light, on_dark: for pictures. label: in the legend.
    """

    below: float
    label: str
    on_both: str
    named: str
    on_light: str
    on_dark: str


# Mean entropy below 0.005 nats ends denoising; a uniform draw from the whole vocabulary has 12.5.
LEVELS = (
    Level(0.05, "<0.05", "#00875f", "green", "#00784f", "#2fb585"),
    Level(0.3, "<0.3", "#5f8700", "cyan", "#4d7300", "#8fb83a"),
    Level(1.0, "<1", "#878700", "yellow", "#736a00", "#c9b53a"),
    Level(3.0, "<3", "#d75f00", "magenta", "#b34d00", "#ff8f45"),
    Level(float("inf"), "more", "#ff005f", "red", "#cf0048", "#ff7090"),
)
EDGES = np.array([level.below for level in LEVELS[:-1]], np.float32)


@dataclass(frozen=True)
class Ground:
    """A picture's background, and on it the colours of text without a certainty."""

    back: str
    text: str
    faint: str


LIGHT = Ground("#ffffff", "#1f2328", "#636363")
DARK = Ground("#1e1e1e", "#d6d6d6", "#9a9a9a")

LEVEL_OF = {level.on_both: level for level in LEVELS}


@lru_cache(maxsize=128)
def named(style: Style) -> Style:
    """The style with a name of the terminal's own palette in place of a level's colour."""
    level = LEVEL_OF.get(style.color.name) if style.color else None
    return style + Style(color=level.named) if level else style
