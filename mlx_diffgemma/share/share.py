"""One rank's share of a group of processes, each on a Mac of its own: its spans, its collectives.

A collective is lazy, as all of MLX is: one whose result nobody needs is never sent, and the others
wait for it. Every rank makes the same calls in the same order.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from zlib import crc32

import mlx.core as mx

from ..errors import ShareError, one_line
from ..machine.files import read_json
from .patience import SECONDS, ended_after

Span = tuple[int, int]


def cuts(total: int, size: int, unit: int = 1) -> list[Span]:
    """`total` in `size` spans of whole units, the first ones one unit longer where it does not
    divide evenly; the last unit may be a part of one."""
    base, extra = divmod(-(-total // unit), size)
    units = [base * (rank + 1) + min(rank + 1, extra) for rank in range(size)]
    ends = [min(end * unit, total) for end in units]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def unwatched() -> None:
    """Tell nobody: there is no other Mac to wait for."""


@dataclass(frozen=True)
class Share:
    """Rank `rank` of `size`; one process alone is ALONE, whose collectives are the identity.

    group: MLX's, None before the ranks have met. hosts: addresses by rank, as far as the
    environment tells them, "" for one that it does not. alive: tells a watch that work goes on.
    sent: bytes that this rank sends, by the name of what is sent, and calls: their number; both
    count when a collective is built. order: one number, made of all calls in their order.
    """

    rank: int
    size: int
    group: mx.distributed.Group | None = field(default=None, compare=False)
    hosts: tuple[str, ...] = ()
    alive: Callable[[], None] = field(default=unwatched, compare=False, repr=False)
    sent: Counter[str] = field(default_factory=Counter, compare=False)
    calls: Counter[str] = field(default_factory=Counter, compare=False)
    order: list[int] = field(default_factory=lambda: [0], compare=False, repr=False)

    @classmethod
    def launched(cls, seconds: float = SECONDS) -> "Share":
        """The share of a process that mlx.launch has started, once all have met: see `met`."""
        return met(announced(os.environ), seconds)

    @property
    def alone(self) -> bool:
        """True where there is no other process."""
        return self.size == 1

    def mac(self, rank: int) -> str:
        """The Mac of a rank as messages name it, by its address where that is known."""
        host = self.hosts[rank] if rank < len(self.hosts) else ""
        return f"rank {rank} ({host})" if host else f"rank {rank}"

    def others(self) -> str:
        """The other Macs as messages name them: one of them is meant."""
        return " or ".join(self.mac(rank) for rank in range(self.size) if rank != self.rank)

    def span(self, total: int, unit: int = 1) -> Span:
        """The part of `total` that is this rank's, in whole units."""
        return cuts(total, self.size, unit)[self.rank]

    def sum(self, x: mx.array, name: str) -> mx.array:
        """The sum over the ranks of arrays of one shape, the same bits on all of them."""
        if self.alone:
            return x
        self._count(2 * (self.size - 1) * x.nbytes // self.size, name, x)
        return mx.distributed.all_sum(x, group=self.group)

    def gather(self, x: mx.array, name: str) -> mx.array:
        """Arrays of one shape [...] -> [size, ...], by rank."""
        if self.alone:
            return x[None]
        self._count((self.size - 1) * x.nbytes, name, x)
        return mx.distributed.all_gather(x[None], group=self.group)

    def gathered(self, x: mx.array, lengths: Sequence[int], axis: int, name: str) -> mx.array:
        """Arrays of `lengths`, by rank, along `axis` -> one behind the other, the same everywhere.

        Shorter ones are padded on the wire to the longest.
        """
        if self.alone:
            return x
        padded = [(0, 0)] * x.ndim
        padded[axis] = (0, max(lengths) - x.shape[axis])
        parts = self.gather(mx.pad(x, padded) if padded[axis][1] else x, name)
        own = [mx.split(part, [n], axis=axis)[0] for part, n in zip(parts, lengths, strict=True)]
        return mx.concatenate(own, axis=axis)

    def of_rank_0(self, x: mx.array, name: str) -> mx.array:
        """Rank 0's array, of a shape that all know."""
        return x if self.alone else self.sum(x if self.rank == 0 else unsent(x), name)

    def _count(self, sent: int, name: str, x: mx.array) -> None:
        self.sent[name] += sent
        self.calls[name] += 1
        call = f"{name} {x.shape} {x.dtype}".encode()
        self.order[0] = crc32(call, self.order[0])


ALONE = Share(0, 1)


def unsent(x: mx.array) -> mx.array:
    """Zeros in place of what another rank has; they wait for `x`, and for all before it."""
    zeros: mx.array = mx.depends([mx.zeros_like(x)], [x])[0]
    return zeros


def announced(environment: Mapping[str, str]) -> Share:
    """The share that an environment speaks of, before any rank was met; ALONE where it does not.

    mlx.launch gives the only process of a ring an empty list of hosts. ShareError where the
    environment names a rank, but no readable list of hosts.
    """
    if "MLX_RANK" not in environment or _of_one(environment):
        return ALONE
    hosts = _hosts(environment)
    rank = int(environment["MLX_RANK"]) if environment["MLX_RANK"].isdecimal() else -1
    if not 0 <= rank < len(hosts):
        raise ShareError(
            f"MLX_RANK is {environment['MLX_RANK']!r}, expected 0 to {len(hosts) - 1}, a rank "
            "of the hosts listed; start with mlx.launch."
        )
    return replace(
        ALONE, rank=rank, size=len(hosts), hosts=hosts, sent=Counter(), calls=Counter(), order=[0]
    )


def _of_one(environment: Mapping[str, str]) -> bool:
    """True where mlx.launch has started a single process."""
    file = Path(environment.get("MLX_HOSTFILE", ""))
    return environment["MLX_RANK"] == "0" and file.is_file() and not file.stat().st_size


def _hosts(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses of the ranks, out of MLX's ring file or its table of RDMA devices."""
    name = next((n for n in ("MLX_HOSTFILE", "MLX_IBV_DEVICES") if n in environment), None)
    if name is None:
        raise ShareError(
            "MLX_RANK is set, but neither MLX_HOSTFILE nor MLX_IBV_DEVICES; start with mlx.launch."
        )
    try:
        listed = read_json(Path(environment[name]))
        if name == "MLX_IBV_DEVICES":
            return tuple("" for _ in listed)
        return tuple(str(host[0]).rpartition(":")[0] for host in listed)
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise ShareError(
            f"{name} cannot be read: {one_line(error)}; start with mlx.launch."
        ) from None


def met(share: Share, seconds: float = SECONDS, file: str = "") -> Share:
    """The share once all ranks have met; this waits for those that are not there yet.

    The process ends with a line and EXIT_CODE where they are not there after `seconds`: nothing
    else can end what waits. file: gets that code, too. ShareError where they cannot be reached, or
    are another number than was announced.
    """
    if share.alone:
        return share
    here, others = share.mac(share.rank), share.others()
    line = f"error: {here} waited {seconds:g} s for {others}; see what keeps it, and start again."
    try:
        with ended_after(seconds, line, file):
            group = mx.distributed.init(strict=True)
    except (RuntimeError, ValueError) as error:
        raise ShareError(
            f"{here} cannot reach {others} ({one_line(error)}); see what keeps it, and start "
            "again.",
            lost=True,
        ) from None
    if (group.rank(), group.size()) != (share.rank, share.size):
        raise ShareError(
            f"MLX made rank {group.rank()} of {group.size()} of this process, expected "
            f"{share.rank} of {share.size}; start with mlx.launch."
        )
    return replace(share, group=group)
