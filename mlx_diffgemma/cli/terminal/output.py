"""Standard output: the answer, part by part, each part once and only when it is certain.

Pipes and files get it byte for byte. On a terminal an answer that is printed whole, when it is
final, is shown as Markdown; one that is printed as it comes stays as it was written.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from ..errors import FileError, reason
from .streams import can_draw, detach, harmless, is_terminal, window

if TYPE_CHECKING:
    from rich.text import Text


@dataclass
class Printer:
    """An answer written as it grows, canvas by canvas or token by token.

    ending: the line break behind it, come what may; unset, one where the text ends without. shown:
    the beginning of the answer that was printed before. markdown: `finish` prints it all, styled;
    of an answer that goes on, the lines that differ from those printed before.
    """

    ending: str = ""
    shown: str = ""
    markdown: bool = False

    def add(self, text: str) -> None:
        """Write what stands behind all that was written, and is certain."""
        if text:
            write_out(text)
            self.shown += text

    def finish(self, text: str) -> None:
        """Write the rest of the answer and end its last line; an empty answer writes nothing."""
        if self.markdown:
            self._finish_styled(text)
            return
        if not text.startswith(self.shown):  # an answer that goes on turned out to be another
            write_out("\n")
            self.shown = ""
        self._continue(text)
        if self.shown and (self.ending or not self.shown.endswith("\n")):
            write_out(self.ending or "\n")

    def _finish_styled(self, text: str) -> None:
        from .markdown import rendered

        columns = window()[0]
        lines, before = (
            rendered(harmless(part), columns) if part else [] for part in (text, self.shown)
        )
        same = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(lines, before, strict=False))
        )
        write_styled(lines[same:])
        self.shown = text

    def _continue(self, text: str) -> None:
        if len(text) > len(self.shown) and text.startswith(self.shown):
            write_out(text[len(self.shown) :])
            self.shown = text


def shows_markdown() -> bool:
    """True where standard output is a terminal that has styles."""
    return can_draw(sys.stdout)


def require_output() -> None:
    """FileError where standard output is closed; asked before anything takes long."""
    if sys.stdout is None:
        raise FileError("standard output is closed, expected somewhere to write the answer.")


def write_out(text: str) -> None:
    """Text to standard output at once. BrokenPipeError when nobody reads it, else FileError.

    Pipes and files get every character as it is; to a terminal nothing goes that it would obey.
    """
    require_output()
    _write(harmless(text) if is_terminal(sys.stdout) else text)


def write_styled(lines: "Iterable[Text]") -> None:
    """Lines with their styles to standard output, which is a terminal; colours have none of them.

    What stands in the text may come of a model: nothing that the terminal would obey is in it.
    """
    from rich.console import Console

    from .screen import ansi

    require_output()
    console = Console(color_system=None)
    rows = []
    for line in lines:
        segments = [
            segment._replace(text=harmless(segment.text)) for segment in line.render(console)
        ]
        rows.append("".join([*ansi(tuple(segments), None), "\n"]))
    _write("".join(rows))


def _write(text: str) -> None:
    stream = sys.stdout
    encoding = stream.encoding or "utf-8"
    try:
        # A character this terminal's encoding lacks is written as \uXXXX, not lost.
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError as error:
        detach(stream)
        raise unwritten(error) from None


def unwritten(error: OSError) -> Exception:
    """What to raise where standard output takes no more; the error itself if nobody reads it."""
    if isinstance(error, BrokenPipeError):
        return error
    return FileError(f"standard output: {reason(error)}; the answer is incomplete.")


def write_lines(lines: Iterable[str]) -> None:
    """Lines to standard output, the last one ended too."""
    write_out("\n".join(lines) + "\n")


def broken(line: str, indent: int = 2) -> str:
    """A sentence with breaks between its words where standard output is a terminal.

    indent: blanks in front of its further rows.
    """
    if not is_terminal(sys.stdout):
        return line
    from .wrap import word_wrapped  # imported late: it brings Rich along

    return word_wrapped(line, window()[0], indent)


def write_json(value: Mapping[str, Any]) -> None:
    """One object on one line; NaN has no JSON and is a bug."""
    encoding = getattr(sys.stdout, "encoding", None) or ""
    readable = encoding.lower() in ("utf-8", "utf8")
    content = json.dumps(value, ensure_ascii=not readable, allow_nan=False)
    # JSON leaves DEL and C1 as they are, of which terminals take some for the beginning of escapes.
    write_out(re.sub("[\x7f-\x9f]", lambda found: f"\\u00{ord(found[0]):02x}", content) + "\n")


def show(value: Mapping[str, Any], lines: Iterable[str], as_json: bool) -> None:
    """A report, as one JSON object or as lines for people."""
    if as_json:
        write_json(value)
    else:
        write_lines(lines)
