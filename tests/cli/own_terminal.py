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
from threading import Event, Thread

import pytest
from pseudo_terminal import ATTRIBUTES, QUESTION

TERM = {"TERM": "xterm-256color", "COLORTERM": ""}
UNWANTED = ("NO_COLOR", "COLUMNS", "LINES", "TMUX", "STY", "ZELLIJ", "COLORFGBG", "FORCE_COLOR")


class OwnTerminal:
    """Reads what is written, and answers the first question with parts, each after its seconds."""

    def __init__(self, ours: int, theirs: int, answer: Sequence[tuple[float, bytes]]) -> None:
        self.ours, self.theirs, self.answer = ours, theirs, answer
        self.written = b""
        self.asked_at: float | None = None
        self.over = Event()
        self.thread = Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        waiting = list(self.answer)
        while not self.over.is_set():
            if select.select([self.ours], [], [], 0.005)[0]:
                self.written += os.read(self.ours, 65536)
            if self.asked_at is None and QUESTION in self.written:
                self.asked_at = time.monotonic()
            while waiting and self.asked_at and time.monotonic() >= self.asked_at + waiting[0][0]:
                os.write(self.ours, waiting.pop(0)[1])

    def resize(self, columns: int, rows: int) -> None:
        """Another window size; the signal goes to nobody, as this is no session's terminal."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, size)

    def type(self, keys: bytes) -> None:
        """Keys, which are there when this returns where nothing edits them."""
        os.write(self.ours, keys)
        select.select([self.theirs], [], [], 1)

    def since(self, begin: int) -> bytes:
        """What was written behind `begin` bytes, once nothing more comes."""
        count = -1
        while count != len(self.written) or select.select([self.ours], [], [], 0)[0]:
            count = len(self.written)
            time.sleep(0.05)
        return self.written[begin:]


@contextmanager
def own_terminal(
    monkeypatch: pytest.MonkeyPatch, answer: Sequence[tuple[float, bytes]] = ((0.0, ATTRIBUTES),)
) -> Iterator[OwnTerminal]:
    """Standard error is a terminal of 80 x 24 with 256 colours; standard output is a file."""
    ours, theirs = pty.openpty()
    for name in UNWANTED:
        monkeypatch.delenv(name, raising=False)
    for name, value in TERM.items():
        monkeypatch.setenv(name, value)
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
