"""The work of `serve`: an address taken, a model found and loaded, requests answered to the end."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ...checkpoint.hub import Source
from ...conversation import loading
from ...conversation.front import Front, open_front
from ...conversation.session import Session
from ...generation.settings import Settings
from ...serve.engine.engine import Cancellation, Facts
from ...serve.engine.loaded import LoadedEngine
from ...serve.engine.worker import Idleness, Worker
from ...serve.http.address import Place, bind, find_place, url_of
from ...serve.http.app import make_app
from ...serve.http.host import Access, Host
from ...serve.http.run import Running
from ...serve.http.watch import nowhere
from ...serve.refusal import Refusal
from ..answer.loading import find_checked, load_found
from ..errors import ArgumentError
from ..explain import explain
from ..options import ModelOptions
from ..terminal.signals import PATIENCE, end_now, signals_held
from ..terminal.streams import say
from .key import VARIABLE, key_shown, read_key
from .options import HOST, KEEP, PORT, QUEUE, AccessOptions, AddressOptions, WorkOptions
from .text import Ready, RequestLog, logged

DIFFUSION = "diffusion"


def serve(
    model: ModelOptions, address: AddressOptions, access: AccessOptions, work: WorkOptions
) -> int:
    """Serve until a signal ends it; the exit code is then the signal's."""
    key = read_key(access)
    host = HOST if address.host is None else address.host
    place = find_place(host, PORT if address.port is None else address.port)
    _require_key(place, key)
    with bind(place) as listening, ThreadPoolExecutor(1) as desk, logged():
        source = find_checked(model, Settings(mode=work.mode or DIFFUSION))
        worker = _worker(source, model, work)
        log = RequestLog() if work.json_log else None
        may_ask, comments = access_of(place, access, key), work.ping != "chunk"
        inside = Host(worker.engine, worker, desk, may_ask, comments=comments)
        app = make_app(inside, log=nowhere if log is None else log)
        ready = Ready(worker.engine.facts, url_of(place, listening), key_shown(access), log)
        run_until_signal(Running(app, worker, listening), ready)
    return 0


def access_of(place: Place, given: AccessOptions, key: bytes | None) -> Access:
    """Who may ask a server at a place, and by which names."""
    hosts = place.hosts() | {name.lower() for name in given.allow_host or ()}
    return Access(key, hosts, place.is_any, frozenset(given.cors or ()))


def run_until_signal(running: Running, ready: Callable[[], None]) -> None:
    """Run a server; a signal ends it behind the canvas in hand, another one a second later at once.

    KeyboardInterrupt once it has ended so; the error of a model that could not be loaded.
    """
    ending = Ending(running)
    try:
        with signals_held(ending.hurry) as ending.arrived:
            asyncio.run(running.serve(ready))
    except Refusal as refusal:  # what clients would be told of the loading's error
        raise refusal.__cause__ or refusal from None


@dataclass
class Ending:
    """The way from a first signal to the end; first: when it came."""

    running: Running
    arrived: list[int] = field(default_factory=list)
    first: float | None = None

    def hurry(self) -> None:
        """Let the server end; or end the process, where a signal comes well behind another."""
        now = time.monotonic()
        if self.first is None:
            self.first = now
            self.running.stop()
        elif now > self.first + PATIENCE:
            end_now(self.arrived[-1])


def _worker(source: Source, model: ModelOptions, work: WorkOptions) -> Worker:
    """The thread that loads a model and answers with it; both are still to begin."""
    front = open_front(source.folder, loading.name_of(source.folder))

    def look() -> None:
        if worker.is_stopping():
            raise Cancellation

    def read() -> Session:
        try:
            return load_found(source, model, look)
        except Exception as error:
            if worker.loaded.done() and (known := explain(error)):  # the first one ends all
                say(known[0])
            raise

    keep = KEEP if work.keep is None else work.keep
    engine = LoadedEngine(front, _facts(front, source.folder, work), read, keep)
    idle = Idleness(None if work.idle_unload is None else work.idle_unload * 60)
    worker = Worker(engine, QUEUE if work.max_queue is None else work.max_queue, idle)
    return worker


def _facts(front: Front, folder: Path, work: WorkOptions) -> Facts:
    """The model as clients are told of it."""
    return Facts(
        front.name,
        front.context_length,
        front.config.canvas_length,
        int(os.stat(folder / "config.json").st_mtime),
        sees=front.config.vision is not None,
        mode=work.mode or DIFFUSION,
        quantization=front.config.packing,
    )


def _require_key(place: Place, key: bytes | None) -> None:
    """ArgumentError for a server that others could reach, and that asks for no key."""
    if key is None and not place.is_loopback:
        raise ArgumentError(
            f"--host is {place.host}, which other machines may reach, and there is no key; give "
            f"--api-key-file FILE, or a key in ${VARIABLE}."
        )
