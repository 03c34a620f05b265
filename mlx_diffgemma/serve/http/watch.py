"""The frame around every request: its key, its record when it is over, and a net for errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import DiffGemmaError, shown
from ..events import Usage
from ..families import family_of
from ..refusal import STOPPING, Refusal, fresh
from .host import Makers
from .metrics import Metrics
from .replies import refused

logger = logging.getLogger(__name__)
GONE = 499  # nginx's number for a client that left before its reply began


@dataclass(frozen=True)
class Record:
    """A request that is over, without a word of what it said; at: seconds since 1970."""

    at: float
    key: str
    method: str
    path: str
    status: int
    seconds: float
    usage: Usage | None = None


def nowhere(record: Record) -> None:
    """A log that keeps nothing."""


@dataclass(frozen=True)
class Watch:
    """ASGI middleware around all others. route_of: the route that a path is counted under."""

    app: ASGIApp
    make: Makers
    metrics: Metrics
    route_of: Callable[[str], str]
    log: Callable[[Record], None] = nowhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and record it when it is over."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        key = state["key"] = self.make.key()
        began, at, path, status = time.perf_counter(), self.make.clock(), scope["path"], GONE

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).setdefault(family_of(path).key_header, key)
            await send(message)

        try:
            await self._pass_on(scope, receive, sent, lambda: status != GONE)
        finally:
            seconds = time.perf_counter() - began
            self.metrics.took(self.route_of(path), status, seconds)
            method, usage = scope["method"], state.get("usage")
            self.log(Record(at, key, method, path, status, seconds, usage))

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, begun: Callable[[], bool]
    ) -> None:
        """Pass a request on; an error becomes a reply, or the end of one that has begun.

        A request that has not come in full when the server ends is told so.
        """
        family = family_of(scope["path"])
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:  # uvicorn's, which would answer 500
            if not begun():
                await refused(fresh(STOPPING), family)(scope, receive, send)
            raise
        except Exception as error:
            log_error(error, scope["path"])
            if not begun():
                await refused(internal(), family)(scope, receive, send)


def internal() -> Refusal:
    """The refusal that a bug of the server is; what it was is nobody's business but the log's."""
    return Refusal("internal", "the server failed at this request; its own log says more.")


def log_error(error: Exception, path: str) -> None:
    """Log an error: a known one in a line, a bug with its traceback."""
    known = isinstance(error, DiffGemmaError)
    logger.error("%s: %s", shown(path), error, exc_info=None if known else error)
