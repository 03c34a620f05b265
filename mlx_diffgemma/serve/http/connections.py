"""Connections: how many may be open, and which one goes where one more would be too many."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

MOST = 1024  # connections, more than the longest queue has requests
FILES = 2 * MOST  # that the process may open, where the system lets it: macOS allows 256 at first
AT_ONCE = 128  # that are accepted before the first of them can be counted


class Connection(Protocol):
    """A connection. idle: no request of it is worked at; since: when that began."""

    @property
    def idle(self) -> bool: ...

    @property
    def since(self) -> float: ...


C = TypeVar("C", bound=Connection)


def most_open() -> int:
    """The most connections, half of the files that the process may open: others open files, too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft // 2))


def most_accepted() -> int:
    """The most that are accepted at once: several times as many may be on their way to be counted.

    Where none could be opened any more, asyncio would say so for each of them, and pause.
    """
    return max(1, min(AT_ONCE, most_open() // 8))


def in_excess(connections: Iterable[C]) -> C | None:
    """The connection that goes so that there are no more than may be; None where all may stay.

    It is the one that has been idle for longest. The newest has asked nothing yet, so that it goes
    where all others are worked at.
    """
    there = list(connections)
    if len(there) <= most_open():
        return None
    return min((each for each in there if each.idle), key=lambda each: each.since, default=None)


@contextmanager
def files_allowed() -> Iterator[None]:
    """Let the process open FILES files, where it may not yet and the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = FILES if hard == unlimited else min(FILES, hard)
    if soft != unlimited and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
