"""Dialects: requests into questions, events into the bytes that its clients expect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ..asked import Asked
from ..engine.engine import Facts
from ..events import Answer, Event
from ..families import Family
from .fields import Fields


@dataclass(frozen=True)
class Envelope:
    """The names that an answer is sent under; key: letters and digits, without a dialect's prefix.

    model: the name of the one that answers, not of the one asked for; created: seconds since 1970.
    comments: a comment says that the answer is on its way, False where some proxy drops those.
    """

    key: str
    created: int
    model: str
    comments: bool = True


class Encoder(Protocol):
    """One answer on its way to one client; each text is a whole server-sent event or more."""

    def opening(self) -> Iterator[str]:
        """The texts that are sent at once, before anything is computed."""
        ...

    def encode(self, event: Event) -> Iterator[str]:
        """The texts that an event becomes; behind Done or Failed nothing follows."""
        ...

    def ping(self) -> str:
        """A sign that the answer is still on its way."""
        ...

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        ...


@dataclass(frozen=True)
class Dialect:
    """One route that generates: its path, how its requests are read, and how it answers.

    read: a request to the model of these facts, whose mode says which settings are of use; Refusal
    for what cannot be asked. family: how its clients are told of one.
    """

    path: str
    read: Callable[[Fields, Facts], Asked]
    encoder: Callable[[Envelope, Asked], Encoder]
    family: Family


def sse(data: Any, event: str | None = None) -> str:
    """A server-sent event with JSON in one line."""
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {compact(data)}\n\n"


def compact(data: Any) -> str:
    """JSON in one line, without blanks, with letters as they are.

    A surrogate alone, which no UTF-8 holds, is written as its escape.
    """
    try:
        written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        written.encode()
    except UnicodeEncodeError:
        written = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return written


COMMENT = ": ping\n\n"
"""A keepalive that every client of server-sent events passes over."""
