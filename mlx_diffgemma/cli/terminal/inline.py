"""An image between the lines of a terminal, where it has kitty's protocol or iTerm2's.

A terminal with neither could print the bytes as text, so only those are written to that their
environment names; none under tmux, screen and zellij, which may keep or drop such bytes. Nothing is
asked of the terminal: here no view has hushed the keys, and its answer would be typed text.

Sources: https://sw.kovidgoyal.net/kitty/graphics-protocol/ and
https://iterm2.com/documentation-images.html.
"""

import os
import sys
from base64 import standard_b64encode
from collections.abc import Iterator, Mapping
from enum import Enum

from .keys import in_foreground
from .signals import signals_held
from .streams import can_draw, detach, window

CHUNK = 4096  # base64 bytes of one of kitty's escapes
MOST_ROWS = 12
CELL = 2  # a cell is about so many times as high as it is wide
MULTIPLEXERS = ("TMUX", "STY", "ZELLIJ")  # variables of programs between us and the terminal


class Protocol(Enum):
    """The protocols for an image within the text."""

    KITTY = "kitty"
    ITERM = "iTerm2"


TERMS = {"xterm-kitty": Protocol.KITTY, "xterm-ghostty": Protocol.KITTY}
PROGRAMS = {
    "kitty": Protocol.KITTY,
    "ghostty": Protocol.KITTY,
    "iTerm.app": Protocol.ITERM,
    "WezTerm": Protocol.ITERM,
}


def protocol(environ: Mapping[str, str] = os.environ) -> Protocol | None:
    """The protocol of the terminal that the environment describes; None where none is sure.

    $TERM says it best, as it comes along over ssh; a $TERM_PROGRAM that is not known has none,
    whatever an outer terminal has left in other variables. $NO_COLOR switches images off, too.
    """
    term = environ.get("TERM", "")
    between = any(map(environ.get, MULTIPLEXERS)) or term.startswith(("tmux", "screen"))
    if between or environ.get("NO_COLOR"):
        return None
    if term in TERMS:
        return TERMS[term]
    if program := environ.get("TERM_PROGRAM"):
        return PROGRAMS.get(program)
    if environ.get("LC_TERMINAL") == Protocol.ITERM.value:
        return Protocol.ITERM
    return Protocol.KITTY if environ.get("KITTY_WINDOW_ID") else None


def can_show() -> bool:
    """Test that standard error is a terminal that shows images, and that it is ours to write to."""
    return can_draw(sys.stderr) and protocol() is not None and in_foreground(sys.stderr.fileno())


def show_image(png: bytes, width: int, height: int) -> None:
    """Show an image of `width` x `height` pixels on standard error, small; nothing where it cannot.

    Signals wait: half an escape would swallow the text behind it.
    """
    if not can_show() or (kind := protocol()) is None:
        return
    columns, rows = window()
    box = _box(width / height, columns - 1, min(MOST_ROWS, rows // 2))
    if box is None:
        return
    with signals_held():
        try:
            for part in escapes(png, kind, *box):
                sys.stderr.write(part)
            sys.stderr.write("\n")
            sys.stderr.flush()
        except OSError:  # the terminal is gone
            detach(sys.stderr)


def _box(ratio: float, columns: int, rows: int) -> tuple[str, int] | None:
    """The side that bounds an image, "width" or "height", and its cells; None without room."""
    if columns < 1 or rows < 1:
        return None
    if rows * CELL * ratio > columns:
        return "width", columns
    return "height", rows


def escapes(png: bytes, kind: Protocol, side: str, cells: int) -> Iterator[str]:
    """The bytes that show an image so many cells wide or high, its other side in proportion."""
    content = standard_b64encode(png).decode("ascii")
    if kind is Protocol.ITERM:
        yield f"\x1b]1337;File=inline=1;{side}={cells};preserveAspectRatio=1:{content}\x07"
        return
    keys = f"a=T,f=100,{'c' if side == 'width' else 'r'}={cells},"
    for start in range(0, len(content), CHUNK):
        more = int(start + CHUNK < len(content))
        yield f"\x1b_G{keys}q=2,m={more};{content[start : start + CHUNK]}\x1b\\"
        keys = ""
