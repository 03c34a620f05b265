"""The shell that gives the terminal back for a process that cannot."""

import subprocess
from contextlib import suppress

SCRIPT = r"""
state=out
while read -r line; do state=$line; done
case $state in
in*) printf '\033[?2026l\033[0m\033[?7h\033[?25h\033[?1049l';;
below*) printf '\r\033[J\033[?2026l\033[0m\033[?7h\033[?25h';;
esac
case $state in *hushed) stty echo icanon <&1;; esac
"""
"""Reads "in", "in, hushed", "below" and "out" until the pipe closes, then leaves the other screen,
or erases the rows below the prompt, and lets the terminal echo again."""


class Guard:
    """A shell in a session of its own, where Ctrl-C and the like do not reach it; none without one.

    descriptor: of the terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        with suppress(OSError):
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", SCRIPT],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=descriptor,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def tell(self, state: bytes) -> None:
        """The state that the terminal is in from now on."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):  # somebody has killed it
                self.process.stdin.write(state + b"\n")

    def close(self) -> None:
        """End it; it does what its last state asks for."""
        if self.process is not None:
            self.process.communicate()
