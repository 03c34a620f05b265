"""A Mac kept from falling asleep while something takes long."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def awake() -> Iterator[None]:
    """Keep a Mac from idle sleep for as long as the context, or this process, lasts.

    macOS's own `caffeinate` does it, and watches this process: one that is killed holds nothing.
    Elsewhere, and where it is not found or does not start, nothing happens. A closed lid and a
    sleep that the user asks for stay what they are.
    """
    keeper = _keeper()
    try:
        yield
    finally:
        if keeper is not None:
            keeper.terminate()
            keeper.wait()


def _keeper() -> "subprocess.Popen[bytes] | None":
    tool = shutil.which("caffeinate") if sys.platform == "darwin" else None
    if tool is None:
        return None
    nowhere = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            [tool, "-i", "-w", str(os.getpid())],
            stdin=nowhere,
            stdout=nowhere,
            stderr=nowhere,
            start_new_session=True,  # Ctrl-C is for us, who may have something to finish
        )
    except OSError:
        return None
