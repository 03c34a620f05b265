"""A server as clients meet it: uvicorn on a free port, in a thread, with a worker of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import uvicorn
from waiting import SECONDS, wait_for

from mlx_diffgemma.serve.dialects.dialect import Dialect
from mlx_diffgemma.serve.engine.engine import Engine
from mlx_diffgemma.serve.engine.worker import Idleness, Worker
from mlx_diffgemma.serve.http.app import make_app
from mlx_diffgemma.serve.http.host import Host, Makers
from mlx_diffgemma.serve.http.protocol import config_of

NOW = 1_764_000_000


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Running:
    """A server that answers. port: on 127.0.0.1."""

    url: str
    port: int
    host: Host
    server: uvicorn.Server

    @property
    def worker(self) -> Worker:
        return self.host.worker


def counted_keys() -> Makers:
    """Keys k1, k2 and so on, one for each request, and a clock that stands."""
    numbers = count(1)
    return Makers(key=lambda: f"k{next(numbers)}", clock=lambda: float(NOW))


@contextmanager
def running(
    engine: Engine,
    dialects: Sequence[Dialect] = (),
    *,
    max_queue: int = 8,
    idle: Idleness | None = None,
    loaded: bool = True,
    desks: int = 1,
    **options: Any,
) -> Iterator[Running]:
    """A server with an engine; loaded: it is waited for; desks: threads that prepare.

    options: more fields of the Host.

    At the end the worker is stopped, and the server with it; neither may hang.
    """
    worker = Worker(engine, max_queue, idle)
    options.setdefault("make", counted_keys())
    with ThreadPoolExecutor(desks) as desk, socket.socket() as listening:
        host = Host(engine, worker, desk, **options)
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = _server(host, dialects)
        thread = threading.Thread(target=server.run, args=([listening],))
        worker.start()
        thread.start()
        try:
            if loaded:
                worker.loaded.result(SECONDS)
            wait_for(lambda: server.started)
            yield Running(f"http://127.0.0.1:{port}", port, host, server)
        finally:
            worker.stop(now=True)
            server.should_exit = True
            thread.join(SECONDS)
            assert worker.join(SECONDS)
            assert not thread.is_alive()


def _server(host: Host, dialects: Sequence[Dialect]) -> uvicorn.Server:
    app = make_app(host, dialects)
    return uvicorn.Server(config_of(app, last_seconds=2))
