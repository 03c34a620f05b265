"""Keys that are typed while a Screen has the terminal, one by one and under their names."""

import os
import select
import time
from collections import deque

from .keys import given_back, in_foreground
from .replies import Sieve

READ_BYTES = 1024
ESCAPE_SECONDS = 0.05  # the rest of an arrow's escape comes within it; the Escape key is alone


class Typed:
    """The keys that somebody types on `descriptor`, in order; `left` and `q` are such names.

    The Screen has switched echo and line buffer off; Ctrl-C and Ctrl-Z stay signals.
    """

    def __init__(self, descriptor: int) -> None:
        from prompt_toolkit.input.vt100_parser import Vt100Parser

        self.descriptor = descriptor
        self.keys: deque[str] = deque()
        self.sieve = Sieve()
        self.parser = Vt100Parser(lambda press: self.keys.append(str(press.key.lower())))
        self.open = True

    def next(self, seconds: float) -> str | None:
        """The next key, waited for so long; None where none comes."""
        end = time.monotonic() + seconds
        self._parse(given_back())
        while not self.keys and (left := end - time.monotonic()) > 0:
            self._read(left)
        if not self.keys:
            self._read(0)
        return self.keys.popleft() if self.keys else None

    def _read(self, seconds: float) -> None:
        """Take what comes within so long, and an Escape that nothing follows.

        In the background the keys are the shell's, and reading them would stop this process.
        """
        if not self.open or not in_foreground(self.descriptor):
            time.sleep(seconds)
            return
        if not self._comes(seconds):
            return
        self._feed()
        while not self.keys and self.open and self._comes(ESCAPE_SECONDS):
            self._feed()
        if not self.keys:
            self.parser.flush()

    def _comes(self, seconds: float) -> bool:
        return bool(select.select([self.descriptor], [], [], seconds)[0])

    def _feed(self) -> None:
        try:
            content = os.read(self.descriptor, READ_BYTES)
        except OSError:
            content = b""
        self.open = bool(content)  # else the terminal is gone
        self._parse(self.sieve.sift(content))

    def _parse(self, content: bytes) -> None:
        self.parser.feed(content.decode("utf-8", "replace"))
