"""Moments in which no signal may come between two writes to the terminal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HELD = signal.SIGINT, signal.SIGTERM


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until what is inside is done; may be nested. Main thread only.

    Handlers are exchanged, since a blocked signal could still reach another thread, and Python
    would run its handler here.
    """
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    before: dict[signal.Signals, Any] = {number: signal.signal(number, note) for number in HELD}
    try:
        yield
    finally:
        # Ctrl-C last: what follows it may go on, and must find SIGTERM's handler in its place.
        for number in reversed(HELD):
            signal.signal(number, before[number])
        if arrived:
            signal.raise_signal(max(arrived))  # SIGTERM goes before Ctrl-C


def default_signals() -> None:
    """From here on a signal ends the process as the system does it: all that matters is done."""
    for number in HELD:
        signal.signal(number, signal.SIG_DFL)
