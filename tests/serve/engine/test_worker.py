"""The thread that owns the engine."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import pytest
from live import Clock
from scripted import ScriptedEngine
from waiting import SECONDS, wait_for

from mlx_diffgemma.errors import CheckpointError, FitError, NumericsError
from mlx_diffgemma.serve.engine.engine import Cancellation
from mlx_diffgemma.serve.engine.tickets import Deliver, End, Ticket, Work
from mlx_diffgemma.serve.engine.worker import Idleness, Worker
from mlx_diffgemma.serve.refusal import Refusal


@dataclass
class Threads(ScriptedEngine):
    """Keeps who loads and unloads; `gate` is waited for in both."""

    names: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    broken: Exception | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    def load(self) -> None:
        self._seen("load")
        if self.broken:
            raise self.broken

    def unload(self) -> None:
        self._seen("unload")

    def _seen(self, what: str) -> None:
        assert self.gate.wait(SECONDS)
        self.names.append(f"{what} in {threading.current_thread().name}")


@contextmanager
def at_work(engine: Any = None, max_queue: int = 8, **idle: Any) -> Iterator[Worker]:
    worker = Worker(engine or ScriptedEngine(), max_queue, Idleness(**idle))
    worker.start()
    try:
        yield worker
    finally:
        if isinstance(engine, Threads):
            engine.gate.set()
        worker.stop(now=True)
        assert worker.join(SECONDS)


@contextmanager
def ready(engine: Any = None, max_queue: int = 8, **idle: Any) -> Iterator[Worker]:
    with at_work(engine, max_queue, **idle) as worker:
        worker.loaded.result(SECONDS)
        yield worker


def submit(worker: Worker, work: Work, deliver: Deliver) -> Ticket:
    """A place in line for a work that is ready."""
    ticket = worker.reserve()
    ticket.begin(work, deliver)
    return ticket


def until(box: SimpleQueue) -> list[Any]:
    """What is delivered, up to the End."""
    return [*iter(lambda: box.get(timeout=SECONDS), End()), End()]


def done(worker: Worker, work: Work) -> Any:
    """The last thing that a work is delivered."""
    box: SimpleQueue = SimpleQueue()
    submit(worker, work, box.put)
    while not isinstance(item := box.get(timeout=SECONDS), End):
        pass
    return item


def raising(error: BaseException) -> Work:
    def work(cancelled: Callable, stopping: Callable) -> Iterator[int]:
        yield 1
        raise error

    return work


@contextmanager
def busy(worker: Worker) -> Iterator[tuple[threading.Event, SimpleQueue]]:
    """A work that runs until the event is set, and what it is delivered."""
    begun, go, box = threading.Event(), threading.Event(), SimpleQueue()

    def work(cancelled: Callable, stopping: Callable) -> Iterator[str]:
        begun.set()
        assert go.wait(SECONDS)
        if cancelled():
            raise Cancellation
        yield "stopped" if stopping() else "went on"

    submit(worker, work, box.put)
    assert begun.wait(SECONDS)
    try:
        yield go, box
    finally:
        go.set()


def test_items_come_in_order_and_then_the_end_from_one_thread():
    with ready() as worker:
        box, seen = SimpleQueue(), []

        def work(cancelled, stopping):
            seen.append(threading.current_thread().name)
            yield from (1, 2)

        for _ in range(2):
            submit(worker, work, box.put)
            assert until(box) == [1, 2, End()]
    assert seen == ["mlx-diffgemma"] * 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("secret"), "the server's log says why"),
        (SystemExit(3), "the server's log says why"),
        (MemoryError("secret"), "no memory left"),
        (RuntimeError("[metal::malloc] Attempting to allocate 9 bytes"), "no memory left"),
    ],
)
def test_a_crash_ends_one_answer_alone(error, told, caplog):
    with ready() as worker:
        end = done(worker, raising(error))
        assert isinstance(end.error, Refusal)
        assert end.error.kind == "internal"
        assert told in str(end.error)
        assert "secret" not in str(end.error)
        assert done(worker, lambda *_: iter((1,))) == End()
        assert worker.figures().failed == 1
    assert [record.name for record in caplog.records] == ["mlx_diffgemma.serve.engine.worker"]
    assert caplog.records[0].exc_info


def test_a_known_error_is_passed_on_and_no_crash(caplog):
    with ready() as worker:
        error = FitError("no room.")
        assert done(worker, raising(error)).error is error
    assert not caplog.records


def test_a_known_error_of_ours_is_logged(caplog):
    with ready() as worker:
        error = NumericsError("nan in layer 3.")
        assert done(worker, raising(error)).error is error
    assert "nan in layer 3." in caplog.text


def test_a_work_that_breaks_before_its_first_item_ends_alone(caplog):
    with ready() as worker, caplog.at_level(logging.CRITICAL, "mlx_diffgemma.serve"):
        assert done(worker, lambda *_: 1 / 0).error.kind == "internal"
        assert done(worker, lambda *_: iter(())) == End()


def test_what_computes_is_closed_in_the_worker_when_the_client_goes():
    closed, box = [], SimpleQueue()
    with ready() as worker:

        def work(cancelled, stopping):
            try:
                while True:
                    yield 1
            finally:
                closed.append(threading.current_thread().name)

        ticket = submit(worker, work, box.put)
        box.get(timeout=SECONDS)
        ticket.cancel()
        while not isinstance(item := box.get(timeout=SECONDS), End):
            pass
        assert isinstance(item.error, Cancellation)
    assert closed == ["mlx-diffgemma"]


def test_a_client_that_cannot_be_reached_harms_nobody_else(caplog):
    def broken(item):
        raise ValueError("the pipe has burst")

    with ready() as worker, caplog.at_level(logging.CRITICAL, "mlx_diffgemma.serve"):
        submit(worker, lambda *_: iter((1,)), broken)
        assert done(worker, lambda *_: iter(())) == End()


def test_before_the_model_is_loaded_there_is_no_place():
    engine = Threads()
    engine.gate.clear()
    with at_work(engine) as worker:
        assert worker.state == "loading"
        with pytest.raises(Refusal, match="being loaded") as refused:
            worker.reserve()
        assert (refused.value.kind, refused.value.retry_after) == ("loading", 5)
        engine.gate.set()
        worker.loaded.result(SECONDS)
        worker.reserve()
        assert worker.state == "ready"
    assert engine.names == ["load in mlx-diffgemma"]


def test_a_model_that_cannot_be_loaded_is_tried_again_by_the_next_request():
    engine = Threads(broken=CheckpointError("a shard is missing."))
    with at_work(engine) as worker:
        with pytest.raises(CheckpointError):
            worker.loaded.result(SECONDS)
        assert worker.state == "unloaded"
        assert isinstance(done(worker, lambda *_: iter(())).error, CheckpointError)
        engine.broken = None
        assert done(worker, lambda *_: iter(())) == End()
        assert worker.state == "ready"


def later(worker: Worker, clock: Clock, seconds: float) -> None:
    """Let time pass for the worker."""
    clock.now += seconds
    with worker.queue.changed:
        worker.queue.changed.notify_all()


def test_the_weights_of_an_idle_server_are_freed_and_loaded_by_the_next_request():
    engine, clock = Threads(), Clock()
    with ready(engine, seconds=60.0, clock=clock) as worker:
        later(worker, clock, 59)
        done(worker, lambda *_: iter(()))  # begins the wait anew
        later(worker, clock, 59)
        done(worker, lambda *_: iter(()))
        assert engine.names == ["load in mlx-diffgemma"]
        wait_for(lambda: later(worker, clock, 60) or worker.state == "unloaded")
        for _ in range(3):  # what is away is not unloaded again
            later(worker, clock, 60)
            time.sleep(0.01)
        assert done(worker, lambda *_: iter(())) == End()
        assert worker.state == "ready"
    names = ("load", "unload", "load")
    assert engine.names == [f"{name} in mlx-diffgemma" for name in names]


def test_a_request_that_comes_while_the_model_is_unloaded_waits():
    engine, clock, box = Threads(), Clock(), SimpleQueue()
    with ready(engine, seconds=60.0, clock=clock) as worker:
        done(worker, lambda *_: iter(()))
        engine.gate.clear()
        wait_for(lambda: later(worker, clock, 60) or worker.state == "unloading")
        submit(worker, lambda *_: iter((1,)), box.put)
        assert worker.figures().waiting == 1
        engine.gate.set()
        assert until(box) == [1, End()]


def test_a_stop_lets_the_running_one_end_and_sends_the_others_away():
    box = SimpleQueue()
    with ready() as worker, busy(worker) as (go, running):
        submit(worker, lambda *_: iter((1,)), box.put)
        worker.stop()
        assert box.get(timeout=SECONDS).error.kind == "stopping"
        with pytest.raises(Refusal, match="stopping"):
            worker.reserve()
        assert worker.state == "stopping"
        assert not worker.join(0.01)
        go.set()
        assert until(running) == ["stopped", End()]
        assert worker.join(SECONDS)


def test_a_stop_now_cancels_the_running_one():
    with ready() as worker, busy(worker) as (go, running):
        worker.stop(now=True)
        go.set()
        assert isinstance(running.get(timeout=SECONDS).error, Cancellation)


def test_a_stop_while_loading_ends_the_worker():
    engine = Threads()
    engine.gate.clear()
    with at_work(engine) as worker:
        worker.stop()
        engine.gate.set()
        assert worker.join(SECONDS)
        with pytest.raises(Refusal, match="stopping"):
            worker.reserve()
