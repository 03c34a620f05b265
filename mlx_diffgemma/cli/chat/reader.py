"""What a chat reads: a question, whose lines somebody types or a pipe brings.

A line that ends with a backslash goes on in the next, and one that begins with three quotes up to
three quotes. Every reader raises EOFError at the end.
"""

from dataclasses import dataclass

from ...errors import PromptError

CONTINUATION = ". "  # before a line that goes on
QUOTES = '"""'  # around a text of several lines


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


def no_utf8(byte: int) -> PromptError:
    """The error of a line with a byte that is none of UTF-8."""
    return PromptError(f"the line is not UTF-8 (byte 0x{byte:02x}), expected UTF-8.")
