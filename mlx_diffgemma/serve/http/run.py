"""A server from its first request to its end: uvicorn in one process, signals left to others."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp

from ..engine.worker import Worker
from .address import BACKLOG
from .protocol import config_of

LAST_SECONDS = 5  # that replies have to end in, once the last answer is there
TICK = 0.05
TURN = 0.001  # seconds that a busy thread keeps the interpreter while others want it; Python: 0.005


@contextmanager
def switching_often() -> Iterator[None]:
    """Let threads take turns sooner: a form is read in one, a prompt in another, and sockets wait.

    Each system call of the event loop gives its turn away, and waits for the next.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Quiet(uvicorn.Server):
    """uvicorn's server, which leaves signals to who runs it."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept; more may wait for it than are accepted at once."""
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(BACKLOG)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@dataclass
class Running:
    """A server; `stop` may be called at any time, by a signal's handler too."""

    app: ASGIApp
    worker: Worker
    listening: socket.socket
    stopping: bool = False
    _server: Quiet = field(init=False)

    def __post_init__(self) -> None:
        self._server = Quiet(config_of(self.app, LAST_SECONDS))

    async def serve(self, ready: Callable[[], None]) -> None:
        """Load the model while requests are refused, call `ready`, and serve until `stop`.

        An error of the loading ends the server, and is raised.
        """
        with switching_often():
            serving = asyncio.create_task(self._server.serve([self.listening]))
            self.worker.start()
            try:
                await self._loaded()
                if not self.stopping:
                    ready()
                while not self.stopping and not serving.done():
                    await asyncio.sleep(TICK)
            finally:
                await self._end(serving)

    def stop(self) -> None:
        """Let the canvas in hand be finished, and answer no others; the server then ends."""
        self.stopping = True

    async def _loaded(self) -> None:
        """Wait until the model is there; its error is raised."""
        while not self.worker.loaded.done() and not self.stopping:
            await asyncio.sleep(TICK)
        if self.worker.loaded.done():
            self.worker.loaded.result()

    async def _end(self, serving: asyncio.Task[None]) -> None:
        """Stop the worker, tell those who wait, and close the connections."""
        self.worker.stop()
        while not self.worker.join(0):
            await asyncio.sleep(TICK)
        self._server.should_exit = True
        await serving
