"""Running a case in this process or in one of its own, and judging what it did."""

import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from cases import Argument, Case
from waiting import SECONDS as PATIENCE

SECONDS = 10  # of computing that no bad input may take longer than
LONGEST_LINE = 2000  # characters of an error
ALLOWED = (0, 1, 2)  # exit codes


class TooSlowError(BaseException):
    """The time is up; no handler of the program catches it."""


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


def in_process(case: Case, home: Path, seconds: float = SECONDS) -> Ended:
    """Run the command line in this process, with streams of its own."""
    from mlx_diffgemma.cli.app import app

    stdin = io.TextIOWrapper(io.BytesIO(case.stdin), encoding="utf-8")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with (
        mock.patch.dict(os.environ, environment(case, home)),
        chdir(home),
        mock.patch.object(sys, "stdin", stdin),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
        within(seconds),
    ):
        try:
            app([os.fsdecode(argument) for argument in case.argv], prog_name="mlx-diffgemma")
            code: Any = 0
        except SystemExit as end:
            code = end.code or 0
    return Ended(code, _text(stdout), _text(stderr))


def in_a_process(case: Case, home: Path) -> Ended:
    """Run the command as a user would; the system ends one that computes for too long."""
    limited: list[Argument] = ["sh", "-c", 'ulimit -t "$0" && exec "$@"', str(3 * SECONDS)]
    command: list[Argument] = [sys.executable, "-m", "mlx_diffgemma", *case.argv]
    done = subprocess.run(
        [*limited, *command],
        input=case.stdin,
        capture_output=True,
        env={**os.environ, **environment(case, home)},
        cwd=home,
        timeout=PATIENCE,
        check=False,
    )
    texts = (done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
    return Ended(done.returncode, *texts)


def environment(case: Case, home: Path) -> dict[str, str]:
    """No network, nothing cached, and of the program's own files those of the case."""
    own = home / "config" / "mlx-diffgemma"
    own.mkdir(parents=True)
    for name, content in case.config.items():
        (own / name).write_bytes(content)
    return {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "HF_HOME": str(home / "hub"),
        "HF_HUB_OFFLINE": "1",
        "MLX_DIFFGEMMA_MODEL": "",
        "NO_COLOR": "1",
    }


def faults(case: Case, ended: Ended) -> list[str]:
    """Everything that is wrong with the way a command dealt with bad input."""
    found = []
    lines = ended.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if ended.code not in ALLOWED:
        found.append(f"exit code {ended.code}")
    if "Traceback" in ended.stderr:
        found.append("a traceback")
    if any(len(line) > LONGEST_LINE for line in lines):
        found.append(f"a line of {max(map(len, lines)):,} characters")
    if any(character < " " and character not in "\n\t" for character in ended.stderr):
        found.append("control characters on standard error")
    if ended.code == 0:
        if errors:
            found.append("an error and exit code 0")
        if case.answer is not None and not answers(case, ended.stdout):
            found.append("exit code 0 with another answer")
    elif len(errors) == 0:
        found.append("no line that says what is wrong")
    elif len(errors) > 1 and case.argv[0] != "chat" and not case.several:
        found.append("several errors")
    if case.must_work and ended.code != 0:
        found.append("refused, expected to work")
    return found


def answers(case: Case, stdout: str) -> bool:
    """True where standard output is the answer."""
    return stdout == case.answer


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """TooSlowError after so many seconds of computing, or far more in all: others may compute."""

    def ring(*_: object) -> None:
        raise TooSlowError

    limits = (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, PATIENCE),
    )
    usual = [signal.signal(number, ring) for number, _, _ in limits]
    try:
        for _, timer, limit in limits:
            signal.setitimer(timer, limit)
        yield
    finally:
        for (number, timer, _), before in zip(limits, usual, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, before)


def contents(*folders: Path) -> dict[str, str]:
    """Every file below the folders with a hash of what it holds, links with where they lead."""
    return {os.fsdecode(file): _hash(file) for folder in folders for file in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def _hash(file: Path) -> str:
    if file.is_symlink():
        return f"-> {file.readlink()}"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode("utf-8", "replace")  # type: ignore[attr-defined]
