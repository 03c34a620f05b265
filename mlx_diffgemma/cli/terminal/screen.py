"""The terminal's other screen, which the live view draws on and which is always left again.

Drawing there cannot scroll or overwrite what a shell shows, whatever happens to the window; every
row is placed by itself and depends on no row before it. A process in the background draws nothing:
the terminal is another's. Where the process dies without a word
(killed, out of memory, an abort below Python), a shell waiting at the other end of a pipe sees the
pipe close and gives the terminal back.
"""

import atexit
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from types import FrameType
from typing import Any

from rich.color import ColorSystem
from rich.style import Style

from .colours import named
from .keys import Keys, in_foreground
from .picture import Picture, Size
from .signals import signals_held
from .streams import is_terminal, window
from .wrap import Line

DUMB = ("dumb", "unknown")  # values of $TERM that promise no cursor movement
WAIT_SECONDS = 0.1  # between two looks at whether a signal has arrived

# Other screen, no cursor, no wrapping at the edge; and back, ending a synchronised update too.
ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
LEAVE = "\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
BEGIN_UPDATE, END_UPDATE = "\x1b[?2026h", "\x1b[?2026l"
CLEAR, HOME = "\x1b[2J", "\x1b[H"

GUARD = r"""
state=out
while read -r line; do state=$line; done
case $state in in*) printf '\033[?2026l\033[0m\033[?7h\033[?25h\033[?1049l';; esac
case $state in *hushed) stty echo icanon <&1;; esac
"""
"""A shell script: reads "in", "in, hushed" and "out" until the pipe closes, then leaves the other
screen, and lets the terminal echo again."""

# The grid's lines, and arrows, in a terminal whose encoding lacks them.
ASCII = str.maketrans("┌┬┐├┼┤└┴┘─│·←→", "+++++++++-|.<>")

COLOURS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}


def can_draw(stream: object) -> bool:
    """Test that a standard stream is a terminal that can move its cursor."""
    return is_terminal(stream) and os.environ.get("TERM") not in DUMB


def screen_size() -> Size:
    """Columns and rows behind standard error; $COLUMNS and $LINES may make them smaller."""
    return Size(*window())


class StalledError(OSError):
    """Nobody reads the terminal, and a signal will not wait for that any longer."""


class Screen:
    """Standard error's other screen, entered and left as often as one likes.

    Code that enters the screen leaves it in a `finally` that was reached before. keeps_typed: keys
    that are typed meanwhile are for the next reader; else they are forgotten.
    """

    def __init__(self, *, keeps_typed: bool = False) -> None:
        self.descriptor = sys.stderr.fileno()
        self.keys, self.keeps_typed = Keys(self.descriptor), keeps_typed
        self.encoding = sys.stderr.encoding or "utf-8"
        self.colours = colour_system()
        self.size = screen_size()
        self.resized = False
        self.inside = False
        self.shown: Picture | None = None
        self.guard = _start_guard(self.descriptor)
        self.on_stop: Any = None

    def enter(self) -> None:
        """Take the terminal, in the background not yet; OSError when it is gone."""
        if self.inside or not in_foreground(self.descriptor):
            return
        atexit.register(self.leave)
        with signals_held() as arrived:
            self.on_stop = signal.signal(signal.SIGTSTP, self._stop)
            self._go_in(arrived)

    def leave(self) -> None:
        """Give the terminal back; once more costs nothing.

        A signal that comes while nobody reads the terminal leaves that to the guard.
        """
        with signals_held() as arrived:
            if self.inside:
                if not self.keeps_typed:
                    self.keys.forget()
                self._go_out(arrived)
                signal.signal(signal.SIGTSTP, self.on_stop)
            atexit.unregister(self.leave)

    def close(self) -> None:
        """Leave, and end the guard."""
        self.leave()
        if self.guard is not None and not self.inside:
            self.guard.communicate()

    def measure(self) -> Size:
        """The window's size as it is now."""
        size = screen_size()
        self.resized = self.resized or size != self.size
        self.size = size
        return size

    def draw(self, picture: Picture) -> None:
        """Show a picture of the size last measured; OSError when the terminal is gone.

        Nothing is shown in the background. That is looked at here, since a shell tells no process
        that runs on when it brings it to the foreground.
        """
        self.enter()
        if not (self.inside and in_foreground(self.descriptor)):
            self.leave()
            return
        clear = CLEAR if self.resized else ""
        rows = "".join(self._rows(picture.lines))
        self._write(BEGIN_UPDATE + clear + rows + HOME + END_UPDATE)
        self.resized, self.shown = False, picture

    def _rows(self, lines: Sequence[Line]) -> Iterator[str]:
        """Each line at its place, after what stood there is erased; then all below is."""
        for number, line in enumerate(lines, 1):
            yield f"\x1b[{number};1H\x1b[2K"
            yield from ansi(line, self.colours)
        if len(lines) < self.size.rows:
            yield f"\x1b[{len(lines) + 1};1H\x1b[J"

    def _write(self, text: str, arrived: Sequence[int] = ()) -> None:
        """All of `text`, however slowly it is read; StalledError once a signal has `arrived`."""
        content = encoded(text, self.encoding)
        while content:
            _, writable, _ = select.select([], [self.descriptor], [], WAIT_SECONDS)
            if writable:
                with suppress(BlockingIOError):  # others may have set the terminal so
                    content = content[os.write(self.descriptor, content) :]
            elif arrived:
                raise StalledError

    def _go_in(self, arrived: Sequence[int] = ()) -> None:
        self.inside = True
        _tell(self.guard, b"in, hushed\n" if self.keys.hush() else b"in\n")
        self._write(ENTER, arrived)

    def _go_out(self, arrived: Sequence[int] = ()) -> None:
        self.keys.restore()
        try:
            self._write(LEAVE, arrived)
        except StalledError:
            return  # the guard does it when there is room for it, or whoever leaves once more
        except OSError:  # the terminal is gone
            pass
        self.inside = False
        _tell(self.guard, b"out\n")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: stops on the shell's screen, and comes back to this one in the foreground."""
        with signals_held():
            self._go_out()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # goes on here when it is continued
            if not in_foreground(self.descriptor):
                signal.signal(signal.SIGTSTP, self.on_stop)
                return
            signal.signal(signal.SIGTSTP, self._stop)
            self._go_in()
            if self.shown:
                self.draw(self.shown)


def colour_system() -> ColorSystem | None:
    """The colours that standard error can show, as Rich sees it; None for no colours."""
    from rich.console import Console

    console = Console(stderr=True)
    return None if console.no_color else COLOURS.get(console.color_system or "")


def ansi(line: Line, colours: ColorSystem | None) -> Iterator[str]:
    """A line with its escapes; bold, dim and underline stay where there are no colours."""
    for text, style, _ in line:
        if style is None:
            yield text
        elif colours is None:
            yield _colourless(style).render(text, color_system=ColorSystem.STANDARD)
        elif colours is ColorSystem.STANDARD:
            yield named(style).render(text, color_system=colours)
        else:
            yield style.render(text, color_system=colours)


@lru_cache(maxsize=128)
def _colourless(style: Style) -> Style:
    return style.without_color


def encoded(text: str, encoding: str) -> bytes:
    """Bytes in the terminal's encoding; characters it lacks become ASCII, or a question mark."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(ASCII).encode(encoding, "replace")


def _start_guard(descriptor: int) -> "subprocess.Popen[bytes] | None":
    """The shell that gives the terminal back for a process that cannot; None without a shell.

    A session of its own keeps Ctrl-C and the terminal's other signals away from it.
    """
    with suppress(OSError):
        return subprocess.Popen(
            ["/bin/sh", "-c", GUARD],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=descriptor,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return None


def _tell(guard: "subprocess.Popen[bytes] | None", word: bytes) -> None:
    if guard is not None and guard.stdin is not None:
        with suppress(OSError):  # somebody has killed it
            guard.stdin.write(word)
