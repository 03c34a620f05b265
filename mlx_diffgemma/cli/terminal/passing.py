"""A line on standard error that stays until something else is to be said, and leaves nothing.

It is shorter than the window is wide, so that going back and erasing takes it away, and it sets
nothing that a killed process would have to set back. In the background nothing is written.
"""

import sys
import time
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

from .keys import in_foreground
from .streams import ERASE, STARTED, can_draw, keep_below, window

if TYPE_CHECKING:
    from ...model.text import Progress

SOON, LEAST = 0.5, 0.2  # seconds from the process's start, and from the beginning of the work

LOADING_PROGRAM = "loading mlx-diffgemma"  # a first start after others reads it from disk


class PassingLine:
    """The line; other lines on standard error stand above it."""

    def __init__(self) -> None:
        self.text = ""

    def show(self, text: str) -> None:
        """Write a line in place of the one before; what no terminal is sure of is a `?`."""
        if in_foreground(sys.stderr.fileno()):
            safe = "".join(c if c.isprintable() else "?" for c in text)
            self.text = safe.encode("ascii", "replace").decode()[: window()[0] - 1]
            self._write(ERASE + self.text)
            keep_below(self.text)

    def erase(self) -> None:
        """Take it away; once more costs nothing."""
        if self.text:
            self.text = ""
            keep_below("")
            if in_foreground(sys.stderr.fileno()):
                self._write(ERASE)

    def _write(self, text: str) -> None:
        with suppress(OSError):  # the terminal is gone
            sys.stderr.write(text)
            sys.stderr.flush()


class Announced:
    """A passing line about work that turns out to take long, half a second from the start on.

    A context manager. The thread that waits for that writes at most this line, and is joined before
    anything else is written.
    """

    def __init__(self, text: str) -> None:
        self.text, self.line = text, PassingLine()
        self.over = Event()
        self.thread: Thread | None = None

    def until(self, progress: "Progress") -> "Progress":
        """A progress callback that takes the place of the line with its first report."""

        def report(done: int, total: int) -> None:
            self.close()
            progress(done, total)

        return report

    def close(self) -> None:
        """Take the line away, or let it not appear."""
        if self.thread is not None:
            self.over.set()
            self.thread.join()
            self.thread = None
            self.line.erase()

    def _wait(self) -> None:
        if not self.over.wait(max(LEAST, SOON - (time.monotonic() - STARTED))):
            self.line.show(self.text)

    def __enter__(self) -> Self:
        if can_draw(sys.stderr):
            self.thread = Thread(target=self._wait, daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
