"""Keys that are typed while nothing reads them: not echoed, and neither lost nor run by a shell."""

import fcntl
import os
import select
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .replies import Sieve
from .streams import is_piped

INPUT, LOCAL, CONTROL = 0, 3, 6  # places in the list that tcgetattr gives
ENTER, LINE_FEED = b"\r", b"\n"  # Ctrl-J is a line feed, and what the kernel makes of Enter
CTRL_D, END_OF_FILE = b"\x04", b"\0"  # and what Linux makes of it in a line buffer
SEEN = termios.ECHO | termios.ICANON
READ_BYTES = 4096

_read = bytearray()  # keys that were read in looking for something else, for the next reader


class Keys:
    """The keyboard of a terminal, which is hushed while the live view draws.

    Hushed, keys are not echoed, and the kernel keeps them as they are typed: in its line buffer an
    early Ctrl-D would be lost. Ctrl-C and Ctrl-Z stay signals.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.found: list[Any] | None = None  # the terminal's state before it was hushed
        self.sieve = Sieve()
        self.alone = not is_piped(sys.stdout)  # a pager behind a pipe reads keys, too
        self.gone = False  # the terminal is

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

    @property
    def readable(self) -> bool:
        """True where a read takes what is there and never waits: hushed, and open for it."""
        if self.found is None or self.gone or not self.alone or not in_foreground(self.descriptor):
            return False
        return fcntl.fcntl(self.descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR

    def take(self, seconds: float = 0.0) -> bytes:
        """Keys that have been typed, waited for so long; replies are sifted out of them.

        `readable` was true. The keys are the caller's, who may `give_back` those of others.
        """
        try:
            if seconds and not select.select([self.descriptor], [], [], seconds)[0]:
                return b""
            return self.sieve.sift(os.read(self.descriptor, READ_BYTES))
        except BlockingIOError:  # others may have set the terminal so
            return b""
        except OSError:
            self.gone = True
            return b""

    def forget(self) -> None:
        """Drop what has been typed and nobody has read: the shell would take it for commands."""
        _read.clear()
        if in_foreground(self.descriptor):
            with suppress(termios.error):
                termios.tcflush(self.descriptor, termios.TCIFLUSH)


def give_back(typed: bytes) -> None:
    """Keep keys that were read for the next reader, behind those that are kept already."""
    _read.extend(typed)


def given_back() -> bytes:
    """The keys that are kept, which are the caller's now."""
    typed = bytes(_read)
    _read.clear()
    return typed


@contextmanager
def typed_ahead(descriptor: int) -> Iterator[bytes]:
    """Take what has been typed ahead, whole lines or not; inside, keys are kept as they are typed.

    In a line buffer the kernel makes other keys of some: Enter becomes a line feed, and Ctrl-D on
    Linux a NUL. Those of what was there are given as the keys that they were.
    """
    found = termios.tcgetattr(descriptor)
    try:
        _set(descriptor, _without_echo(found))
        typed, sieve = given_back(), Sieve()
        with suppress(BlockingIOError):  # others may have set the terminal so
            while part := os.read(descriptor, READ_BYTES):
                typed += sieve.sift(part)
        yield (typed + sieve.rest).replace(LINE_FEED, ENTER).replace(END_OF_FILE, CTRL_D)
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
