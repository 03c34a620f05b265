"""The terminal's background: what it answers, else what $COLORFGBG says.

OSC 11 asks for the colour, and the primary device attributes (DA1), which every terminal tells, are
asked for behind it: their answer comes last, so that a terminal without OSC 11 costs one round
trip, and one that answers nothing PATIENCE. Whoever asks reads on until both have come, at the
latest LATE seconds after the question, before the terminal is another's.

Sources: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html, and rxvt for $COLORFGBG.
"""

import os
import re
from collections.abc import Mapping

from .colours import Theme

QUESTION = "\x1b]11;?\x1b\\\x1b[c"
PATIENCE, LATE = 0.2, 1.0  # seconds
RGB = re.compile(rb"11;rgba?:([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})(?:/|\Z)")
HEX = re.compile(rb"11;#((?:[0-9a-fA-F]{3}){1,4})\Z")
MIDDLE = 0.179  # the luminance on which black and white have the same contrast
DARK_NUMBERS = {*range(7), 8}  # of 16 colours


def may_ask(environ: Mapping[str, str] = os.environ) -> bool:
    """Test that the answers come in order, if any come.

    GNU screen passes the question on and lets the answer come when it comes; of zellij that was
    not seen. tmux answers by itself. Linux's console has no other background than black.
    """
    term = environ.get("TERM", "")
    if environ.get("STY") or environ.get("ZELLIJ"):
        return False
    return term != "linux" and (not term.startswith("screen") or bool(environ.get("TMUX")))


def answered(replies: list[bytes]) -> Theme | None:
    """The kind of background that a terminal has told; None where it has not, or in no colour."""
    for reply in replies:
        if found := RGB.match(reply):
            return _kind([int(part, 16) / (16 ** len(part) - 1) for part in found.groups()])
        if found := HEX.match(reply):
            size = len(found[1]) // 3
            parts = [found[1][at : at + size] for at in range(0, 3 * size, size)]
            return _kind([int(part, 16) / (16**size - 1) for part in parts])
    return None


def of_environment(environ: Mapping[str, str] = os.environ) -> Theme | None:
    """The kind that $COLORFGBG tells, as in "15;0": the last number is the background's."""
    number = environ.get("COLORFGBG", "").rpartition(";")[2]
    if not (number.isascii() and number.isdecimal() and int(number) < 16):
        return None
    return Theme.DARK if int(number) in DARK_NUMBERS else Theme.LIGHT


def _kind(parts: list[float]) -> Theme:
    """By relative luminance, as WCAG 2.2 defines it, of red, green and blue from 0 to 1."""
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    luminance = sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return Theme.DARK if luminance < MIDDLE else Theme.LIGHT
