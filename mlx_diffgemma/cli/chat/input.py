"""The input of a chat: a line editor on a terminal, else the lines of standard input.

A line that ends with a backslash goes on in the next, and one that begins with three quotes up to
three quotes. Either reader raises EOFError at the end.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import PromptError
from ..errors import FileError, reason
from ..terminal.streams import can_draw, is_terminal

CONTINUATION = ". "  # before a line that goes on
QUOTES = '"""'  # around a text of several lines
MOST_LINE_BYTES = 1 << 24


class ReadError(FileError):
    """Standard input failed: there will be no further line."""


@dataclass(frozen=True)
class Entered:
    """What was typed; quoted: between three quotes, so that it is a question whatever it says."""

    text: str
    quoted: bool = False


class LineReader:
    """A source of questions."""

    interactive: bool

    def read(self, prompt: str) -> Entered:
        """The question: lines up to the first without a backslash at its end, joined; or a text.

        `prompt` stands before it where somebody types it. PromptError for a text without an end.
        """
        first = self.line(prompt)
        if is_quoted(first):
            return Entered(self._quoted(first), quoted=True)
        lines = [first]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            try:
                lines.append(self.line(CONTINUATION))
            except EOFError:
                break
        return Entered("\n".join(lines))

    def _quoted(self, first: str) -> str:
        """The text between three quotes, without the line breaks beside them."""
        lines = [first.lstrip()]
        closed = is_closed(first)
        while not closed:
            try:
                lines.append(self.line(CONTINUATION))
            except EOFError:
                raise PromptError(
                    f"the text that {QUOTES} began has no end, expected {QUOTES} behind it; "
                    "nothing was asked."
                ) from None
            closed = lines[-1].rstrip().endswith(QUOTES)
        inner = "\n".join(lines).rstrip()[len(QUOTES) : -len(QUOTES)]
        return inner.removeprefix("\n").removesuffix("\n")

    def line(self, prompt: str) -> str:
        """The next line, after a prompt."""
        raise NotImplementedError

    def wait(self) -> None:
        """Wait until somebody can read and type here."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


def is_quoted(line: str) -> bool:
    """True where a line begins a text of several lines, or is one of its own."""
    first, _, more = line.lstrip().partition("\n")
    begins = first.startswith(QUOTES)
    return begins and (bool(more) or first.count(QUOTES) == 1 or is_closed(first))


def is_closed(text: str) -> bool:
    """True where a text that three quotes begin also ends with them."""
    text = text.strip()
    return len(text) >= 2 * len(QUOTES) and text.endswith(QUOTES)


def open_reader(words: Iterable[str], history: Path | None = None) -> LineReader:
    """An editor where there is a terminal for one; `words` are completed with the tab key.

    history: the file of lines typed in earlier chats, None for none.
    """
    if is_terminal(sys.stdin) and can_draw(sys.stderr):
        from .editor import Editor

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


def no_utf8(byte: int) -> PromptError:
    """The error of a line with a byte that is none of UTF-8."""
    return PromptError(f"the line is not UTF-8 (byte 0x{byte:02x}), expected UTF-8.")
