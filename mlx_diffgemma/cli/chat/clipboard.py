"""Text to the clipboard: by the system's own program, or by the terminal that shows it.

Over ssh a program would fill the clipboard of the far machine, so the terminal is asked (OSC 52).
tmux is told by its own command, and where that fails by an escape that it passes on.
"""

import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping

from ...errors import counted
from ..errors import FileError
from ..terminal.signals import signals_held
from ..terminal.streams import can_draw, detach

PBCOPY = {"LC_CTYPE": "UTF-8"}  # without a locale it would read Mac Roman
SECONDS = 5.0  # that a program may take
MOST_BYTES = 74_994  # that xterm and others take in one escape, in base64 100,000
ESCAPE = "\x1b]52;c;{}\x07"
PASSED_ON = "\x1bPtmux;{}\x1b\\"  # with its escapes doubled


def copy(text: str) -> str:
    """Put a text into the clipboard; in words, where it went. FileError where there is no way."""
    size = counted(len(text), "character")
    for name, command in programs().items():
        if _given(command, text):
            return f"{size} copied to the clipboard by {name}"
    if not can_draw(sys.stderr):
        raise FileError(
            "there is no clipboard: no terminal, and none of pbcopy, wl-copy, xclip and xsel "
            "worked; /save FILE writes the conversation."
        )
    if len(text.encode()) > MOST_BYTES:
        raise FileError(
            f"{size} are more than terminals take, and no program for the clipboard worked; "
            "/save FILE writes the conversation."
        )
    _tell_terminal(osc52(text, within_tmux=bool(os.environ.get("TMUX"))))
    return f"{size} sent to the terminal, which copies them if it knows OSC 52"


def programs(environ: Mapping[str, str] = os.environ) -> dict[str, list[str]]:
    """The commands that take a text for the clipboard of this screen, by name, the best first."""
    ways: dict[str, list[str]] = {}
    if not (environ.get("SSH_CONNECTION") or environ.get("SSH_TTY")):
        if sys.platform == "darwin":
            ways["pbcopy"] = ["pbcopy"]
        if environ.get("WAYLAND_DISPLAY"):
            ways["wl-copy"] = ["wl-copy"]
        if environ.get("DISPLAY"):
            ways["xclip"] = ["xclip", "-selection", "clipboard"]
            ways["xsel"] = ["xsel", "--clipboard", "--input"]
    if environ.get("TMUX"):
        ways["tmux"] = ["tmux", "load-buffer", "-w", "-"]
    return {name: command for name, command in ways.items() if shutil.which(command[0])}


def osc52(text: str, *, within_tmux: bool) -> str:
    """The escape that asks a terminal to take a text into its clipboard."""
    escape = ESCAPE.format(b64encode(text.encode()).decode("ascii"))
    return PASSED_ON.format(escape.replace("\x1b", "\x1b\x1b")) if within_tmux else escape


def _given(command: list[str], text: str) -> bool:
    """True where a program took the text. Its output goes nowhere: xclip stays behind with it."""
    nowhere = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            stdout=nowhere,
            stderr=nowhere,
            timeout=SECONDS,
            check=False,
            start_new_session=True,  # Ctrl-C is not for the one that stays behind
            env={**os.environ, **PBCOPY} if command[0] == "pbcopy" else None,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _tell_terminal(escape: str) -> None:
    """Write an escape whole: half of one would swallow what follows."""
    with signals_held():
        try:
            sys.stderr.write(escape)
            sys.stderr.flush()
        except OSError:
            detach(sys.stderr)
