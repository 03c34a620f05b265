"""The same command on every Mac of a hostfile, started through mlx.launch; rank 0's exit code.

mlx.launch returns 0 whatever happened, leaves the ranks running when SIGTERM ends it, and says of a
rank that ended what the rank has said itself: it runs in a session of its own, and its ranks get
the signals that this process gets.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import IO

from ...checkpoint.default import MODEL_VARIABLE
from ..errors import BROKEN_PIPE, LINK_LOST, TERMINATED, ArgumentError, exit_code
from ..terminal.signals import signals_held
from ..terminal.streams import detach, say
from .ended import EXIT_FILE, NAMES
from .hostfile import LOCAL, Hostfile, read_hostfile
from .options import WAIT, ShareOptions, link_seconds
from .ports import own_ports
from .terminal import offered, shown_on

# The launcher outlives a signal, which its ranks get too: it has to see how they end. Its threads
# wait until a rank writes or can be written to, which it always can: they would take a core. They
# drop what is no UTF-8, such as the two halves of a letter: they get whole ones.
LAUNCHER = """
import os, signal
from codecs import getincrementaldecoder
from select import select
from types import SimpleNamespace
from mlx._distributed_utils import launch

decoders = {}

def read_whole(file, most):
    read = os.read(file, most)
    decoder = decoders.setdefault(file, getincrementaldecoder("utf-8")("ignore"))
    whole = decoder.decode(read, final=not read).encode()
    if read and not whole:
        raise BlockingIOError
    return whole

def waited(reading, writing, other, seconds):
    found, _, _ = select(reading, [], [], min(seconds, 0.02))
    return found, select([], writing, [], 0)[1], []

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
launch.select = waited
launch.os = SimpleNamespace(**{**vars(os), "read": read_whole})
launch.main()
"""
PATIENCE = 10.0  # seconds that ranks may take to end once rank 0 has, or a signal has come
PASSED_ON = (WAIT, MODEL_VARIABLE)  # ssh passes nothing of the environment on
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


def launch(given: ShareOptions, arguments: Sequence[str], patience: float = PATIENCE) -> int:
    """Run the command with `arguments` on the Macs of --macs; the exit code of rank 0.

    patience: seconds that ranks may take to end behind a signal. LINK_LOST where rank 0 left none,
    since it was killed or never started, and where it was ended by mlx.launch, which does so when
    another rank fails. A terminal that this process writes to is rank 0's, where that is here.
    """
    assert given.macs is not None
    hosts = read_hostfile(given.macs)
    link_seconds()
    with TemporaryDirectory() as folder, own_ports(hosts.addresses) as port:
        file = Path(folder) / "exit"
        told = shown_on().environment if hosts.hosts[0].ssh == LOCAL else {}
        if told:
            _keep_terminal()
        return _run(hosts, file, Ranks(_command(hosts, port, file, arguments, told)), patience)


def launch_at_terminal(given: ShareOptions, arguments: Sequence[str]) -> int:
    """As `launch`, for a command that people type into: rank 0 has this process's terminal.

    Ctrl-C is rank 0's to answer, and ends nothing by itself. ArgumentError where rank 0 is not on
    this Mac.
    """
    assert given.macs is not None
    hosts = read_hostfile(given.macs)
    if (first := hosts.hosts[0].ssh) != LOCAL:
        raise ArgumentError(
            f"--macs: {hosts.file} has {first} as its first host, expected {LOCAL}, this Mac: it "
            "is where you type; name it first."
        )
    link_seconds()
    with TemporaryDirectory() as folder, own_ports(hosts.addresses) as port:
        file = Path(folder) / "exit"
        told = offered(Path(folder)).environment
        ranks = Ranks(_command(hosts, port, file, arguments, told), at_terminal=True)
        _keep_terminal()
        return _run(hosts, file, ranks, PATIENCE)


def _keep_terminal() -> None:
    """Leave Ctrl-Z without effect: rank 0 would go on to use the terminal beside a shell."""
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)


def _run(hosts: Hostfile, file: Path, ranks: "Ranks", patience: float) -> int:
    """Wait for the ranks; the exit code of rank 0, which leaves it in `file`."""
    try:
        ranks.wait(file, patience)
    except KeyboardInterrupt as interrupt:
        left = _code(file)
        return exit_code(interrupt) if left is None else left
    if ranks.unread:
        return BROKEN_PIPE
    if (code := _code(file)) is None:
        say(
            f"error: {hosts.hosts[0].ssh}, rank 0 of {hosts.file}, ended without an exit code: "
            "it was killed, or did not start; look at the lines above, and name this Mac "
            "127.0.0.1, the first of the hosts."
        )
        return LINK_LOST
    if code != TERMINATED:
        return code
    for rank, ended in ranks.ended:
        say(
            f"error: rank {rank} ({hosts.names[rank]}) ended with code {ended}, and mlx.launch "
            "ended the others; see what happened there, and start again."
        )
    return LINK_LOST


def _command(
    hosts: Hostfile,
    port: int,
    file: Path,
    arguments: Sequence[str],
    more: Mapping[str, str] | None = None,
) -> list[str]:
    """mlx.launch by this interpreter, so that no PATH matters, here or on the other Macs.

    port: the first one of the ring's. more: of the ranks' environment.
    """
    given = {"hostfile": hosts.file, "backend": hosts.backend, "starting-port": port}
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    told = {EXIT_FILE: file, NAMES: ",".join(hosts.names), **passed, **(more or {})}
    return [
        *(sys.executable, "-c", LAUNCHER),
        *(f"--{name}={value}" for name, value in given.items()),
        *(f"--env={name}={value}" for name, value in told.items()),
        *("--", sys.executable, "-m", "mlx_diffgemma", *arguments),
    ]


def _code(file: Path) -> int | None:
    """The exit code that rank 0 left; None where it left none."""
    with suppress(OSError, ValueError):
        return int(file.read_text())
    return None


class Ranks:
    """mlx.launch and the processes that it has started; unread: nobody reads standard output.

    ended: the rank that ended first, and not well, with its code. at_terminal: Ctrl-C is passed on
    and ends nothing by itself.
    """

    def __init__(self, command: Sequence[str], *, at_terminal: bool = False) -> None:
        self.unread, self.at_terminal = False, at_terminal
        self.ended: list[tuple[int, int]] = []
        self.hurries, self.told = 0, False  # told: a signal was passed on
        self.heard = False  # that they were interrupted
        self.file: Path | None = None  # in which rank 0 leaves its exit code
        # A pipe that stays open and empty: at the end of a file mlx.launch would spin.
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

        Whoever still runs `PATIENCE` seconds after rank 0, or `patience` after a signal, is killed.
        """
        self.file = file
        last: float | None = None
        ended = False
        passed = 0
        try:
            with signals_held(None if self.at_terminal else self._hurried) as arrived:
                while self.process.poll() is None:
                    if len(arrived) > passed or self.unread:
                        self.told = True
                        self.signal(arrived[-1] if arrived else signal.SIGTERM)
                        passed = len(arrived)
                    if not ended and (ended := file.exists() or self.unread):
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
            for reader in self.readers:
                reader.join()

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
        return self.file is not None and _code(self.file) not in (None, LINK_LOST, TERMINATED)

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
        if self.unread or sys.stdout is None:
            return
        try:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        except OSError:
            self.unread = True
            detach(sys.stdout)

    def _said(self, line: bytes) -> None:
        """Pass a line on standard error on, but what the launcher says of ranks that ended.

        Nor is a word said where nobody reads the answer: all are ended then. mlx.launch sends rank
        0 a SIGTERM where another one has failed, whose line says why: no user has interrupted it.
        Where rank 0 has ended by itself, its own line says why, and others only miss it.
        """
        if LAUNCHERS_OWN in line:  # it may come between two writes of a rank
            if (found := ENDED.search(line)) and not self.ended:
                self.ended.append((int(found[1]), int(found[2])))
            if not (line := line.partition(LAUNCHERS_OWN)[0]):
                return
        if self.unread or sys.stderr is None or CHATTER.match(line):
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
