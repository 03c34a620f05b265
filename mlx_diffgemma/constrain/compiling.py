"""Compiling of forms: one at a time, and cancelled where nobody waits for it any more.

A large form takes seconds of pure Python. Two at once would take twice as long each, and the second
is often the first again, which is then kept.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from threading import RLock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_lock = RLock()
_check: ContextVar[Callable[[], None]] = ContextVar("check", default=lambda: None)


@contextmanager
def cancelled_by(check: Callable[[], None]) -> Iterator[None]:
    """Have a function called again and again while forms are compiled; its error ends that."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def check_cancelled() -> None:
    """Call the function of `cancelled_by`, if there is one; to be done many times a second."""
    _check.get()()


def exclusive(compiles: Callable[P, R]) -> Callable[P, R]:
    """The same function, which waits until no other thread compiles a form."""

    @wraps(compiles)
    def waiting(*args: P.args, **named: P.kwargs) -> R:
        with _lock:
            check_cancelled()
            return compiles(*args, **named)

    return waiting
