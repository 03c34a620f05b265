"""The queue in front of the worker: who waits, who is answered, who is sent away.

Any thread may call it. A place in it is counted from the moment a request is taken up, prepared or
not, so that nothing piles up in front of the queue either.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import DiffGemmaError, counted
from ..refusal import Refusal, fresh
from .engine import Cancellation, Cancelled, Stopping

logger = logging.getLogger(__name__)

Work = Callable[[Cancelled, Stopping], Iterator[Any]]
"""What a request has the worker do, in the worker's thread; its items are what the request gets."""

Phase = Literal["reserved", "waiting", "running", "over"]

SHORTEST_RETRY, LONGEST_RETRY = 1, 60  # seconds


@dataclass(frozen=True)
class End:
    """The last thing that a request gets, once; error: the reason that there is no more."""

    error: DiffGemmaError | Cancellation | None = None


Deliver = Callable[[Any], None]
"""Takes the items of a work and its End, at once, and raises nothing; called in any thread."""


@dataclass(frozen=True)
class Figures:
    """The queue since it began, in requests and seconds; `places` are taken now, of any phase."""

    places: int = 0
    waiting: int = 0
    running: int = 0
    answered: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    waited_seconds: float = 0.0
    running_seconds: float = 0.0


@dataclass
class Ticket:
    """A place in the queue. `begin` puts it in line, `cancel` gives it up in any phase."""

    queue: Queue
    phase: Phase = "reserved"
    cancelled: bool = False
    since: float = 0.0  # when its phase began
    work: Work = field(default=lambda cancelled, stopping: iter(()), repr=False)
    deliver: Deliver = field(default=lambda item: None, repr=False)

    def begin(self, work: Work, deliver: Deliver) -> None:
        """Get in line; Refusal where the server is stopping."""
        self.queue.begin(self, work, deliver)

    def cancel(self) -> None:
        """Nobody waits for it any more: it never runs, or ends soon."""
        self.queue.cancel(self)

    def is_cancelled(self) -> bool:
        """True once nobody waits for it."""
        return self.cancelled


class Queue:
    """First come, first served; `most` may wait beside the one that runs.

    closed: the reason that nobody is let in, None where everybody is.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.clock = most, clock
        self.closed: Refusal | None = None
        self.changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._running: Ticket | None = None
        self._figures: dict[str, Any] = {}
        self._places = 0

    def reserve(self) -> Ticket:
        """A place, for a request that is still to be prepared; Refusal where there is none."""
        with self.changed:
            if refusal := self.closed or self._full():
                self._count(refused=1)
                raise fresh(refusal)
            self._places += 1
        return Ticket(self)

    def begin(self, ticket: Ticket, work: Work, deliver: Deliver) -> None:
        """Put a ticket in line, behind all others."""
        with self.changed:
            if ticket.phase != "reserved":
                raise Cancellation
            if self.closed:
                self._leave(ticket)
                self._count(refused=1)
                raise fresh(self.closed)
            ticket.work, ticket.deliver, ticket.phase = work, deliver, "waiting"
            ticket.since = self.clock()
            self._waiting.append(ticket)
            self.changed.notify_all()

    def cancel(self, ticket: Ticket) -> None:
        """Take a ticket out of the line; one that runs is told."""
        with self.changed:
            phase, ticket.cancelled = ticket.phase, True
            if phase in ("over", "running"):
                return
            if phase == "waiting":
                self._waiting.remove(ticket)
                self._count(cancelled=1)
            self._leave(ticket)
        _tell(ticket, Cancellation())

    def take(self) -> Ticket | None:
        """The next one, which runs from now on; None where nobody waits. `changed` is held."""
        if not self._waiting:
            return None
        ticket = self._running = self._waiting.popleft()
        now = self.clock()
        self._count(waited_seconds=now - ticket.since)
        ticket.phase, ticket.since = "running", now
        return ticket

    def over(self, ticket: Ticket, error: DiffGemmaError | Cancellation | None) -> None:
        """The one that ran has ended: its place is free before it hears of it."""
        with self.changed:
            self._running = None
            self._leave(ticket)
            gone = isinstance(error, Cancellation)
            ended = "answered" if error is None else "cancelled" if gone else "failed"
            self._count(**{ended: 1, "running_seconds": self.clock() - ticket.since})
        _tell(ticket, error)

    def give_up(self, error: DiffGemmaError) -> None:
        """Whoever runs hears that it has ended, though the thread that runs it does not know."""
        with self.changed:
            running = self._running
        if running:
            _tell(running, error)

    def close(self, refusal: Refusal, *, now: bool = False) -> None:
        """Let nobody in, and send away who waits; now: who runs is cancelled as well."""
        with self.changed:
            self.closed, dropped = refusal, list(self._waiting)
            self._waiting.clear()
            for ticket in dropped:
                self._leave(ticket)
                self._count(refused=1)
            if now and self._running:
                self._running.cancelled = True
            self.changed.notify_all()
        for ticket in dropped:
            _tell(ticket, fresh(refusal))

    def figures(self) -> Figures:
        """The state of the queue, and its sums."""
        with self.changed:
            now = (self._places, len(self._waiting), int(self._running is not None))
            return Figures(*now, **self._figures)

    def _full(self) -> Refusal | None:
        if self._places <= self.most:
            return None
        before = counted(self._places, "request")
        said = f"{before} are waiting or being answered, which is the most; try again later."
        return Refusal("full", said, retry_after=self._retry_after())

    def _retry_after(self) -> int:
        """Whole seconds until about half of those who are here have been answered."""
        ended = sum(self._figures.get(name, 0) for name in ("answered", "cancelled", "failed"))
        each = self._figures.get("running_seconds", 0.0) / ended if ended else 0.0
        return max(SHORTEST_RETRY, min(LONGEST_RETRY, math.ceil(each * self._places / 2)))

    def _leave(self, ticket: Ticket) -> None:
        ticket.phase = "over"
        self._places -= 1

    def _count(self, **more: float) -> None:
        for name, value in more.items():
            self._figures[name] = self._figures.get(name, 0) + value


def _tell(ticket: Ticket, error: DiffGemmaError | Cancellation | None) -> None:
    """Deliver a ticket's End; who cannot be told is nobody else's trouble."""
    try:
        ticket.deliver(End(error))
    except Exception:
        logger.exception("A request was not told of its end.")
