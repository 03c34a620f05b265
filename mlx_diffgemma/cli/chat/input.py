"""The input of a chat: a line editor on a terminal, else the lines of standard input."""

import sys
from collections.abc import Iterable
from pathlib import Path

from ..errors import FileError, reason
from ..terminal.streams import can_draw, is_terminal
from .editor import Editor
from .reader import LineReader, no_utf8

MOST_LINE_BYTES = 1 << 24


class ReadError(FileError):
    """Standard input failed: there will be no further line."""


def open_reader(words: Iterable[str], history: Path | None = None) -> LineReader:
    """An editor where there is a terminal for one; `words` are completed with the tab key.

    history: the file of lines typed in earlier chats, None for none.
    """
    if is_terminal(sys.stdin) and can_draw(sys.stderr):
        return Editor(words, history)
    return PlainLines()


class PlainLines(LineReader):
    """Standard input line by line; UTF-8, as every other text."""

    def __init__(self) -> None:
        self.interactive = is_terminal(sys.stdin)

    def line(self, prompt: str) -> str:
        """The next line; a prompt is shown to people only."""
        if sys.stdin is None:
            raise EOFError
        if self.interactive and sys.stderr is not None:  # print would take standard output instead
            print(prompt, end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.buffer.readline(MOST_LINE_BYTES)
        except OSError as error:
            raise ReadError(f"standard input: {reason(error)}; the chat ends.") from error
        if len(line) == MOST_LINE_BYTES:
            raise ReadError(
                f"standard input has a line of {MOST_LINE_BYTES >> 20} MiB or more, expected a "
                "question; the chat ends."
            )
        if not line:
            raise EOFError
        try:
            return line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise no_utf8(line[error.start]) from error
