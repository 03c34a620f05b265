"""Processes that are there at once: forks of one that has imported what they need.

A start of Python with MLX and the engine takes most of a second of a core, more than what many a
process of a test has to do. On a Mac, where a fork may not use the GPU, each is started anew.
"""

import atexit
import importlib
import multiprocessing as mp
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]
PRELOADED = (
    *("forks", "rank_tasks", "mlx_diffgemma.cli.app", "mlx_diffgemma.cli.answer.turn"),
    *("mlx_diffgemma.cli.macs.launch", "mlx_diffgemma.cli.macs.loading", "tokenizers"),
    *("mlx_diffgemma.text.sandbox", "mlx_diffgemma.cli.terminal.view"),
    "pytest",  # each fork imports the program that it was asked from
)
POLITE = ROOT / "tests/share/polite.c"
FORKS = sys.platform == "linux"


class Process(Protocol):
    """What a test does with a process of either kind."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """The exit code, the negative number of a signal; None while it runs."""

    def send_signal(self, number: int) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float) -> int: ...


class Fork:
    """A fork, with the methods of a Popen."""

    def __init__(self, process: Any) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    def poll(self) -> int | None:
        code: int | None = self.process.exitcode
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        self.process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.process.name, timeout)
        return code


def started(
    module: str, argv: Sequence[str], environment: Mapping[str, str], out: Path, err: Path
) -> Process:
    """A process that runs `main` of a module, which exits as it would behind `python -m`.

    Standard input is empty; out, err: files that get what it writes, as it is written.
    """
    complete = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
    if FORKS:
        given = (module, list(argv), complete, str(out), str(err))
        made = _forking().Process(target=_run, args=given, daemon=True)
        made.start()
        return Fork(made)
    with out.open("wb") as to_out, err.open("wb") as to_err:
        return subprocess.Popen(
            [sys.executable, "-m", module, *argv],
            cwd=ROOT,
            env={**complete, "PYTHONPATH": _path(), "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=to_out,
            stderr=to_err,
        )


def _path() -> str:
    """Where a process finds the engine and its tests."""
    found = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/share")]
    return os.pathsep.join([*found, *filter(None, [os.environ.get("PYTHONPATH")])])


def _forking() -> Any:
    """The context whose server, one for this process, has imported PRELOADED."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    before = dict(os.environ)
    os.environ |= {"PYTHONPATH": _path(), "OPENBLAS_NUM_THREADS": "1"}  # NumPy reads it once
    os.environ |= polite()
    try:
        ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


@cache
def polite() -> dict[str, str]:
    """The environment of ranks that sleep while they wait for each other; {} without a compiler."""
    library = Path(mkdtemp()) / "polite.so"
    atexit.register(rmtree, library.parent, ignore_errors=True)
    for compiler in (["cc"], [sys.executable, "-m", "ziglang", "cc"]):
        command = [*compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(POLITE), "-ldl"]
        with suppress(OSError):
            if FORKS and subprocess.run(command, capture_output=True).returncode == 0:
                return {"LD_PRELOAD": str(library)}
    return {}


def _run(module: str, argv: list[str], environment: dict[str, str], out: str, err: str) -> None:
    """The fork: what a new process would have, then the module's `main`."""
    for number, file in ((1, out), (2, err)):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *argv]
    importlib.import_module(module).main()
