"""Fences: do all ranks run the same thing, and does anybody still answer?

A rank that calls something else gets wrong numbers and no exception; one that stops makes all
others wait for ever, deaf to Ctrl-C. So facts are agreed on before anything is loaded, digests are
compared behind each canvas, and a watch ends the process where a step takes too long.
"""

import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import ShareError, brief, one_line
from ..machine.device import in_host
from ..machine.files import parse_json
from .patience import EXIT_CODE, SECONDS
from .share import Share

FACT_BYTES = 8192  # for the facts of one rank
LOST = re.compile(r"\[(ring|jaccl|mpi)\]|connection to a peer", re.IGNORECASE)


def require_agreement(share: Share, facts: Mapping[str, object]) -> None:
    """ShareError, of the same words on every rank, for the first fact in which a rank is alone.

    It names the Mac and the fact. facts: see `told_by_all`.
    """
    require_alike(share, told_by_all(share, facts))


def told_by_all(share: Share, facts: Mapping[str, object]) -> list[dict[str, Any]]:
    """The facts of every rank, by rank: names and what JSON can hold, few and short."""
    text = json.dumps(facts, sort_keys=True).encode()
    if len(text) > FACT_BYTES:
        raise ValueError(f"facts take {len(text)} bytes, expected {FACT_BYTES} at most")
    sent = mx.array(np.frombuffer(text.ljust(FACT_BYTES), np.uint8))
    with lost_macs(share):
        rows = in_host(share.gather(sent, "facts"))
    return [parse_json(bytes(row)) for row in rows]


def require_alike(share: Share, told: Sequence[Mapping[str, Any]]) -> None:
    """ShareError for the first fact in which a rank differs from rank 0."""
    for rank, other in enumerate(told):
        for name in sorted({*told[0], *other}):
            if other.get(name) != told[0].get(name):
                raise ShareError(
                    f"{share.mac(rank)} has {name} {brief(other.get(name))}, {share.mac(0)} has "
                    f"{brief(told[0].get(name))}; make them equal."
                )


def from_rank_0(share: Share, said: bytes) -> bytes:
    """The bytes that rank 0 says, for what it alone knows: a prompt, a seed, an end."""
    if share.alone:
        return said
    with lost_macs(share):
        length = int(in_host(share.of_rank_0(mx.array([len(said)], mx.int32), "word"))[0])
        if not length:
            return b""
        own = np.frombuffer(said if share.rank == 0 else bytes(length), np.uint8)
        return bytes(in_host(share.of_rank_0(mx.array(own, mx.int32), "word")).astype(np.uint8))


def number_from_rank_0(share: Share, number: int) -> int:
    """The whole number that rank 0 says, such as a fresh seed."""
    return int(from_rank_0(share, str(number).encode()))


@contextmanager
def lost_macs(share: Share) -> Iterator[None]:
    """Turns what MLX raises when another rank is gone into a ShareError: the answer has ended.

    Nothing may be computed after it: a later gather would wait for ever.
    """
    try:
        yield
    except RuntimeError as error:
        if share.alone or not LOST.search(str(error)):
            raise
        raise ShareError(
            f"{share.mac(share.rank)} lost the connection to {share.others()} ({one_line(error)}); "
            "see what ended there, and start again.",
            lost=True,
        ) from None


def is_lost(error: BaseException) -> bool:
    """True where another Mac is gone: nothing may be computed any more that waits for it."""
    return isinstance(error, ShareError) and error.lost


def require_equal_work(share: Share, tokens: Sequence[int]) -> None:
    """ShareError where ranks wrote other tokens, or made other calls, or in another order."""
    if share.alone:
        return
    made = json.dumps([list(tokens), share.order]).encode()
    own = np.frombuffer(hashlib.sha256(made).digest(), np.uint32)
    with lost_macs(share):
        rows = in_host(share.gather(mx.array(own), "digest"))
    for rank, row in enumerate(rows):
        if not np.array_equal(row, rows[0]):
            raise ShareError(
                f"{share.mac(rank)} wrote other tokens than {share.mac(0)}, or made other calls; "
                "the answer cannot be trusted: update both to the same versions and report this."
            )


def end_process(line: str) -> None:
    """Writes a line to standard error and ends the process, whose main thread cannot be woken."""
    os.write(sys.stderr.fileno(), f"error: {line}\n".encode())
    os._exit(EXIT_CODE)


class Watch:
    """Ends the process where nobody said `alive` for `seconds`: collectives have no time-out.

    MLX lets other threads run while it waits; neither Ctrl-C nor SIGTERM reaches Python then. It
    begins when it is made. The ranks' meeting it cannot end: no other thread runs in
    `mx.distributed.init`; `met` has a patience of its own. end: gets the line.
    """

    def __init__(
        self, share: Share, seconds: float = SECONDS, end: Callable[[str], None] = end_process
    ) -> None:
        self.share, self.seconds, self.end = share, seconds, end
        self._last = time.monotonic()
        self._over = threading.Event()
        if not share.alone:
            threading.Thread(target=self._run, name="watch of other Macs", daemon=True).start()

    def alive(self) -> None:
        """Count the seconds anew."""
        self._last = time.monotonic()

    def stop(self) -> None:
        """Watch no more: nobody is waited for."""
        self._over.set()

    def _run(self) -> None:
        while time.monotonic() - self._last < self.seconds:
            if self._over.wait(min(0.2, self.seconds / 10)):
                return
        here = self.share.mac(self.share.rank)
        self.end(
            f"{here} had no answer from {self.share.others()} for {self.seconds:g} s; see what "
            "runs there, and start again."
        )


@contextmanager
def watched(share: Share, seconds: float = SECONDS) -> Iterator[Share]:
    """The share as models are to have it while they answer: a stopped Mac ends this process.

    Inside, nothing may keep this process from its next step for longer than `seconds`.
    """
    watch = Watch(share, seconds)
    try:
        yield replace(share, alive=watch.alive)
    finally:
        watch.stop()
