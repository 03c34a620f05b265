"""The terminal while the live view draws on it, which is always given back.

On the terminal's other screen drawing cannot scroll or overwrite what a shell shows, whatever
happens to the window. Only rows that have changed are written, all of them after a change of size.
A process in the background draws nothing: the terminal is another's. Where the process dies
without a word (killed, out of memory, an abort below Python), a shell waiting at the other end of
a pipe sees the pipe close and gives the terminal back.
"""

import atexit
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from rich.color import ColorSystem

from ..options import ViewOptions
from .background import LATE, PATIENCE, QUESTION, answered, may_ask, of_environment
from .colours import Theme, shown_as
from .guard import Guard
from .keys import Keys, give_back, given_back, in_foreground
from .picture import Picture, Size
from .signals import signals_held
from .streams import hold_lines, window
from .surface import Below, OtherScreen, Surface
from .wrap import Line

WAIT_SECONDS = 0.1  # between two looks at whether a signal has arrived

BEGIN_UPDATE, END_UPDATE = "\x1b[?2026h", "\x1b[?2026l"
LEGEND_KEY = b"?"

# The grid's lines, and arrows, in a terminal whose encoding lacks them.
ASCII = str.maketrans("┌┬┐├┼┤└┴┘─│·←→", "+++++++++-|.<>")

COLOURS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}


def screen_size() -> Size:
    """Columns and rows behind standard error; $COLUMNS and $LINES may make them smaller."""
    return Size(*window())


class StalledError(OSError):
    """Nobody reads the terminal, and a signal will not wait for that any longer."""


class Screen:
    """Standard error's other screen, or rows below the prompt, entered and left at will.

    Code that enters the screen leaves it in a `finally` that was reached before. keeps_typed: keys
    that are typed meanwhile are for the next reader; else they are forgotten. theme: the kind of
    background; None: the terminal is asked for it once, before the first picture that has colours.
    """

    def __init__(
        self,
        *,
        keeps_typed: bool = False,
        theme: Theme | None = None,
        surface: Surface | None = None,
    ) -> None:
        self.descriptor = sys.stderr.fileno()
        self.keys, self.keeps_typed = Keys(self.descriptor), keeps_typed
        self.encoding = sys.stderr.encoding or "utf-8"
        self.colours, self.theme = colour_system(), theme
        self.unknown = theme is None and self.colours not in (None, ColorSystem.STANDARD)
        self.asked_at: float | None = None  # where replies are owed that have not yet come
        self.surface = surface or OtherScreen()
        self.size = self.surface.fit(screen_size())
        self.inside = False
        self.shown: Picture | None = None
        self.standing: Picture | None = None  # None, or spoilt since: all is to be drawn anew
        self.spoilt = self.stands_since = 0  # times that what stood was lost, and of these before
        self.guard = Guard(self.descriptor)
        self.handlers: dict[signal.Signals, Any] = {}

    def enter(self) -> None:
        """Take the terminal, in the background not yet; OSError when it is gone."""
        if self.inside or not in_foreground(self.descriptor):
            return
        atexit.register(self.leave)
        with signals_held() as arrived:
            self.handlers = {
                signal.SIGTSTP: signal.signal(signal.SIGTSTP, self._stop),
                signal.SIGWINCH: signal.signal(signal.SIGWINCH, self._resized),
            }
            self._go_in(arrived)
            self._find_theme(arrived)

    def leave(self) -> None:
        """Give the terminal back; once more costs nothing.

        A signal that comes while nobody reads the terminal leaves that to the guard.
        """
        with signals_held() as arrived:
            if self.inside:
                if self.asked_at is not None:
                    self._await_replies(self.asked_at + LATE)  # whatever signal has come
                if not self.keeps_typed:
                    self.keys.forget()
                self._go_out(arrived)
                for number, before in self.handlers.items():
                    signal.signal(number, before)
            atexit.unregister(self.leave)

    def close(self) -> None:
        """Leave, and end the guard."""
        self.leave()
        if not self.inside:
            self.guard.close()

    def measure(self) -> Size:
        """The size that can be drawn on as it is now."""
        size = self.surface.fit(screen_size())
        if size != self.size:
            self.size = size
            self.spoilt += 1
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
        spoilt = self.spoilt  # a signal may come at any time, and Ctrl-Z draws, too
        before = self.standing if self.stands_since == spoilt else None
        self.standing, self.shown = None, picture
        lines, old = picture.lines, before.lines if before else ()
        changed = {
            number: "".join(ansi(line, self.colours, self.theme))
            for number, line in enumerate(lines)
            if number >= len(old) or line != old[number]
        }
        count = len(old) if before else None
        if changed or count != len(lines):
            rows = self.surface.drawn(changed, len(lines), count)
            self._write(f"{BEGIN_UPDATE}{rows}{END_UPDATE}")
        self.standing, self.stands_since = picture, spoilt

    @property
    def listens(self) -> bool:
        """True where keys reach the view: `?` does something."""
        return self.inside and self.keys.readable

    def pressed(self) -> int:
        """How often `?` has been pressed; other keys are left to the next reader.

        Where one waits for the next question, `?` counts only in front of all that is typed: later
        it is the question's own.
        """
        if not self.listens:
            return 0
        typed = given_back() + self.keys.take()
        if self.asked_at is not None:
            self._look_at_replies()
        if self.keeps_typed and typed.strip(LEGEND_KEY):
            give_back(typed)
            return 0
        return typed.count(LEGEND_KEY)

    def _find_theme(self, arrived: Sequence[int]) -> None:
        """Ask for the background, with the keys hushed, and read until it is told or time is up."""
        if not self.unknown:
            return
        self.unknown, self.theme = False, of_environment()
        if self.keys.readable and may_ask():
            self._write(QUESTION, arrived)
            self.asked_at = time.monotonic()
            self._await_replies(self.asked_at + PATIENCE, arrived)

    def _await_replies(self, end: float, arrived: Sequence[int] = ()) -> None:
        """Wait for the answers until `end`; what is typed meanwhile is for the next reader."""
        while self.asked_at is not None and self.keys.readable and not arrived:
            if (left := end - time.monotonic()) <= 0:
                return
            give_back(self.keys.take(left))
            self._look_at_replies()

    def _look_at_replies(self) -> None:
        """Take the theme that the answers tell, however late; the last of them settles it."""
        theme = answered(self.keys.sieve.replies)
        if theme not in (None, self.theme):
            self.theme = theme
            self.spoilt += 1
        if self.keys.sieve.attributes:
            self.asked_at = None

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
        self.spoilt += 1
        hushed = b", hushed" if self.keys.hush() else b""
        self.guard.tell(self.surface.word + hushed)
        hold_lines(True)
        self._write(self.surface.begin(), arrived)

    def _go_out(self, arrived: Sequence[int] = ()) -> None:
        self.keys.restore()
        try:
            self._write(self.surface.end(), arrived)
        except StalledError:
            return  # the guard does it when there is room for it, or whoever leaves once more
        except OSError:  # the terminal is gone
            pass
        self.inside = False
        self.guard.tell(b"out")
        hold_lines(False)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: stops on the shell's screen, and comes back to this one in the foreground."""
        with signals_held():
            self._go_out()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # goes on here when it is continued
            if not in_foreground(self.descriptor):
                for number, before in self.handlers.items():
                    signal.signal(number, before)
                return
            signal.signal(signal.SIGTSTP, self._stop)
            self._go_in()
            if self.shown:
                self.draw(self.shown)

    def _resized(self, number: int, frame: FrameType | None) -> None:
        """A window that comes back to its size may have lost what stood in it."""
        self.spoilt += 1


def open_screen(look: ViewOptions, *, keeps_typed: bool = False) -> Screen:
    """The screen that the options ask for; for `keeps_typed` see Screen."""
    known = None if look.theme in (None, "auto") else Theme(look.theme)
    surface = Below() if look.no_alt_screen else OtherScreen()
    return Screen(keeps_typed=keeps_typed, theme=known, surface=surface)


def colour_system() -> ColorSystem | None:
    """The colours that standard error can show, as Rich sees it; None for no colours."""
    from rich.console import Console

    console = Console(stderr=True)
    return None if console.no_color else COLOURS.get(console.color_system or "")


def ansi(line: Line, colours: ColorSystem | None, theme: Theme | None = None) -> Iterator[str]:
    """A line with its escapes; bold, dim and underline stay where there are no colours."""
    for text, style, _ in line:
        if style is None:
            yield text
        else:
            system = colours or ColorSystem.STANDARD
            yield shown_as(style, colours, theme).render(text, color_system=system)


def encoded(text: str, encoding: str) -> bytes:
    """Bytes in the terminal's encoding; characters it lacks become ASCII, or a question mark."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(ASCII).encode(encoding, "replace")
