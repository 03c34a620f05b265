"""Jobs that rank 0 gives: it alone hears users and clients, and all ranks do what it is asked.

While rank 0 waits for somebody it shows life, ten times a second, and the others sleep in between:
whoever waits inside a collective keeps a core busy. A job is done by the same calls on every rank.
It is given up where rank 0 wants it to end and all agree on it, between the same two steps.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from ..machine.device import in_host
from ..machine.files import parse_json
from .guard import from_rank_0, lost_macs
from .share import Share

END = {"do": "end"}
BEAT = 0.1  # seconds between two signs of life, which a job may have to wait for
TOKENS = 8  # of mode ar, between two looks whether the job is to end: each keeps a GPU waiting

Job = dict[str, Any]
"""What rank 0 tells the others: "do" names it, all else is what it takes, as JSON has it."""

Wanted = Callable[[], bool]
"""True once somebody wants a job to end."""


@dataclass(frozen=True)
class Jobs:
    """The way from rank 0 to the other ranks."""

    share: Share

    def tell(self, job: Job) -> None:
        """Give a job to the other ranks, which must have done the one before; rank 0 alone.

        For the error of one that cannot be told see `told`.
        """
        said = told(job)
        self.share.alive()
        from_rank_0(self.share, said)
        self.share.alive()

    def beat(self) -> None:
        """Show life: there is nothing to do; rank 0 alone."""
        self.share.alive()
        from_rank_0(self.share, b"")
        self.share.alive()

    def hear(self) -> Iterator[Job]:
        """Each job that rank 0 gives, up to the end; every rank but 0.

        ShareError where rank 0 is gone.
        """
        while True:
            said = from_rank_0(self.share, b"")
            self.share.alive()
            if not said:
                time.sleep(BEAT)
                continue
            job: Job = parse_json(said)
            if job == END:
                return
            yield job

    def wants_end(self, wanted: bool = False) -> bool:
        """True on every rank where rank 0 wants the job to end; all ranks ask at the same place.

        4 bytes of the host travel: no GPU is waited for.
        """
        own = int(wanted) if self.share.rank == 0 else 0
        with lost_macs(self.share):
            return bool(in_host(self.share.sum(mx.array([own]), "end"))[0])

    def agreed(self, wanted: Wanted) -> Wanted:
        """A callable that all ranks ask at the same places: what `wanted` says on rank 0."""
        return lambda: self.wants_end(self.share.rank == 0 and wanted())


def told(job: Job) -> bytes:
    """A job as it is sent; ValueError for what the others could not read, such as 101 levels."""
    said = json.dumps(job).encode()
    parse_json(said)
    return said


@dataclass
class Pulse:
    """Signs of life of rank 0 in a thread of its own, while its main thread waits for somebody.

    lost: called in that thread once the others are gone; the error is raised by `stop`.
    """

    jobs: Jobs
    lost: Callable[[], None] = lambda: None
    error: Exception | None = None
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to show life; ShareError where the others were found to be gone."""
        self._require_there()
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._beat, name="signs of life", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Show none any more: the next word is that of who calls; ShareError as `start`."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None
        self._require_there()

    def _require_there(self) -> None:
        if self.error is not None:
            raise self.error

    def _beat(self) -> None:
        try:
            while not self._ended.wait(BEAT):
                self.jobs.beat()
        except Exception as error:
            self.error = error
            self.lost()
