"""Ctrl-C and SIGTERM, held back between two writes that belong together."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from ..errors import Terminated
from .keys import in_foreground
from .streams import is_terminal

HELD = signal.SIGINT, signal.SIGTERM
PATIENCE = 1.0  # seconds between a first Ctrl-C and one that does not wait any longer
SHOW_CURSOR = b"\x1b[?25h"

_raised: list[type[KeyboardInterrupt]] = []  # by a handler, since interrupts were last let through


def raise_lost() -> None:
    """Raise the interrupt that a handler has raised and nobody got: for loops, between two steps.

    A signal that arrives while MLX takes over an array of numpy raises inside C++ (nanobind), which
    clears the error of one way to convert before it tries the next; seen in 3 of about 80 runs.
    """
    if _raised:
        raise _raised[0]


def forget_interrupts() -> None:
    """Let nothing be raised for what was interrupted before: another command begins."""
    _raised.clear()


@contextmanager
def signals_held(hurry: Callable[[], None] | None = None) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM wait until what is inside is done; may be nested. Main thread only.

    Gives the list of those that wait; `hurry` is called, between any two bytecodes, whenever one
    more does. Handlers are exchanged, since a blocked signal could still reach another thread, and
    Python would run its handler here. A SIGTERM that comes `PATIENCE` seconds after another ends
    the process: what is inside may hang, on a terminal that nobody reads.
    """
    arrived: list[int] = []
    first: list[float] = []  # when SIGTERM came

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        if hurry:
            hurry()
        if number == signal.SIGTERM:
            first.append(time.monotonic())
            if first[-1] > first[0] + PATIENCE:
                end_now(number)

    before: dict[signal.Signals, Any] = {number: signal.signal(number, note) for number in HELD}
    try:
        yield arrived
    finally:
        # Ctrl-C last: what follows it may go on, and must find SIGTERM's handler in its place.
        for number in reversed(HELD):
            signal.signal(number, before[number])
        if arrived:
            signal.raise_signal(max(arrived))  # SIGTERM goes before Ctrl-C


class Interrupts:
    """Ctrl-C for a program that outlives it: a context manager, for the main thread only.

    KeyboardInterrupt is raised inside `allowed` alone, once each time; else Ctrl-C waits for the
    next such place. The handler itself closes the place before it raises: nothing else is sure to
    run before a second Ctrl-C, which would end whatever is busy with the first.
    """

    def __init__(self) -> None:
        self._allowed = self._waiting = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """KeyboardInterrupt may be raised inside; at once where Ctrl-C has waited for it."""
        forget_interrupts()
        try:
            self._allowed = True
            if self._waiting:
                signal.raise_signal(signal.SIGINT)
            yield
        finally:
            self._allowed = False

    def taken(self) -> bool:
        """True where Ctrl-C waits, which it does no longer: for who asks instead of allowing it."""
        waiting, self._waiting = self._waiting, False
        return waiting

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self._waiting = not self._allowed
        if self._allowed:
            self._allowed = False
            _raised.append(KeyboardInterrupt)
            raise KeyboardInterrupt


def end_at_first_signal() -> None:
    """Raise KeyboardInterrupt for Ctrl-C and Terminated for SIGTERM, for the first of them only.

    Further signals would interrupt the code that prints the finished canvases and gives the
    terminal back. A signal that comes `PATIENCE` seconds later ends the process at once: clearing
    up may hang, on a pipe that nobody reads.
    """
    first: list[float] = []
    forget_interrupts()

    def arrived(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            _raised.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
            raise _raised[0]
        if time.monotonic() > first[0] + PATIENCE:
            end_now(number)

    for number in HELD:
        signal.signal(number, arrived)


def end_now(number: int) -> None:
    """End the process as the system does; a terminal that nobody reads takes not even a cursor."""
    if (
        is_terminal(sys.stderr)
        and in_foreground(sys.stderr.fileno())
        and select.select([], [sys.stderr], [], 0)[1]
    ):
        os.write(sys.stderr.fileno(), SHOW_CURSOR)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def default_signals() -> None:
    """Let a signal end the process as the system does it: all that matters is done."""
    for number in HELD:
        signal.signal(number, signal.SIG_DFL)
