"""mlx.launch and the ranks that it has started: signals to them, what they print and say."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from threading import Thread
from typing import IO

from ..errors import LINK_LOST, TERMINATED
from ..terminal.signals import signals_held
from ..terminal.streams import detach
from .launcher import PATIENCE

LAUNCHERS_OWN = b"\x1b[33m[WARN] Node with rank"
ENDED = re.compile(rb"Node with rank (\d+) exited with code (-?\d+)")
# What MLX says of a connection that is gone, ten times, in two writes, and no Mac by its name.
CHATTER = re.compile(
    rb"\[ring\]$|(\[ring\])? ?(Socket \d+ was|(Sending to|Receiving from) socket|Too many send)"
)
INTERRUPTED = b"interrupted.\n"  # a rank that still starts says it, too
MISSING = b" lost the connection to "
POLL = 0.05
MOST_READ = 1 << 16


def code_in(file: Path) -> int | None:
    """The exit code that rank 0 left in a file; None where it left none."""
    with suppress(OSError, ValueError):
        return int(file.read_text())
    return None


class Ranks:
    """mlx.launch and the processes that it has started.

    unwritten: why standard output takes no more of the answer: nobody reads it, or a full disk.
    ended: the rank that ended first, and not well, with its code. at_terminal: Ctrl-C is passed on
    and ends nothing by itself.
    """

    def __init__(self, command: Sequence[str], *, at_terminal: bool = False) -> None:
        self.at_terminal = at_terminal
        self.unwritten: OSError | None = None
        self.ended: list[tuple[int, int]] = []
        self.hurries, self.told = 0, False  # told: a signal was passed on
        self.heard = False  # that they were interrupted
        self.file: Path | None = None  # in which rank 0 leaves its exit code
        # A pipe that stays open and empty: its end tells the launcher that this process is gone.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.readers = [
            self._reader(self.process.stdout, self._answer, lines=False),
            self._reader(self.process.stderr, self._said, lines=True),
        ]

    def wait(self, file: Path, patience: float = PATIENCE) -> None:
        """Wait for all ranks, and pass signals on; KeyboardInterrupt behind one that came.

        Whoever still runs `PATIENCE` seconds after rank 0, or after one that failed, or `patience`
        after a signal, is killed: mlx.launch waits for ever for a rank that was stopped.
        """
        self.file = file
        last: float | None = None
        ended = False
        passed = 0
        try:
            with signals_held(None if self.at_terminal else self._hurried) as arrived:
                while self.process.poll() is None:
                    if len(arrived) > passed or self.unwritten:
                        self.told = True
                        self.signal(arrived[-1] if arrived else signal.SIGTERM)
                        passed = len(arrived)
                    if not ended and (ended := self._ending(file)):
                        last = time.monotonic() + PATIENCE
                    ends = signal.SIGTERM in arrived or not self.at_terminal
                    if last is None and passed and ends:
                        last = time.monotonic() + patience
                    if last is not None and time.monotonic() > last:
                        break
                    time.sleep(POLL)
        finally:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.close()

    def close(self) -> None:
        """Pass on what is left to be read, and close the pipes to the launcher, which has ended."""
        for reader in self.readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _ending(self, file: Path) -> bool:
        """True once all ranks should come to their end."""
        return file.exists() or self.unwritten is not None or bool(self.ended)

    def signal(self, number: int) -> None:
        """Send a signal to the launcher and every rank on this Mac; those behind ssh lose it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def _hurried(self) -> None:
        """Kill all at a second signal: what waits for the first may hang."""
        self.hurries += 1
        if self.hurries > 1:
            self.signal(signal.SIGKILL)

    def _left(self) -> bool:
        """True where rank 0 has ended, and has lost nobody."""
        return self.file is not None and code_in(self.file) not in (None, LINK_LOST, TERMINATED)

    def _reader(
        self, stream: IO[bytes] | None, take: Callable[[bytes], None], *, lines: bool
    ) -> Thread:
        """A thread that passes on what a stream brings, as it comes."""
        assert isinstance(stream, BufferedReader)

        def read() -> None:
            while piece := stream.readline() if lines else stream.read1(MOST_READ):
                take(piece)

        thread = Thread(target=read, daemon=True)
        thread.start()
        return thread

    def _answer(self, piece: bytes) -> None:
        """Pass a piece of rank 0's answer on to standard output."""
        if self.unwritten or sys.stdout is None:
            return
        try:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        except OSError as error:
            self.unwritten = error
            detach(sys.stdout)

    def _said(self, line: bytes) -> None:
        """Pass a line on standard error on, but what the launcher says of ranks that ended.

        Nor is a word said where the answer cannot be written: all are ended then. mlx.launch sends
        rank 0 a SIGTERM where another one has failed, whose line says why: no user has interrupted
        it. Where rank 0 has ended by itself, its own line says why, and others only miss it.
        """
        if LAUNCHERS_OWN in line:  # it may come between two writes of a rank
            if (found := ENDED.search(line)) and not self.ended:
                self.ended.append((int(found[1]), int(found[2])))
            if not (line := line.partition(LAUNCHERS_OWN)[0]):
                return
        if self.unwritten or sys.stderr is None or CHATTER.match(line):
            return
        if line.startswith(b"interrupted") and not self.told:
            return
        if line == INTERRUPTED:
            if self.heard:
                return
            self.heard = True
        if MISSING in line and line.startswith(b"rank ") and self._left():
            return
        with suppress(OSError):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
