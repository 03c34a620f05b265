"""The work of `serve`: an address taken, a model found and loaded, requests answered to the end."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import socket

from ...conversation import loading
from ...conversation.front import Front, open_front
from ...conversation.reply import share_info
from ...generation.settings import Settings
from ...serve.engine.engine import Facts
from ...serve.engine.loaded import LoadedEngine
from ...serve.engine.together import follow
from ...serve.engine.worker import Idleness, Worker
from ...serve.http.address import Place, bind, find_place, url_of
from ...serve.http.app import make_app
from ...serve.http.connections import files_allowed
from ...serve.http.host import Access, Host
from ...serve.http.run import Running
from ...serve.http.watch import nowhere
from ...serve.refusal import Refusal
from ...share.jobs import TOKENS
from ..errors import ArgumentError
from ..macs.group import Group
from ..macs.loading import find_together, followed
from ..options import ModelOptions
from ..terminal.signals import PATIENCE, end_now, signals_held
from .key import VARIABLE, key_shown, read_key
from .options import HOST, KEEP, MODE, PORT, QUEUE, AccessOptions, AddressOptions, WorkOptions
from .text import Ready, RequestLog, logged
from .together import Origin

DESK = 4  # questions that are prepared at once, so that one with a large form keeps nobody waiting


def serve(
    model: ModelOptions,
    address: AddressOptions,
    access: AccessOptions,
    work: WorkOptions,
    group: Group | None = None,
) -> int:
    """Serve until a signal ends it; the exit code is then the signal's.

    group: the Macs that answer together, of which rank 0 alone is asked.
    """
    group = group or Group()
    with ExitStack() as stack:
        opened: list[Opened] = []
        group.of_rank_0(lambda: opened.append(_opened(stack, address, access)))
        settings = Settings(mode=work.mode or MODE)
        source, cut = find_together(group, model, settings, {"--keep": kept_of(work)})
        origin = Origin(group, model, source, cut)
        engine = _engine(origin, work)
        if not opened:
            followed(lambda: follow(engine, origin.jobs))
            return 0
        _serve(stack, opened[0], access, work, origin, engine)
    return 0


@dataclass(frozen=True)
class Opened:
    """The place that clients find the server at, and the key that they need."""

    place: Place
    key: bytes | None
    listening: socket


def _opened(stack: ExitStack, address: AddressOptions, access: AccessOptions) -> Opened:
    """The address, taken; errors as `find_place` and `bind` have them."""
    key = read_key(access)
    host = HOST if address.host is None else address.host
    place = find_place(host, PORT if address.port is None else address.port)
    _require_key(place, key)
    return Opened(place, key, stack.enter_context(bind(place)))


def _serve(
    stack: ExitStack,
    at: Opened,
    access: AccessOptions,
    work: WorkOptions,
    origin: Origin,
    loaded: LoadedEngine,
) -> None:
    """Serve at an address with an engine that is still to be loaded."""
    stack.enter_context(files_allowed())
    desk = stack.enter_context(ThreadPoolExecutor(DESK))
    stack.enter_context(logged())
    idle = Idleness(None if work.idle_unload is None else work.idle_unload * 60)
    most = QUEUE if work.max_queue is None else work.max_queue
    engine = origin.engine(loaded)
    worker = origin.worker = Worker(engine, most, idle, origin.pulse())
    log = RequestLog() if work.json_log else None
    may_ask, comments = access_of(at.place, access, at.key), work.ping != "chunk"
    inside = Host(worker.engine, worker, desk, may_ask, comments=comments)
    app = make_app(inside, log=nowhere if log is None else log)
    url = url_of(at.place, at.listening)
    ready = Ready(worker.engine.facts, url, key_shown(access), log)
    running = origin.running = Running(app, worker, at.listening)
    try:
        run_until_signal(running, ready, origin.ended)
    finally:
        origin.require_whole()


def access_of(place: Place, given: AccessOptions, key: bytes | None) -> Access:
    """Who may ask a server at a place, and by which names."""
    hosts = place.hosts() | {name.lower() for name in given.allow_host or ()}
    return Access(key, hosts, place.is_any, frozenset(given.cors or ()))


def run_until_signal(
    running: Running, ready: Callable[[], None], ended: Callable[[], None] = lambda: None
) -> None:
    """Run a server; a signal ends it behind the canvas in hand, another one a second later at once.

    ended: called behind the end of all answers. KeyboardInterrupt once it has ended so; the error
    of a model that could not be loaded.
    """
    ending = Ending(running)
    try:
        with signals_held(ending.hurry) as ending.arrived:
            asyncio.run(running.serve(ready))
            ended()
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


def _engine(origin: Origin, work: WorkOptions) -> LoadedEngine:
    """The engine of a model whose weights are still to be loaded."""
    front = open_front(origin.folder, loading.name_of(origin.folder))
    facts = replace(_facts(front, origin.folder, work), share=share_info(origin.part))
    each = 1 if origin.group.share.alone else TOKENS
    return LoadedEngine(front, facts, origin.read, kept_of(work), each=each)


def kept_of(work: WorkOptions) -> int:
    """The number of conversations that are kept."""
    return KEEP if work.keep is None else work.keep


def _facts(front: Front, folder: Path, work: WorkOptions) -> Facts:
    """The model as clients are told of it."""
    return Facts(
        front.name,
        front.context_length,
        front.config.canvas_length,
        int(os.stat(folder / "config.json").st_mtime),
        sees=front.config.vision is not None,
        mode=work.mode or MODE,
        quantization=front.config.packing,
    )


def _require_key(place: Place, key: bytes | None) -> None:
    """ArgumentError for a server that others could reach, and that asks for no key."""
    if key is None and not place.is_loopback:
        raise ArgumentError(
            f"--host is {place.host}, which other machines may reach, and there is no key; give "
            f"--api-key-file FILE, or a key in ${VARIABLE}."
        )
