"""The user's terminal for rank 0: mlx.launch puts pipes between, whose input every rank gets.

The process that starts the ranks tells rank 0, on the same Mac, the names of its own terminals: for
a chat all, for other commands those that are written to. What is no terminal on a chat's standard
input comes through a named pipe, with its end. The session of who started them keeps the terminal:
keys that are signals go to it, and it passes them on.
"""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from ..errors import ArgumentError, FileError, reason

STREAMS = "MLX_DIFFGEMMA_STREAMS"  # the environment's: names of three files, between commas
MOST_READ = 1 << 16


@dataclass(frozen=True)
class Streams:
    """The files that rank 0 has as its standard streams, "" for what mlx.launch gives it."""

    names: tuple[str, str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What tells rank 0; nothing where mlx.launch gives it all."""
        return {STREAMS: ",".join(self.names)} if any(self.names) else {}


NONE = Streams(("", "", ""))


def shown_on() -> Streams:
    """The terminals that this process writes to."""
    return Streams(("", _terminal_of(1), _terminal_of(2)))


def offered(folder: Path) -> Streams:
    """The terminals of this process, and a named pipe in `folder` for other input, which is fed."""
    _, output, errors = shown_on().names
    if not (typed := _terminal_of(0)):
        pipe = folder / "input"
        os.mkfifo(pipe)
        Thread(target=_feed, args=(pipe,), daemon=True).start()
        typed = str(pipe)
    return Streams((typed, output, errors))


def require_input() -> None:
    """ArgumentError where nobody gives rank 0, which this is, an input with an end."""
    if not os.environ.get(STREAMS, "").partition(",")[0]:
        raise ArgumentError(
            "chat has no terminal and no end of its input under mlx.launch; start it with --macs "
            "FILE, which gives rank 0 this terminal, or what standard input holds."
        )


def take_streams() -> None:
    """Make the files that were told of the standard streams of Python here, which is rank 0.

    FileError where one cannot be opened.
    """
    if (told := os.environ.get(STREAMS)) is None:
        return
    *others, errors = told.split(",")
    for number, name in enumerate(others):
        if name:
            _replace(number, name)
    if sys.stdout is not None and sys.stdout.isatty():
        getattr(sys.stdout, "reconfigure", lambda **_: None)(line_buffering=True)
    if errors:  # what MLX writes by itself still goes to who started this, and is sifted there
        sys.stderr = open(_opened(errors), "w", errors="backslashreplace", buffering=1)  # noqa: SIM115


def _replace(number: int, name: str) -> None:
    opened = _opened(name)
    os.dup2(opened, number)
    if opened != number:
        os.close(opened)


def _opened(name: str) -> int:
    how = os.O_RDWR | os.O_NOCTTY if name.startswith("/dev/") else os.O_RDONLY
    try:
        return os.open(name, how)
    except OSError as error:
        raise FileError(f"the terminal cannot be opened: {reason(error)}.") from error


def _terminal_of(number: int) -> str:
    """The name of a stream's terminal; "" for what is none."""
    with suppress(OSError):
        if os.isatty(number):
            return os.ttyname(number)
    return ""


def _feed(pipe: Path) -> None:
    """Copy standard input into a pipe up to its end, or that of who reads it."""
    with suppress(OSError), pipe.open("wb", buffering=0) as out:
        while part := os.read(0, MOST_READ):
            _write(out.fileno(), part)


def _write(number: int, part: bytes) -> None:
    while part:
        part = part[os.write(number, part) :]
