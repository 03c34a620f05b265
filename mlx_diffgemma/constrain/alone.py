"""Forms are made one at a time, and given up where nobody waits for them any more.

A large one takes seconds of pure Python. Two at once would take twice as long each, and the second
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

_alone = RLock()
_look: ContextVar[Callable[[], None]] = ContextVar("look", default=lambda: None)


@contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Have a function called again and again while forms are made; its error ends the making."""
    token = _look.set(look)
    try:
        yield
    finally:
        _look.reset(token)


def look() -> None:
    """Call the function that watches, if one does; to be done many times a second."""
    _look.get()()


def alone(made: Callable[P, R]) -> Callable[P, R]:
    """The same function, which waits until no other thread makes a form."""

    @wraps(made)
    def waiting(*args: P.args, **named: P.kwargs) -> R:
        with _alone:
            look()
            return made(*args, **named)

    return waiting
