"""mlx.launch as this program starts it: its faults are mended, and it ends with who started it."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...checkpoint.default import MODEL_VARIABLE
from ..errors import ArgumentError
from .ended import EXIT_FILE, NAMES
from .hostfile import LOCAL, Hostfile
from .options import WAIT

PATIENCE = 10.0  # seconds that ranks may take to end once rank 0 has, or a signal has come

# mlx.launch outlives a signal, which its ranks get too: it has to see how they end. Its threads
# wait until a rank writes or can be written to, which it always can: they would take a core. They
# drop what is no UTF-8, such as the two halves of a letter: they get whole ones. They print their
# own lines word by word, into those of ranks: they get one write. Nobody writes to its standard
# input, whose end says that whoever started it was killed: its session ends, too, wherever
# mlx.launch itself waits.
LAUNCHER = (
    f"PATIENCE = {PATIENCE}"
    + """
import os, signal, threading, time
from codecs import getincrementaldecoder
from select import select
from types import SimpleNamespace
from mlx._distributed_utils import launch

decoders = {}

def end_with_input():
    select([0], [], [])
    os.killpg(0, signal.SIGTERM)
    last = time.monotonic() + PATIENCE
    while threading.active_count() > 2 and time.monotonic() < last:
        time.sleep(0.05)
    os.killpg(0, signal.SIGKILL)

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

def warned(said):
    os.write(2, f"\\33[33m[WARN] {said} \\33[0m\\n".encode())

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
launch.select, launch.log_warning = waited, warned
launch.os = SimpleNamespace(**{**vars(os), "read": read_whole})
if os.getpgrp() == os.getpid():  # a session of its own
    threading.Thread(target=end_with_input, daemon=True).start()
launch.main()
"""
)
EXIT = "exit"  # the file of a run's folder in which rank 0 leaves its exit code
PASSED_ON = (WAIT, MODEL_VARIABLE)  # ssh passes nothing of the environment on
MOST_BYTES = 100_000  # of a command: it becomes one word of a shell's, of which Linux takes 131,071


def launching(
    hosts: Hostfile,
    port: int,
    folder: Path,
    arguments: Sequence[str],
    more: Mapping[str, str] | None = None,
) -> list[str]:
    """mlx.launch by this interpreter, so that no PATH matters, here or on the other Macs.

    port: the ring's first. folder: gets a hostfile as mlx.launch reads it, and at the end rank 0's
    exit code in EXIT. more: of the ranks' environment. ArgumentError for a command that is too long
    to be passed on.
    """
    file = folder / "hosts.json"
    file.write_text(hosts.to_json())
    given = {"hostfile": file, "backend": hosts.backend, "starting-port": port}
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    told = {EXIT_FILE: folder / EXIT, NAMES: ",".join(hosts.names), **passed, **(more or {})}
    command = [sys.executable, "-m", "mlx_diffgemma", *arguments]
    _require_short(hosts, command)
    return [
        *(sys.executable, "-c", LAUNCHER),
        *(f"--{name}={value}" for name, value in given.items()),
        *(f"--env={name}={value}" for name, value in told.items()),
        *("--", *command),
    ]


def _require_short(hosts: Hostfile, command: Sequence[str]) -> None:
    """ArgumentError for a command that a shell here, or ssh's there, would not take."""
    quoted = shlex.join(command)
    if any(name != LOCAL for name in hosts.names):
        quoted = shlex.quote(quoted)  # ssh gets it as a word of its own
    if (count := len(os.fsencode(quoted))) > MOST_BYTES:
        raise ArgumentError(
            f"the command takes {count:,} bytes as it is passed on to the Macs, expected "
            f"{MOST_BYTES:,} at most; put the text into a file."
        )
