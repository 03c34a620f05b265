"""Where the live view draws: the terminal's other screen, or some rows below the prompt.

Both give the escapes for a picture of which some rows have changed; neither writes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from .picture import Size

# No cursor, and no wrapping at the edge; and back, ending a synchronised update too.
HIDE, SHOW = "\x1b[?25l\x1b[?7l", "\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h"
MOST_ROWS = 14  # below the prompt: a Sudoku's grid and the status line


class Surface(Protocol):
    """A place to draw on.

    word: by which the guard knows what to leave; keeps_shell: what the shell shows stays in sight.
    """

    word: bytes
    keeps_shell: bool

    def begin(self) -> str:
        """The escapes that take the terminal."""

    def end(self) -> str:
        """The escapes that give it back."""

    def fit(self, size: Size) -> Size:
        """The part of the window that may be drawn on."""

    def drawn(self, rows: Mapping[int, str], count: int, before: int | None) -> str:
        """The escapes for these rows of `count`, from 0, where `before` have stood; None: erase."""


class OtherScreen:
    """The screen behind the shell's: every row is placed by itself and depends on no other."""

    word = b"in"
    keeps_shell = False

    def begin(self) -> str:
        """Takes the terminal."""
        return f"\x1b[?1049h{HIDE}\x1b[2J"

    def end(self) -> str:
        """Gives it back."""
        return f"{SHOW}\x1b[?1049l"

    def fit(self, size: Size) -> Size:
        """All of the window."""
        return size

    def drawn(self, rows: Mapping[int, str], count: int, before: int | None) -> str:
        """Only rows that change are written: a terminal may show one after the other."""
        clear = "\x1b[2J" if before is None else ""
        placed = "".join(f"\x1b[{row + 1};1H\x1b[2K{text}" for row, text in rows.items())
        below = f"\x1b[{count + 1};1H\x1b[J" if before is not None and count < before else ""
        return f"{clear}{placed}{below}\x1b[H"


class Below:
    """Rows below the prompt, which stay there as they were drawn last.

    The cursor rests on the first of them: whatever a terminal makes of them in a window of another
    size, they begin there, and erasing all behind it takes them away.
    """

    word = b"below"
    keeps_shell = True

    def __init__(self) -> None:
        self.height = 1

    def begin(self) -> str:
        """Takes the terminal."""
        self.height = 1
        return f"{HIDE}\r"

    def end(self) -> str:
        """Gives it back, with the cursor on a row of its own behind the last one."""
        return f"{_down(self.height - 1)}\r\n{SHOW}"

    def fit(self, size: Size) -> Size:
        """All but a row of the window, which the shell keeps, and not too many."""
        return replace(size, rows=max(1, min(size.rows - 1, MOST_ROWS)))

    def drawn(self, rows: Mapping[int, str], count: int, before: int | None) -> str:
        """Line feeds make room where the window ends; going down alone would not."""
        clear = "\r\x1b[J" if before is None else ""
        room = "\r\n" * (count - 1) + _up(count - 1) if count > (before or 1) else ""
        placed = "".join(f"{_down(row)}\x1b[2K{text}\r{_up(row)}" for row, text in rows.items())
        fewer = before is not None and count < before
        below = f"{_down(count)}\x1b[J{_up(count)}" if fewer else ""
        self.height = count
        return f"{clear}{room}{placed}{below}\r"


def _down(rows: int) -> str:
    return f"\x1b[{rows}B" if rows else ""


def _up(rows: int) -> str:
    return f"\x1b[{rows}A" if rows else ""
