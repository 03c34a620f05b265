"""A terminal for tests: a process under a pseudo-terminal, and what its screens show as text.

pyte knows one screen only, so this keeps two and looks for the escapes that change between them.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pyte
from waiting import SECONDS

ROOT = Path(__file__).parents[2]
UPDATED = b"\x1b[?2026l"  # ends a picture
QUESTION = b"\x1b]11;?\x1b\\\x1b[c"  # for the background, and for what every terminal tells
ATTRIBUTES = b"\x1b[?62;22c"
SWITCH = re.compile(rb"\x1b\[\?1049([hl])")
CURSOR = 25 << 5  # the number pyte keeps for a visible cursor
PROGRAM = ("-m", "mlx_diffgemma")
GRID_TOP = "┌───────┬───────┬───────┐"


def wait_asleep(pid: int, seconds: float = SECONDS) -> None:
    """Returns when a process waits in the kernel.

    A signal just before that is noticed when the wait ends, and not before: Python's handlers run
    between two bytecodes.
    """
    stat, end = Path(f"/proc/{pid}/stat"), time.monotonic() + seconds
    time.sleep(0.1)
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < end, f"process {pid} does not wait"
        time.sleep(0.01)


class Tty:
    """A Python process whose three streams are a terminal; a context manager that ends it.

    answer: to the question for the background; b"": a terminal that answers nothing.
    """

    def __init__(
        self,
        *arguments: object,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
        stdout: Any = None,
        answer: bytes = ATTRIBUTES,
    ) -> None:
        self.ours, theirs = pty.openpty()
        self.answer, self.questions = answer, 0
        self.columns, self.rows = columns, rows
        self._set_size()
        inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            cwd=ROOT,
            env={**inherited, "TERM": "xterm-256color", **(env or {})},
            preexec_fn=_own_terminal,
        )
        self.theirs = theirs  # kept open: the terminal's state can be asked for afterwards
        self.bytes = b""
        self.waiting = b""  # of these, what is not shown yet
        self.alternate = False
        self.main, self.other = self._new_screen(), self._new_screen()
        self.entered = 0

    def _new_screen(self) -> tuple[pyte.Screen, pyte.ByteStream]:
        screen = pyte.HistoryScreen(self.columns, self.rows, history=1000)
        return screen, pyte.ByteStream(screen)

    def _set_size(self) -> None:
        size = struct.pack("HHHH", self.rows, self.columns, 0, 0)
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, size)

    def resize(self, columns: int, rows: int) -> None:
        """Another window size, as when a window is dragged."""
        self.columns, self.rows = columns, rows
        self._set_size()
        for screen, _ in (self.main, self.other):
            screen.resize(rows, columns)

    def type(self, text: str) -> None:
        """Keys."""
        os.write(self.ours, text.encode())

    def pump(self, seconds: float = 0.02) -> bool:
        """Takes a picture, or what the process writes in so long; False behind the end.

        One picture at a time, so that none is missed on a busy machine.
        """
        if self.waiting:
            self._take()
            return True
        ready, _, _ = select.select([self.ours], [], [], seconds)
        if not ready:
            return True
        try:
            part = os.read(self.ours, 65536)
        except OSError:
            return False
        self.bytes += part
        for _ in range(self.bytes.count(QUESTION) - self.questions):
            self.questions += 1
            os.write(self.ours, self.answer)
        self.waiting += part
        self._take()
        return bool(part)

    def _take(self) -> None:
        """Shows what waits, to the end of the next picture."""
        picture, end, self.waiting = self.waiting.partition(UPDATED)
        self._feed(picture + end)

    def _feed(self, part: bytes) -> None:
        start = 0
        for switch in SWITCH.finditer(part):
            self._current()[1].feed(part[start : switch.start()])
            self.alternate = switch[1] == b"h"
            if self.alternate:
                self.entered += 1
                self.other = self._new_screen()
            start = switch.end()
        self._current()[1].feed(part[start:])

    def _current(self) -> tuple[pyte.Screen, pyte.ByteStream]:
        return self.other if self.alternate else self.main

    def until(self, condition: str | Callable[[Self], bool], seconds: float = SECONDS) -> Self:
        """Waits for a text on the screen, or for something else."""
        end = time.monotonic() + seconds
        met = (lambda tty: condition in tty.text()) if isinstance(condition, str) else condition
        while not met(self):
            over = self.process.poll() is not None
            before = len(self.bytes)
            self.pump(0.2 if over else 0.02)
            if time.monotonic() > end or (over and len(self.bytes) == before and not self.waiting):
                raise AssertionError(f"never came: {condition!r}\n{self.text()}")
        return self

    def text(self) -> str:
        """What the screen shows now."""
        return "\n".join(_lines(self._current()[0])).rstrip("\n")

    def scrollback(self) -> str:
        """What the main screen shows, and what has left it at the top."""
        screen = self.main[0]
        above = ["".join(row[x].data for x in range(self.columns)) for row in screen.history.top]
        return "\n".join([line.rstrip() for line in above] + _lines(screen)).rstrip("\n")

    def send(self, sent: signal.Signals) -> None:
        """A signal to the process alone."""
        self.process.send_signal(sent)

    def wait(self, seconds: float = SECONDS) -> int:
        """The exit code, once all that was written is shown."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"still runs:\n{self.text()}"
            self.pump()
        while self._is_held() and time.monotonic() < end:  # by the guard, which has a last word
            self.pump()
        quiet = 0
        while quiet < 3:
            before = len(self.bytes)
            self.pump(0.03)
            quiet = 0 if self.waiting or len(self.bytes) > before else quiet + 1
        return self.process.returncode

    def _is_held(self) -> bool:
        """True where another process than this one has the terminal open, by /proc."""
        name, own = os.ttyname(self.theirs), Path(f"/proc/{os.getpid()}")
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # another user's, or it has ended
                if process != own and name in map(os.readlink, (process / "fd").iterdir()):
                    return True
        return False

    def assert_given_back(self) -> None:
        """The shell's screen, a cursor, wrapping lines, echo, and no half escape at the end."""
        assert not self.alternate
        assert CURSOR in self.main[0].mode
        assert (7 << 5) in self.main[0].mode
        local = termios.tcgetattr(self.theirs)[3]
        assert local & termios.ECHO
        assert local & termios.ICANON
        assert not self.bytes.rpartition(b"\x1b[?2004")[2].startswith(b"h")
        before, found, traceback = self.bytes.partition(b"Traceback")
        assert not found, (before[-500:] + traceback[:5000]).decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


def answered(tty: Tty, count: int) -> Tty:
    """Waits until the `count`th prompt is there for a question."""
    return tty.until(lambda tty: not tty.alternate and tty.scrollback().count("% >") == count)


def ended_by_signals(tty: Tty) -> int:
    """The exit code of a process whose terminal nobody reads, and that is told to end repeatedly.

    A signal that comes soon after the first one changes nothing.
    """
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        tty.send(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            return tty.process.wait(1.5)
    raise AssertionError("no signal ends it")


def _lines(screen: pyte.Screen) -> list[str]:
    return [line.rstrip() for line in screen.display]


def _own_terminal() -> None:
    """In the child: makes standard input its session's terminal, so that Ctrl-C is a signal."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
