"""Jobs that rank 0 gives: it alone hears users and clients, and all ranks do what it is asked.

While rank 0 waits for somebody, the others wait inside a collective, for as long as that takes. A
job is done by the same calls on every rank. It is given up where rank 0 wants it to end and all
agree on it, between the same two steps.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..machine.device import in_host
from ..machine.files import parse_json
from .guard import from_rank_0, lost_macs
from .share import Share, unwatched

END, STILL_HERE = {"do": "end"}, {"do": "nothing"}

Job = dict[str, Any]
"""What rank 0 tells the others: "do" names it, all else is what it takes, as JSON has it."""

Wanted = Callable[[], bool]
"""True once somebody wants a job to end."""


@dataclass(frozen=True)
class Jobs:
    """The way from rank 0 to the other ranks. rest: lets the watch count nothing for a while."""

    share: Share
    rest: Callable[[], None] = unwatched

    def tell(self, job: Job) -> None:
        """Give a job to the other ranks, which must have done the one before; rank 0 alone."""
        self.share.alive()
        from_rank_0(self.share, json.dumps(job).encode())
        self.share.alive()

    def hear(self) -> Iterator[Job]:
        """Each job that rank 0 gives, up to the end; every rank but 0.

        ShareError where rank 0 is gone.
        """
        while True:
            self.rest()
            job: Job = parse_json(from_rank_0(self.share, b""))
            self.share.alive()
            if job == END:
                return
            if job != STILL_HERE:
                yield job

    @contextmanager
    def told(self, job: Job) -> Iterator[None]:
        """For the time that a job takes, which rank 0 does itself inside; then the watch rests."""
        self.tell(job)
        try:
            yield
        finally:
            self.rest()

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
