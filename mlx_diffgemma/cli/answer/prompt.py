"""A command's text, from its argument, a file or standard input; `-` joins the last to another."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import PromptError
from ...machine.files import read_bytes, read_stream
from ..errors import ArgumentError, FileError, reason
from ..terminal.streams import is_terminal

STDIN, STANDARD_INPUT = "-", "standard input"


@dataclass(frozen=True)
class RequiredText:
    """A text a command cannot do without: its name, and the ways to give it.

    optional: it may be empty, since an image stands beside it; stdin_taken: standard input is an
    option's file, and no part of it; as_it_is: to the byte, as --raw wants it.
    """

    name: str
    argument: str
    option: str
    example: str  # a command that has it
    optional: bool = False
    stdin_taken: bool = False
    as_it_is: bool = False


PROMPT = RequiredText(
    "prompt", "PROMPT", "--prompt-file", '`mlx-diffgemma generate "Why is the sky blue?"`'
)
TEMPLATE = RequiredText(
    "template", "TEMPLATE", "--template-file", '`mlx-diffgemma fill "The sky is [[...]]."`'
)


def given_words(*words: str | None) -> list[str]:
    """The words that a user typed for one text."""
    return [word for word in words if word is not None]


def read_text(words: Sequence[str], file: Path | None, wanted: RequiredText) -> tuple[str, str]:
    """The text, and the final line break of the file or of standard input that it ends with.

    `-` among the words is standard input: beside a text or a file both are joined, with a blank
    line between them, in the order given; a file comes first. As it is, a text has all its bytes,
    the line break and a byte order mark too, and nothing comes between two. ArgumentError: none
    given, or more; FileError: unreadable or not UTF-8; PromptError: empty where not optional.
    """
    sources = _sources(words, file, wanted)
    parts = [_read(source, wanted, alone=len(sources) == 1) for source in sources]
    between = "" if wanted.as_it_is else "\n\n"
    return between.join(text for text, _ in parts), parts[-1][1] if parts else ""


def reads_stdin(words: Sequence[str], file: Path | None) -> bool:
    """True where the text comes from standard input, or a part of it."""
    return STDIN in words if words else file is None


def _sources(
    words: Sequence[str], file: Path | None, wanted: RequiredText
) -> "list[str | Path | None]":
    """The texts, files and standard input (`-`, or None where nothing asks for it) to join."""
    texts = [word for word in words if word != STDIN]
    if len(texts) > 1:
        got = ", ".join(f"{text!r:.30}" for text in texts[:4])
        raise ArgumentError(
            f"{wanted.argument} is one text, got {len(texts)}: {got}"
            f"{', ...' if len(texts) > 4 else ''}; put quotes around all of it."
        )
    if len(words) - len(texts) > 1:
        raise ArgumentError(f"{STDIN} is given twice; standard input can be read once.")
    if wanted.stdin_taken and STDIN in words:
        raise ArgumentError(
            f"{STDIN} is given for an option and for {wanted.argument}; standard input can be "
            "read once."
        )
    if texts and file is not None:
        raise ArgumentError(
            f"{wanted.argument} and {wanted.option} are both given; give one of them."
        )
    if file is not None:
        return [file, *words]
    return [*words] or ([] if wanted.stdin_taken and wanted.optional else [None])


def _read(source: str | Path | None, wanted: RequiredText, *, alone: bool) -> tuple[str, str]:
    """A source's text, and the final line break that was taken off; an argument keeps its own."""
    if isinstance(source, Path):
        place, whole = str(source), _read_file(source, wanted)
    elif source is None or source == STDIN:
        place, whole = STANDARD_INPUT, _read_stdin(wanted, asked=source == STDIN)
    else:
        place, whole = wanted.argument, source
    if not whole.strip():
        if wanted.optional and alone and not isinstance(source, Path):
            return "", ""
        what = f"the {wanted.name}" if alone else place
        raise PromptError(f"{what} is empty, expected some text.")
    if place == wanted.argument or wanted.as_it_is:
        return whole, ""
    kept = whole.removesuffix("\n").removesuffix("\r")
    return kept, whole[len(kept) :]


def _read_file(file: Path, wanted: RequiredText) -> str:
    try:
        return _text(read_bytes(file), str(file), wanted)
    except OSError as error:
        raise FileError(f"the {wanted.name} cannot be read: {reason(error)}.") from error


def _read_stdin(wanted: RequiredText, *, asked: bool) -> str:
    """All of standard input; a terminal is read only when "-" asks for it."""
    if sys.stdin is None or wanted.stdin_taken or (not asked and is_terminal(sys.stdin)):
        if wanted.optional:
            return ""
        raise ArgumentError(
            f"no {wanted.name}; try {wanted.example}, {wanted.option} FILE, or a pipe into "
            "standard input."
        )
    try:
        return _text(read_stream(sys.stdin.buffer, STANDARD_INPUT), STANDARD_INPUT, wanted)
    except OSError as error:
        error.filename = STANDARD_INPUT
        raise FileError(f"the {wanted.name} cannot be read: {reason(error)}.") from error


def read_given_bytes(file: Path, what: str, advice: str = "") -> bytes:
    """The content of a file, or of standard input for `-`.

    FileError where it cannot be read; advice: behind the reason.
    """
    try:
        if str(file) != STDIN:
            return read_bytes(file)
        if sys.stdin is not None:
            return read_stream(sys.stdin.buffer, STANDARD_INPUT)
    except OSError as error:
        raise FileError(f"{what} cannot be read: {reason(error)}{advice}.") from error
    raise FileError(f"{what} cannot be read: {STANDARD_INPUT} is closed; name a file.")


def _text(content: bytes, place: str, wanted: RequiredText) -> str:
    try:
        return content.decode("utf-8" if wanted.as_it_is else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            f"the {wanted.name} cannot be read: {place} is not UTF-8 text (byte "
            f"0x{content[error.start]:02x} at {error.start:,}); save it as UTF-8."
        ) from error
