"""Processes on the loopback interface that answer together, with or without mlx.launch."""

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from forks import Process, started
from ranks import ring_file
from waiting import SECONDS, wait_for

ROOT = Path(__file__).parents[3]


def hostfile(folder: Path, count: int = 2) -> Path:
    """A hostfile of so many processes of this machine."""
    file = folder / "hosts.json"
    file.write_text(json.dumps([{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * count))
    return file


def command(*argv: str) -> "subprocess.Popen[str]":
    """The command line as people start it, with pipes for what it prints and says."""
    return subprocess.Popen(
        [sys.executable, "-m", "mlx_diffgemma", *argv],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass
class Ranks:
    """Processes as mlx.launch starts them, but nobody ends the others where one has ended."""

    folder: Path
    processes: list[Process] = field(default_factory=list)
    ports: ExitStack = field(default_factory=ExitStack)

    def start(self, *argvs: list[str], wait: float = SECONDS, absent: int = 0) -> None:
        """A rank for each list of arguments, and `absent` that are announced and never come."""
        file = self.ports.enter_context(ring_file(self.folder, len(argvs) + absent))
        given = {"MLX_HOSTFILE": str(file), "MLX_DIFFGEMMA_LINK_SECONDS": str(wait)}
        for rank, argv in enumerate(argvs):
            environment = {**given, "MLX_RANK": str(rank)}
            files = [self._file(rank, name) for name in ("out", "err")]
            self.processes.append(started("mlx_diffgemma.__main__", argv, environment, *files))

    def _file(self, rank: int, name: str) -> Path:
        return self.folder / f"{rank}.{name}"

    def first_line(self) -> str:
        """The first line that rank 0 prints."""
        file = self._file(0, "out")
        wait_for(lambda: file.exists() and "\n" in file.read_text())
        return file.read_text().splitlines()[0]

    def ended(self, rank: int) -> tuple[int, str, str]:
        """Exit code and outputs of a rank that has to end by itself; MLX's own lines left out."""
        code = self.processes[rank].wait(SECONDS)
        out, err = (self._file(rank, name).read_text() for name in ("out", "err"))
        said = [line for line in err.splitlines() if not line.startswith("[ring]")]
        return code, out, "\n".join(said)

    def kill(self) -> None:
        """End all that is still there."""
        for process in self.processes:
            process.kill()
            process.wait(SECONDS)
        self.ports.close()


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
