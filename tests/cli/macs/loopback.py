"""Processes on the loopback interface that answer together, with or without mlx.launch."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
SECONDS = 120.0


def hostfile(folder: Path, count: int = 2) -> Path:
    """A hostfile of so many processes of this machine."""
    file = folder / "hosts.json"
    file.write_text(json.dumps([{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * count))
    return file


@dataclass
class Ranks:
    """Processes as mlx.launch starts them, but nobody ends the others where one has ended."""

    folder: Path
    processes: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, *argvs: list[str], wait: float = SECONDS, absent: int = 0) -> None:
        """A rank for each list of arguments, and `absent` that are announced and never come."""
        ports = _free_ports(len(argvs) + absent)
        file = self.folder / "ring.json"
        file.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in ports]))
        given = {"MLX_HOSTFILE": str(file), "MLX_DIFFGEMMA_LINK_SECONDS": str(wait)}
        for rank, argv in enumerate(argvs):
            environment = {**os.environ, **given, "MLX_RANK": str(rank), "PYTHONUNBUFFERED": "1"}
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "mlx_diffgemma", *argv],
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def first_line(self) -> str:
        """The first line that rank 0 prints."""
        stream = self.processes[0].stdout
        assert stream is not None
        return stream.readline()

    def ended(self, rank: int) -> tuple[int, str, str]:
        """Exit code and outputs of a rank that has to end by itself; MLX's own lines left out."""
        process = self.processes[rank]
        out, err = process.communicate(timeout=SECONDS)
        said = [line for line in err.splitlines() if not line.startswith("[ring]")]
        return process.returncode, out, "\n".join(said)

    def kill(self) -> None:
        """End all that is still there."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in made:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in made]


def children(pid: int) -> list[int]:
    """The processes of the session that a process leads, by /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                after = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if pid in (int(after[1]), int(after[3])):
                found.append(int(entry.name))
    return found


def until(done: object, seconds: float = SECONDS) -> None:
    """Wait until a callable says yes."""
    last = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < last
        time.sleep(0.05)
