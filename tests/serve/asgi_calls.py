"""Requests to the application without a socket: what a server would hand it, and what it sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from live import counted_keys
from scripted import ScriptedEngine
from starlette.types import ASGIApp, Message
from waiting import SECONDS

from mlx_diffgemma.serve.engine.engine import Engine
from mlx_diffgemma.serve.engine.worker import Worker
from mlx_diffgemma.serve.http.app import make_app
from mlx_diffgemma.serve.http.host import Host
from mlx_diffgemma.serve.http.watch import Record

PORT = 8080
Headers = Mapping[str, str | None] | list[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    """What came back; headers: their names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """What a refusal says, in whatever shape."""
        told = self.json.get("error") or self.json["detail"]
        told = told[0] if isinstance(told, list) else told
        return str(told.get("message") or told["msg"])


@dataclass
class Calls:
    """An application, and one event loop for all requests; records: those of its log."""

    host: Host
    app: ASGIApp
    records: list[Record]
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def get(self, path: str, **given: Any) -> Reply:
        return self.call("GET", path, **given)

    def post(self, path: str, value: Any = None, **given: Any) -> Reply:
        """A request with a body: bytes, or a value as JSON."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.call("POST", path, body=body, **given)

    def call(
        self, method: str, path: str, *, headers: Headers | None = None, body: bytes = b""
    ) -> Reply:
        """The reply to a request; with `host` among its headers None takes that header away."""
        return self.runner.run(called(self.app, method, path, headers, body))


async def called(
    app: ASGIApp, method: str, path: str, headers: Headers | None = None, body: bytes = b""
) -> Reply:
    """What an application sends for a request that comes in one piece."""
    given = list(headers.items()) if isinstance(headers, Mapping) else list(headers or ())
    if not any(name.lower() == "host" for name, _ in given):
        given.append(("host", f"127.0.0.1:{PORT}"))
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", PORT),
        "client": ("127.0.0.1", 50000),
        "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in given if v is not None],
    }
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(SECONDS):
        await app(scope, receive, send)
    start, *rest = sent
    found = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Reply(start["status"], found, b"".join(each.get("body", b"") for each in rest))


@contextmanager
def application(
    engine: Engine | None = None,
    *,
    max_queue: int = 8,
    loaded: bool = True,
    make: Callable[..., ASGIApp] = make_app,
    **options: Any,
) -> Iterator[Calls]:
    """An application around an engine; options: fields of its Host."""
    worker = Worker(engine or ScriptedEngine(), max_queue)
    records: list[Record] = []
    options.setdefault("make", counted_keys())
    with ThreadPoolExecutor(1) as desk:
        host = Host(worker.engine, worker, desk, **options)
        if loaded:
            worker.start()
            worker.loaded.result(SECONDS)
        calls = Calls(host, make(host, log=records.append), records)
        with calls.runner:
            yield calls
        worker.stop(now=True)
        if loaded:
            assert worker.join(SECONDS)
