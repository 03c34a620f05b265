"""The standard streams; imported at every start, so this module imports nothing heavy."""

import os
import re
import stat
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TextIO

DEFAULT_COLUMNS, DEFAULT_ROWS = 80, 24
DUMB = ("dumb", "unknown")  # values of $TERM that promise no cursor movement
DIM, PLAIN = "\x1b[2m", "\x1b[0m"
# C0, DEL and C1, which begin escapes and move cursors; a carriage return does before no line break.
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")
BREAKS = re.compile("[\n\r\u2028\u2029]")
ERASE = "\r\x1b[2K"  # the line that the cursor is on
STARTED = time.monotonic()
MOST_SAID = 2000  # characters of a line on standard error
GAP = " [...] "

_held: list[Callable[[], None]] | None = None  # prints a line each, once nothing draws
_below = ""  # a line that stands below all that is said


def is_terminal(stream: object) -> bool:
    """Test that a standard stream is open and a terminal."""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty())


def can_draw(stream: object) -> bool:
    """Test that a standard stream is a terminal that can move its cursor."""
    return is_terminal(stream) and os.environ.get("TERM") not in DUMB


def is_piped(stream: object) -> bool:
    """Test that a standard stream is a pipe."""
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):  # closed, or no file
        return False


def window() -> tuple[int, int]:
    """Columns and rows behind standard error; $COLUMNS and $LINES may make them smaller."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        columns = rows = 0
    return _smaller(columns, "COLUMNS", DEFAULT_COLUMNS), _smaller(rows, "LINES", DEFAULT_ROWS)


def _smaller(real: int, name: str, default: int) -> int:
    """The real size, or the environment's where that is smaller or no size is real."""
    said = os.environ.get(name, "")
    wanted = int(said) if said.isascii() and said.isdecimal() and len(said) < 6 else 0
    return min(filter(None, (real, wanted)), default=default)


def harmless(text: str) -> str:
    """Text with its control characters written as \\x1b and the like; line breaks and tabs stay.

    A terminal would obey them, whether a model, a file or a file's name brings them along.
    """
    return CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def say(line: str) -> None:
    """Print one line on standard error, where there is one; a terminal gets it word by word.

    A line break can only come from a name, and is written as its escape; a very long line is cut in
    its middle, since it ends with what to do. A pipe or a file gets one line.
    """
    if len(line) > MOST_SAID:
        kept = (MOST_SAID - len(GAP)) // 2
        line = f"{line[:kept]}{GAP}{line[-kept:]}"
    tell(harmless(BREAKS.sub(lambda found: ascii(found[0])[1:-1], line.strip())))


def hold_lines(wanted: bool) -> None:
    """Let lines on standard error wait, since something draws there; or print those that wait."""
    global _held
    waiting, _held = _held or [], ([] if wanted else None)
    for line in waiting:
        line()


def keep_below(line: str) -> None:
    """Print what is said above this line, which the cursor is on; "" for none."""
    global _below
    _below = line


def tell(line: str, indent: int = 0, *, dim: bool = False) -> None:
    """Print a harmless line as it is, blanks too; on a terminal its further rows are indented."""
    if sys.stderr is None:
        return
    if _held is not None:
        _held.append(partial(tell, line, indent, dim=dim))
        return
    if is_terminal(sys.stderr) and len(line) * 2 > (columns := window()[0]):
        from .wrap import word_wrapped  # imported late: it brings Rich along

        line = word_wrapped(line, columns, indent)
    line = f"{DIM}{line}{PLAIN}" if dim else line
    try:
        above, below = (ERASE, _below) if _below else ("", "")
        print(f"{above}{line}\n{below}", end="", file=sys.stderr, flush=True)
    except OSError:  # nobody reads it; the exit code still tells
        detach(sys.stderr)


def detach(stream: TextIO | None) -> None:
    """Point a broken stream to nowhere: Python flushes it once more when it exits."""
    if stream is None:
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except OSError:  # no file behind it, as in tests: nothing to flush into
        return
