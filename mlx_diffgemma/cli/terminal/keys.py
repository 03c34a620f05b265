"""The keyboard of a terminal, which only a process in its foreground may use or set."""

import os


def in_foreground(descriptor: int) -> bool:
    """True where this process may set the terminal: in the background that would stop it."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:  # not this session's terminal, which asks nobody
        return True
