"""Ranks on the loopback interface: processes that MLX's ring joins, each running one task.

A task is a function of rank_tasks.py that gets a Share and JSON, and returns JSON.
"""

import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forks import Process, started

from mlx_diffgemma.cli.macs.ports import own_ports

ROOT = Path(__file__).parents[2]
SECONDS = 240.0
OURS = re.compile(r"error: .*")  # threads of MLX's ring write at once, into each other's lines
GRACE = 120.0  # a rank may still be working where another has said all


@dataclass(frozen=True)
class Ended:
    """How a rank ended: its exit code, what its task returned, and its lines on standard error.

    code: None where it had to be killed, a negative signal number where it was.
    """

    code: int | None
    result: Any
    errors: list[str]


@contextmanager
def ring_file(folder: Path, count: int) -> Iterator[Path]:
    """The file that tells `count` ranks of their addresses on the loopback interface.

    No other ring of this machine has them as long as the context lasts.
    """
    with own_ports(count) as port:
        file = folder / "ring.json"
        file.write_text(json.dumps([[f"127.0.0.1:{port + rank}"] for rank in range(count)]))
        yield file


def run_ranks(
    count: int,
    task: str,
    /,
    seconds: float = SECONDS,
    kill: tuple[int, float] | None = None,
    stops: int | None = None,
    absent: int | None = None,
    **given: Any,
) -> list[Ended]:
    """How each of `count` ranks of a task ended; after `seconds` those that are left are killed.

    kill: a rank, and the seconds after which it is. stops: a rank that nobody waits for.
    absent: one that the others are told of, and that ends at once.
    """
    with tempfile.TemporaryDirectory() as folder, ring_file(Path(folder), count) as hosts:
        tasks = ["absent" if rank == absent else task for rank in range(count)]
        made = [_started(task, given, rank, hosts) for rank, task in enumerate(tasks)]
        if kill:
            time.sleep(kill[1])
            made[kill[0]].kill()
        try:
            _wait([process for rank, process in enumerate(made) if rank != stops], seconds)
            return [_ended(process, rank, hosts) for rank, process in enumerate(made)]
        finally:
            for process in made:
                process.kill()
                process.wait(SECONDS)


def _started(task: str, given: Any, rank: int, hosts: Path) -> Process:
    environment = {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)}
    files = (hosts.with_name(f"{rank}.{name}") for name in ("out", "err"))
    return started("rank_tasks", [task, json.dumps(given)], environment, *files)


def _wait(made: Sequence[Process], seconds: float) -> None:
    """Wait for all ranks to end; once one has, GRACE seconds at most for the others."""
    deadline, all_run = time.monotonic() + seconds, True
    while time.monotonic() < deadline:
        left = sum(process.poll() is None for process in made)
        if not left:
            return
        if all_run and left < len(made):
            all_run, deadline = False, min(deadline, time.monotonic() + GRACE)
        time.sleep(0.05)


def _ended(process: Process, rank: int, hosts: Path) -> Ended:
    code = process.poll()
    if code is None:
        process.kill()
        process.wait(SECONDS)
    out, err = (hosts.with_name(f"{rank}.{name}").read_text() for name in ("out", "err"))
    lines = out.splitlines()
    said = err.splitlines() if "Traceback" in err else OURS.findall(err)
    return Ended(code, json.loads(lines[-1]) if lines else None, said)


def results(ended: list[Ended]) -> list[Any]:
    """What the ranks returned; all of them must have ended well."""
    for rank, each in enumerate(ended):
        assert each.code == 0, (rank, each)
    return [each.result for each in ended]
