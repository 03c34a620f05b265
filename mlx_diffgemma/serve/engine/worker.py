"""The one thread that owns the engine: it loads, answers one request after another, and unloads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import DiffGemmaError
from ...share.guard import is_lost
from ..refusal import LOADING, STOPPING, refusal_of
from .engine import Cancellation, Engine
from .tickets import Figures, Queue, Ticket

logger = logging.getLogger(__name__)

State = Literal["loading", "ready", "unloading", "unloaded", "stopping"]


@dataclass(frozen=True)
class Idleness:
    """The patience with which a server without work keeps its weights; seconds: None for ever."""

    seconds: float | None = None
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Pulse:
    """What a worker that waits for work does every so many seconds."""

    seconds: float
    beat: Callable[[], None]


class Worker:
    """Everything that MLX computes, in a thread of its own, behind a bounded queue.

    max_queue: requests that may wait beside the one that is answered; pulse: of a worker whose
    engine has parts elsewhere. Before `start` has loaded the model requests are refused; those that
    come to an unloaded model wait until it is back.
    `loaded` has the end of the first loading, or its error.
    """

    def __init__(
        self,
        engine: Engine,
        max_queue: int = 8,
        idle: Idleness | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self.engine, self._idle, self._pulse = engine, idle or Idleness(), pulse
        self.queue = Queue(max_queue)
        self.queue.closed = LOADING
        self.loaded: Future[None] = Future()
        self._state: State = "loading"
        self._thread = threading.Thread(target=self._run, name="mlx-diffgemma", daemon=True)

    def start(self) -> None:
        """Begin to load the model, and then to work."""
        self._thread.start()

    def reserve(self) -> Ticket:
        """A place in the queue; Refusal where it is full, or the server loads or stops."""
        return self.queue.reserve()

    def stop(self, *, now: bool = False) -> None:
        """Refuse what waits and what comes; the running answer ends with the canvas in hand.

        now: it ends at the next step, without an end that its client can use.
        """
        self.queue.close(STOPPING, now=now)

    def give_up(self, error: DiffGemmaError) -> None:
        """Refuse what waits, and tell the running answer's client that it ends; in any thread.

        For a thread that will never come back from what it does.
        """
        self.stop()
        self.queue.give_up(error)

    def join(self, timeout: float | None = None) -> bool:
        """True once the thread has ended; timeout: seconds."""
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def is_stopping(self) -> bool:
        """True once `stop` was called."""
        return self.queue.closed is STOPPING

    @property
    def state(self) -> State:
        """The state of model and server, for those who watch them."""
        return "stopping" if self.is_stopping() else self._state

    def figures(self) -> Figures:
        """The queue in numbers."""
        return self.queue.figures()

    def _run(self) -> None:
        self._load_first()
        while not self.is_stopping():
            if ticket := self._next():
                self._serve(ticket)
            elif not self.is_stopping():
                self._unload()

    def _load_first(self) -> None:
        """Load the model and open the queue; an error is left in `loaded`."""
        try:
            self._load()
        except BaseException as error:
            self.loaded.set_exception(error)
        else:
            self.loaded.set_result(None)
        with self.queue.changed:
            if self.queue.closed is LOADING:
                self.queue.closed = None

    def _load(self) -> None:
        self._state = "loading"
        try:
            self.engine.load()
        except BaseException:
            self._state = "unloaded"
            raise
        self._state = "ready"

    def _unload(self) -> None:
        """Free the weights; whoever comes meanwhile waits in line."""
        self._state = "unloading"
        try:
            self.engine.unload()
        except Exception:
            logger.exception("The model was not unloaded.")
        self._state = "unloaded"

    def _next(self) -> Ticket | None:
        """The next ticket, once there is one; None where nobody came for long, or at the end."""
        since = self._idle.clock()
        while not self.is_stopping():
            with self.queue.changed:
                left = self._left(since)
                if (ticket := self.queue.take()) or (left is not None and left <= 0):
                    return ticket
                if self.is_stopping() or self.queue.changed.wait(self._patience(left)):
                    continue
            self._beat()
        return None

    def _patience(self, left: float | None) -> float | None:
        """Seconds to wait for a change; left: those until the weights are freed, None for none."""
        waits = [left, None if self._pulse is None else self._pulse.seconds]
        return min((each for each in waits if each is not None), default=None)

    def _beat(self) -> None:
        """Show life where the engine has parts elsewhere; what fails is the engine's to tell."""
        if self._pulse is not None:
            try:
                self._pulse.beat()
            except Exception:
                logger.debug("A beat failed.", exc_info=True)

    def _left(self, since: float) -> float | None:
        """Seconds until the weights are freed; None where they stay, or are away."""
        if self._idle.seconds is None or self._state != "ready":
            return None
        return since + self._idle.seconds - self._idle.clock()

    def _serve(self, ticket: Ticket) -> None:
        """Do a ticket's work; whatever it raises becomes the end of this one alone."""
        error: DiffGemmaError | Cancellation | None = None
        try:
            if self._state != "ready":
                self._load()
            self._work(ticket)
        except Cancellation as gone:
            error = gone
        except DiffGemmaError as known:
            error = known
            log_ours(known)
        except BaseException as crash:
            logger.exception("An answer ended with an error.")
            error = refusal_of(crash)
        self.queue.over(ticket, error)

    def _work(self, ticket: Ticket) -> None:
        """Deliver the items of a work; what computes them is closed here, in this thread."""
        items: Any = ticket.work(ticket.is_cancelled, self.is_stopping)
        try:
            for item in items:
                if ticket.cancelled:
                    raise Cancellation
                ticket.deliver(item)
        finally:
            getattr(items, "close", lambda: None)()


def log_ours(error: DiffGemmaError) -> None:
    """Log an error that is not the client's: it is told that the log says more.

    A lost Mac ends the server, which says so.
    """
    cause = error.__cause__ or error
    if refusal_of(error).kind == "internal" and not is_lost(cause):
        logger.error("%s", error, exc_info=error.__cause__ or error)
