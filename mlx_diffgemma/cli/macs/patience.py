"""An end to waiting for Macs that never come.

MLX keeps Python's lock while the ranks meet: no thread of this process runs then, and no handler of
a signal in Python. Another process counts the seconds, says the line, and sends a signal whose
handler is the system's own `_exit`. Its number is the exit code: that of SIGTRAP is LINK_LOST.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import LINK_LOST
from .ended import EXIT_FILE, RANK

COUNTING = """
import os, select, sys
seconds, number, code, file, line = sys.argv[1:]
if not select.select([sys.stdin], [], [], float(seconds))[0]:
    os.write(2, line.encode() + b"\\n")
    if file:
        with open(file, "w") as stream:
            stream.write(code)
    os.kill(int(number), int(code))
"""


@contextmanager
def ended_after(seconds: float, line: str) -> Iterator[None]:
    """End this process with LINK_LOST and a line on standard error where this takes longer."""
    system = ctypes.CDLL(None)
    handler = ctypes.cast(system._exit, ctypes.c_void_p)
    system.signal(ctypes.c_int(LINK_LOST), handler)
    file = os.environ.get(EXIT_FILE, "") if os.environ.get(RANK) == "0" else ""
    given = [str(seconds), str(os.getpid()), str(LINK_LOST), file, line]
    counting = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", COUNTING, *given], stdin=subprocess.PIPE
    )
    try:
        yield
    finally:
        counting.communicate()  # closes its standard input, and it ends
        signal.signal(LINK_LOST, signal.SIG_DFL)
