"""The inside of a server, which every route shares: engine, threads, access, keys of answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from threading import Event
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from ...constrain.compiling import cancelled_by
from ..dialects.dialect import Envelope
from ..engine.engine import Cancellation, Engine, fresh_key
from ..engine.worker import Worker
from ..refusal import STOPPING, fresh
from .stream import Pace

P = ParamSpec("P")
R = TypeVar("R")

BODY_LIMIT = 64 << 20  # bytes of a body, after it was decompressed too


@dataclass(frozen=True)
class Access:
    """The right to ask. key: has to be sent by clients, None where nothing is asked of them.

    hosts: names that a Host header may have beside localhost and loopback addresses, in small
    letters; any_address: and every address, since no name that somebody else owns is one; origins:
    of foreign pages that may ask.
    """

    key: bytes | None = None
    hosts: frozenset[str] = frozenset()
    any_address: bool = False
    origins: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Makers:
    """Makers of all that differs between two runs of a server; clock: seconds since 1970."""

    key: Callable[[], str] = fresh_key
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class Host:
    """A server's inside. worker: the one thread that owns MLX, behind a bounded queue.

    desk: few threads that prepare and count, so that the event loop does neither; body_limit: in
    bytes; pace: of streams; comments: see Envelope. A request has a key in `request.state.key`; a
    route leaves the `Usage` of its answer in `request.state.usage`, for the log.
    """

    engine: Engine
    worker: Worker
    desk: Executor
    access: Access = field(default_factory=Access)
    body_limit: int = BODY_LIMIT
    make: Makers = field(default_factory=Makers)
    pace: Pace = field(default_factory=Pace)
    comments: bool = True

    def envelope(self, request: Request | None = None) -> Envelope:
        """The key and name that an answer is sent under: its request's key, where that has one."""
        key = None if request is None else getattr(request.state, "key", None)
        name, now = self.engine.facts.name, int(self.make.clock())
        return Envelope(key or self.make.key(), now, name, self.comments)

    async def at_desk(self, work: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
        """The result of a function that a thread of the desk runs.

        What it makes is given up where nobody waits for it any more, or the server stops.
        """
        left = Event()

        def check() -> None:
            if left.is_set():
                raise Cancellation
            if self.worker.is_stopping():
                raise fresh(STOPPING)

        def cancellable() -> R:
            with cancelled_by(check):
                return work(*args, **named)

        try:
            return await asyncio.get_running_loop().run_in_executor(self.desk, cancellable)
        finally:
            left.set()
