"""The colours of the live view and of the pictures made of it, a row for each level of certainty.

With a theme each colour has at least 4.5:1 (WCAG) on every background that the theme is for: `dark`
from black to #2e3440, `light` from white to #fbf1c7. No colour has that on both: where the
background is not known, the view's have 3.5:1 on white and on #1e1e1e. All are among the 256 that
every terminal with 256 colours has: nothing is rounded there. Pictures know their background.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from rich.color import ColorSystem
from rich.style import Style

from ...generation.certainty import CERTAINTIES, Certainty


class Theme(Enum):
    """A kind of background."""

    DARK = "dark"
    LIGHT = "light"


@dataclass(frozen=True)
class Level(Certainty):
    """A level of certainty with its colours in a terminal; those on light and dark are a picture's.

    named: in those with 16 colours, whose palette says how a name looks on its background; on_both:
    in others whose background is not known; dark, light: where it is.
    """

    named: str
    on_both: str
    dark: str
    light: str


_IN_TERMINALS = (
    ("green", "#00875f", "#00d787", "#005f00"),
    ("cyan", "#5f8700", "#87af00", "#005f87"),
    ("yellow", "#878700", "#ffd75f", "#875f00"),
    ("magenta", "#d75f00", "#ff8700", "#d70000"),
    ("red", "#ff005f", "#ff87af", "#af00af"),
)
"""named, on_both, dark and light of each level of CERTAINTIES."""

LEVELS = tuple(
    Level(**vars(certainty), named=named, on_both=on_both, dark=dark, light=light)
    for certainty, (named, on_both, dark, light) in zip(CERTAINTIES, _IN_TERMINALS, strict=True)
)
FAINT = {Theme.DARK: "#a8a8a8", Theme.LIGHT: "#6c6c6c"}  # what is dim and has no certainty
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
