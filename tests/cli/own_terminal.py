"""A terminal that this process draws on, and somebody at its other end who answers."""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Lock, Thread

import pytest
from pseudo_terminal import ATTRIBUTES, QUESTION
from waiting import SECONDS, wait_for

from mlx_diffgemma.cli.terminal import screen

TERM = {"TERM": "xterm-256color", "COLORTERM": ""}
UNWANTED = ("NO_COLOR", "COLUMNS", "LINES", "TMUX", "STY", "ZELLIJ", "COLORFGBG", "FORCE_COLOR")


class OwnTerminal:
    """Reads what is written, and answers the first question with parts, each after its seconds.

    replied: set when all of them are typed.
    """

    def __init__(self, ours: int, theirs: int, answer: Sequence[tuple[float, bytes]]) -> None:
        self.ours, self.theirs, self.answer = ours, theirs, answer
        self.written = b""
        self.marks = 0
        self.lock = Lock()
        self.asked_at: float | None = None
        self.over, self.replied = Event(), Event()
        self.thread = Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        waiting = list(self.answer)
        while not self.over.is_set():
            if select.select([self.ours], [], [], 0.005)[0]:
                part = os.read(self.ours, 65536)
                with self.lock:
                    self.written += part
            if self.asked_at is None and QUESTION in self.written:
                self.asked_at = time.monotonic()
            while waiting and self.asked_at and time.monotonic() >= self.asked_at + waiting[0][0]:
                os.write(self.ours, waiting.pop(0)[1])
            if not waiting:
                self.replied.set()

    def resize(self, columns: int, rows: int) -> None:
        """Another window size; the signal goes to nobody, as this is no session's terminal."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, size)

    def type(self, keys: bytes) -> None:
        """Keys, which are there when this returns where nothing edits them."""
        os.write(self.ours, keys)
        select.select([self.theirs], [], [], SECONDS)

    def since(self, begin: int) -> bytes:
        """What was written behind `begin` bytes, to the last one: a mark follows it through."""
        self.marks += 1
        mark = b"\0%d\0" % self.marks
        os.write(self.theirs, mark)
        wait_for(lambda: mark in self.written)
        with self.lock:
            self.written = self.written.replace(mark, b"")
        return self.written[begin:]


@contextmanager
def own_terminal(
    monkeypatch: pytest.MonkeyPatch, answer: Sequence[tuple[float, bytes]] = ((0.0, ATTRIBUTES),)
) -> Iterator[OwnTerminal]:
    """Standard error is a terminal of 80 x 24 with 256 colours; standard output is a file.

    Screens wait for its answer as long as a busy machine may take.
    """
    ours, theirs = pty.openpty()
    for name in UNWANTED:
        monkeypatch.delenv(name, raising=False)
    for name, value in TERM.items():
        monkeypatch.setenv(name, value)
    for name in ("PATIENCE", "LATE"):
        monkeypatch.setattr(screen, name, SECONDS)
    with open(os.dup(theirs), "w", encoding="utf-8") as stderr, open(os.devnull, "w") as stdout:
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(sys, "stdout", stdout)
        terminal = OwnTerminal(ours, theirs, answer)
        terminal.resize(80, 24)
        yield terminal
        terminal.over.set()
        terminal.thread.join()
        monkeypatch.undo()
    os.close(ours)
    os.close(theirs)
