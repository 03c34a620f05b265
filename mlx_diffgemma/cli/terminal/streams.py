"""The standard streams; imported at every start, so this module imports nothing heavy."""

import os
import re
import sys
from typing import TextIO

# C0, DEL and C1, which begin escapes and move cursors; a carriage return does before no line break.
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")
BREAKS = re.compile("[\n\r\u2028\u2029]")
MOST_SAID = 2000  # characters of a line on standard error


def is_terminal(stream: object) -> bool:
    """Test that a standard stream is open and a terminal."""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty())


def harmless(text: str) -> str:
    """Text with its control characters written as \\x1b and the like; line breaks and tabs stay.

    A terminal would obey them, whether a model, a file or a file's name brings them along.
    """
    return CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def say(line: str) -> None:
    """Print one line on standard error, where there is one.

    A line break can only come from a name, and is written as its escape; a very long line is cut in
    its middle, since it ends with what to do.
    """
    if sys.stderr is None:
        return
    if len(line) > MOST_SAID:
        line = f"{line[: MOST_SAID // 2]} [...] {line[-MOST_SAID // 2 :]}"
    try:
        line = BREAKS.sub(lambda found: ascii(found[0])[1:-1], line.strip())
        print(harmless(line), file=sys.stderr, flush=True)
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
