"""Waiting in tests: for what happens, not for how long it takes."""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

SECONDS = 300.0  # that a test waits at most: far more than it takes, on a busy machine too

Result = TypeVar("Result")


def wait_for(true: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until something is true; AssertionError where it does not come true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"it was not true within {seconds} s"
        time.sleep(0.002)


class _AtOnce(selectors.DefaultSelector):
    """Lets the time pass that a loop would wait, and waits for nothing."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("nothing is left that this loop could wait for")
        self.now += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose seconds pass when it has nothing to do; no other thread may call it."""

    def __init__(self) -> None:
        self._passing = _AtOnce()
        super().__init__(self._passing)

    def time(self) -> float:
        return self._passing.now


def without_waiting(main: Coroutine[Any, Any, Result]) -> Result:
    """As asyncio.run, on a clock of its own: a sleep of a minute is over at once, and exactly so.

    A coroutine that sleeps goes on when all others wait, however slow the machine is.
    """
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)
