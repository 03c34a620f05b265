"""A text in the editor that a user has chosen: $VISUAL, $EDITOR, or one that is found."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import one_line
from ...machine.files import decode_utf8, read_bytes
from ..errors import ArgumentError, FileError
from ..terminal.streams import can_draw, is_terminal

USUAL = ("nano", "vim", "vi")
CHOOSE = "set $VISUAL or $EDITOR to one that runs here"


def edited(text: str) -> str:
    """The text as the editor leaves it, without line breaks at its end.

    ArgumentError without a terminal or an editor, FileError where the editor fails. Ctrl-C is the
    editor's meanwhile.
    """
    if not (is_terminal(sys.stdin) and can_draw(sys.stderr)):
        raise ArgumentError("an editor needs a terminal, and here is none.")
    command = _command()
    try:
        with tempfile.TemporaryDirectory(prefix="mlx-diffgemma-") as folder:
            file = Path(folder) / "question.md"
            file.write_text(f"{text}\n" if text else "", encoding="utf-8")
            _run([*command, str(file)])
            return decode_utf8(read_bytes(file)).replace("\r\n", "\n").rstrip("\n")
    except ValueError as error:
        raise FileError(f"what {command[0]} has written is {error}; the text stays.") from error


def _command() -> list[str]:
    for name in ("VISUAL", "EDITOR"):
        if chosen := os.environ.get(name, "").strip():
            try:
                return shlex.split(chosen)
            except ValueError as error:
                raise ArgumentError(f"${name} is {chosen!r:.60}: {error}; {CHOOSE}.") from None
    found = next(filter(None, map(shutil.which, USUAL)), None)
    if found is None:
        raise ArgumentError(f"there is no editor; {CHOOSE}.")
    return [found]


def _run(command: list[str]) -> None:
    try:
        with _ctrl_c_passed_on():
            # Standard output may be a file for the answers; an editor draws on the terminal.
            code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    except OSError as error:
        said = error.strerror or one_line(error)
        raise FileError(f"the editor {command[0]}: {said}; {CHOOSE}.") from error
    if code:
        ended = f"signal {-code}" if code < 0 else f"code {code}"
        raise FileError(f"the editor {command[0]} ended with {ended}; the text stays as it was.")


@contextmanager
def _ctrl_c_passed_on() -> Iterator[None]:
    """Let Ctrl-C do nothing here; a handler, since to ignore it would be inherited."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
