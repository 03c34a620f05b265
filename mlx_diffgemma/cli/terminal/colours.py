"""The colours of the live view and of the pictures made of it, a row for each level of certainty.

A terminal does not say how its background looks, and no colour has 4.5:1 (WCAG) both on white and
on #1e1e1e. So the view's have at least 3.5:1 on both, and are among the 256 that every terminal
with 256 colours has: nothing is rounded there. Pictures know their background: 4.5:1 and more.
"""

from dataclasses import dataclass
from functools import lru_cache

from rich.style import Style

from ...generation.certainty import CERTAINTIES, Certainty


@dataclass(frozen=True)
class Level(Certainty):
    """A level of certainty with its colours in a terminal; those on light and dark are a picture's.

    on_both: whatever the background; named: in terminals with 16 colours, whose theme says how a
    name looks on its background.
    """

    on_both: str
    named: str


_IN_TERMINALS = (
    ("#00875f", "green"),
    ("#5f8700", "cyan"),
    ("#878700", "yellow"),
    ("#d75f00", "magenta"),
    ("#ff005f", "red"),
)
LEVELS = tuple(
    Level(**vars(certainty), on_both=on_both, named=named)
    for certainty, (on_both, named) in zip(CERTAINTIES, _IN_TERMINALS, strict=True)
)
LEVEL_OF = {level.on_both: level for level in LEVELS}


@lru_cache(maxsize=128)
def named(style: Style) -> Style:
    """The style with a name of the terminal's own palette in place of a level's colour."""
    level = LEVEL_OF.get(style.color.name) if style.color else None
    return style + Style(color=level.named) if level else style
