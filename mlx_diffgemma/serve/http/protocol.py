"""HTTP/1.1 as uvicorn speaks it, with JSON for what is no request at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import cast

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..dialects.dialect import compact
from ..families import OPENAI
from ..refusal import Refusal
from .connections import in_excess, most_accepted

KEEP_ALIVE = 30  # seconds that a connection without a request stays open
HEAD_SECONDS = 30.0  # in which a request's head has to come
BODY_SECONDS = 300.0  # and its body
REST_SECONDS = 30.0  # and what is left of a body whose request has been answered
NO_HTTP = "this is no HTTP request, or its head is too long."


class Protocol(H11Protocol):
    """uvicorn's protocol, whose own refusals have the shape of all others.

    uvicorn waits for a request for ever, and takes any number of connections: those that begin a
    request and never end it would use up the files that a process may open, without a key.
    since: the loop's time at which it was opened, or last answered.
    """

    since: float = 0.0
    _due: asyncio.TimerHandle | None = None
    _awaited: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come; another one goes where there are too many."""
        super().connection_made(transport)
        self.since = self.loop.time()
        there = (each for each in self.connections if not each.transport.is_closing())
        if (other := in_excess(cast("Iterable[Protocol]", there))) is not None:
            other.transport.abort()
        self._watch()

    @property
    def idle(self) -> bool:
        """True where no request is worked at, whatever has come of one."""
        return self.cycle is None or self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        super().connection_lost(exc)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """It has sent something."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """It has been answered."""
        super().on_response_complete()
        self.since = self.loop.time()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        """It asks nothing more. One that does not take its reply either is not waited for."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(KEEP_ALIVE, self.transport.abort)

    def _watch(self) -> None:
        """Cut the connection off where what is awaited of its client does not come in time."""
        seconds = self._seconds()
        awaited = None if seconds is None else (seconds, self.cycle)
        if awaited == self._awaited:
            return
        if self._due is not None:
            self._due.cancel()
        self._awaited = awaited
        self._due = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    def _seconds(self) -> float | None:
        """The time for what is awaited of the client; None where that is nothing."""
        state = self.conn.their_state
        if self.transport.is_closing():
            return None
        if state is h11.SEND_BODY:
            return REST_SECONDS if self.cycle.response_complete else BODY_SECONDS
        begun = self.cycle is None or bool(self.conn.trailing_data[0])
        return HEAD_SECONDS if state is h11.IDLE and begun else None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, unless a reply is on its way, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = compact(OPENAI.body(Refusal("invalid", NO_HTTP))).encode()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"connection", b"close"),
            ]
            head = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def config_of(app: ASGIApp, last_seconds: int) -> uvicorn.Config:
    """uvicorn's settings: one process, HTTP alone, nothing of its own in headers or logs.

    last_seconds: that replies have to end in once the server closes.
    """
    for name in ("uvicorn.error", "python_multipart.multipart"):
        logging.getLogger(name).disabled = True  # what is wrong is told to clients, or by us
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=most_accepted(),
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=last_seconds,
    )
