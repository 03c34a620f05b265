"""The client of a request, as long as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from starlette.types import Receive

from ..engine.engine import Cancellation

T = TypeVar("T")


class Presence:
    """Watches a connection from the end of a request's body on, until `leave`."""

    def __init__(self, receive: Receive) -> None:
        self._task = asyncio.ensure_future(_until_gone(receive))

    @property
    def gone(self) -> bool:
        """True once the client has closed the connection."""
        return self._task.done() and not self._task.cancelled()

    def when_gone(self, call: Callable[[], None]) -> None:
        """Have a function called once the client has gone, at once where it has already."""
        self._task.add_done_callback(lambda task: None if task.cancelled() else call())

    async def unless_gone(self, awaited: Awaitable[T]) -> T:
        """The result of an awaitable; Cancellation where the client goes, which ends it, too."""
        work = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait({work, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not work.done():
                work.cancel()
        if work.cancelled() or not work.done():
            raise Cancellation
        return work.result()

    async def leave(self) -> None:
        """Watch no longer."""
        self._task.cancel()
        with suppress(asyncio.CancelledError, OSError):
            await self._task


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
