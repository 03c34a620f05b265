"""HTTP/1.1 as uvicorn speaks it, with JSON for what is no request at all."""

from __future__ import annotations

import logging

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..dialects.dialect import compact
from ..families import OPENAI
from ..refusal import Refusal

KEEP_ALIVE = 30  # seconds that a connection without a request stays open
NO_HTTP = "this is no HTTP request, or its head is too long."


class Protocol(H11Protocol):
    """uvicorn's protocol, whose own refusals have the shape of all others."""

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
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=last_seconds,
    )
