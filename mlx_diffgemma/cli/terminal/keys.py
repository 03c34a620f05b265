"""Keys that are typed while nothing reads them: not echoed, and neither lost nor run by a shell."""

import os
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

INPUT, LOCAL, CONTROL = 0, 3, 6  # places in the list that tcgetattr gives
ENTER, LINE_FEED = b"\r", b"\n"  # Ctrl-J is a line feed, and what the kernel makes of Enter
CTRL_D, END_OF_FILE = b"\x04", b"\0"  # and what Linux makes of it in a line buffer
SEEN = termios.ECHO | termios.ICANON


class Keys:
    """The keyboard of a terminal, which is hushed while the live view draws.

    Hushed, keys are not echoed, and the kernel keeps them as they are typed: in its line buffer an
    early Ctrl-D would be lost. Ctrl-C and Ctrl-Z stay signals.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.found: list[Any] | None = None  # the terminal's state before it was hushed

    def hush(self) -> bool:
        """Stop echoing; True where there was an echo. Left alone in the background."""
        if self.found is not None or not in_foreground(self.descriptor):
            return False
        with suppress(termios.error):  # the terminal is gone
            found = termios.tcgetattr(self.descriptor)
            if found[LOCAL] & termios.ECHO:
                self.found = found
                _set(self.descriptor, _without_echo(found))
        return self.found is not None

    def restore(self) -> None:
        """Echo as before; once more costs nothing."""
        if self.found is not None and in_foreground(self.descriptor):
            with suppress(termios.error):
                _set(self.descriptor, self.found)
            self.found = None

    def forget(self) -> None:
        """Drop what has been typed and nobody has read: the shell would take it for commands."""
        if in_foreground(self.descriptor):
            with suppress(termios.error):
                termios.tcflush(self.descriptor, termios.TCIFLUSH)


@contextmanager
def typed_ahead(descriptor: int) -> Iterator[bytes]:
    """Take what has been typed ahead, whole lines or not; inside, keys are kept as they are typed.

    In a line buffer the kernel makes other keys of some: Enter becomes a line feed, and Ctrl-D on
    Linux a NUL. Those of what was there are given as the keys that they were.
    """
    found = termios.tcgetattr(descriptor)
    try:
        _set(descriptor, _without_echo(found))
        typed = b""
        with suppress(BlockingIOError):  # others may have set the terminal so
            while part := os.read(descriptor, 4096):
                typed += part
        yield typed.replace(LINE_FEED, ENTER).replace(END_OF_FILE, CTRL_D)
    finally:
        if in_foreground(descriptor):
            with suppress(termios.error):  # the terminal is gone
                _set(descriptor, found)


def in_foreground(descriptor: int) -> bool:
    """True where this process may set the terminal: in the background that would stop it."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:  # not this session's terminal, which asks nobody
        return True


def _without_echo(found: list[Any]) -> list[Any]:
    """The state with neither echo nor line buffer; a read takes what is there and never waits."""
    state = [*found[:CONTROL], list(found[CONTROL])]
    state[INPUT] &= ~termios.ICRNL  # Enter stays Enter
    state[LOCAL] &= ~SEEN
    state[CONTROL][termios.VMIN] = state[CONTROL][termios.VTIME] = 0
    return state


def _set(descriptor: int, state: list[Any]) -> None:
    termios.tcsetattr(descriptor, termios.TCSANOW, state)
