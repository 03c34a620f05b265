"""An answer on its way from the worker's thread to a socket, as server-sent events.

The socket is kept alive from here, whatever the engine is at; and nothing waits for the socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from ...errors import DiffGemmaError
from ..dialects.dialect import Encoder
from ..engine.engine import Cancellation
from ..engine.tickets import End, Ticket
from ..events import Done, Draft, Event, Failed, Usage
from ..refusal import BROKEN, STOPPING, Refusal, fresh, refusal_of
from .presence import Presence

logger = logging.getLogger(__name__)

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would wait until it has a few kilobytes
)


@dataclass(frozen=True)
class Pace:
    """Seconds: after which silence a ping is sent, and after which a reader that takes nothing is
    cut off. Clients are promised a byte every 2 s, and a busy machine is late.
    """

    keepalive: float = 1.0
    patience: float = 60.0


class Outbox:
    """The items of an answer that its client has not been sent; of the event loop's thread.

    stalled: the socket takes nothing at the moment, so that only the newest draft is worth keeping.
    The last event waits for the End: who hears of it finds the place in the queue free.
    """

    def __init__(self) -> None:
        self.stalled = False
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._come = asyncio.Event()
        self._last: Done | Failed | None = None
        self._ended = False

    def deliver(self, item: Any) -> None:
        """Put an item in, from any thread; what comes when the loop is closed is lost."""
        try:
            self._loop.call_soon_threadsafe(self.put, item)
        except RuntimeError:
            logger.debug("An event came behind the end of the server.")

    def put(self, item: Any) -> None:
        """Put an item in, from the loop's thread."""
        if self._ended:
            return
        if self.stalled and self._items and isinstance(self._items[-1], Draft):
            self._items.pop()
        if isinstance(item, Done | Failed):
            self._last = item
            return
        if isinstance(item, End):
            self._ended = True
            self._items.extend([self._last] if self._last else [])
        self._items.append(item)
        self._come.set()

    async def next(self, until: float | None = None) -> Any:
        """The next item; None where none has come until then, in seconds of the loop's clock."""
        try:
            async with asyncio.timeout_at(until):
                while not self._items:
                    self._come.clear()
                    await self._come.wait()
        except TimeoutError:
            return None
        return self._items.popleft()


@dataclass
class EventStream:
    """A response of server-sent events, an ASGI application of its own.

    It begins at once, says that it lives while nothing else is to be said, and always ends. A
    client that has gone, or that takes nothing, gives its ticket up.
    """

    encoder: Encoder
    ticket: Ticket
    outbox: Outbox
    presence: Presence
    pace: Pace = field(default_factory=Pace)
    usage: Usage | None = None
    over: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole answer."""
        try:
            await self._send_all(send)
        except TimeoutError:
            logger.warning("A client took nothing for %g s and was cut off.", self.pace.patience)
        except OSError:
            logger.debug("A client went while it was sent to.")
        finally:
            self.ticket.cancel()
            await self.presence.leave()
            scope.setdefault("state", {})["usage"] = self.usage

    async def _send_all(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": list(HEADERS)}
        await self._send(send, start)
        text, clock = self._written(self.encoder.opening), asyncio.get_running_loop().time
        sent = clock()
        while not (self.over or self.presence.gone):
            if text:
                await self._send(send, _body(text))
                sent = clock()
            text = self._text(await self.outbox.next(sent + self.pace.keepalive))
        await self._send(send, _body(text, more=False))

    def _text(self, item: Any) -> str:
        """The text that is sent for an item of the outbox, for its end, or for nothing."""
        if item is None:
            return self.encoder.ping()
        if isinstance(item, End):
            item = Failed(_reason(item))
        if isinstance(item, Done):
            self.usage = item.usage
        self.over = self.over or isinstance(item, Done | Failed)
        return self._written(self.encoder.encode, item)

    def _written(self, write: Callable[..., Iterator[str]], *given: Event) -> str:
        """The texts of an encoder; one that breaks makes the answer a failed one."""
        try:
            return "".join(write(*given))
        except Exception:
            logger.exception("An event of an answer could not be written.")
        self.over = True
        try:
            return "".join(self.encoder.encode(Failed(Refusal("internal", BROKEN))))
        except Exception:
            return ""

    async def _send(self, send: Send, message: Message) -> None:
        """Send; TimeoutError where the client takes nothing."""
        self.outbox.stalled = True
        try:
            async with asyncio.timeout(self.pace.patience):
                await send(message)
        finally:
            self.outbox.stalled = False


def _body(text: str, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


def _reason(end: End) -> Refusal:
    """The refusal in an end without Done: an engine that says nothing at its end is broken."""
    if isinstance(end.error, DiffGemmaError):
        return refusal_of(end.error)
    if isinstance(end.error, Cancellation):  # and the client is there: by `Worker.stop`
        return fresh(STOPPING)
    return Refusal("internal", BROKEN)
