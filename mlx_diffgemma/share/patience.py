"""An end to waiting for Macs that never come.

MLX keeps Python's lock while the ranks meet: no thread of this process runs then, and no handler of
a signal in Python. Another process counts the seconds, says the line, and sends a signal whose
handler is the system's own `_exit`. Its number is the exit code: that of SIGTRAP is EXIT_CODE.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 5  # of a process that waited in vain, or has lost another Mac
SECONDS = 60.0  # that a step may take before another Mac counts as stopped

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
def ended_after(seconds: float, line: str, file: str = "") -> Iterator[None]:
    """End this process with EXIT_CODE and a line on standard error where this takes longer.

    file: gets the exit code, too; none for "".
    """
    system = ctypes.CDLL(None)
    system.signal.restype = ctypes.c_void_p
    handler = ctypes.cast(system._exit, ctypes.c_void_p)
    before = system.signal(ctypes.c_int(EXIT_CODE), handler)
    given = [str(seconds), str(os.getpid()), str(EXIT_CODE), file, line]
    counting = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", COUNTING, *given], stdin=subprocess.PIPE
    )
    try:
        yield
    finally:
        counting.communicate()  # closes its standard input, and it ends
        system.signal(ctypes.c_int(EXIT_CODE), ctypes.c_void_p(before))
