"""A command's text, from exactly one of its argument, a file and standard input."""

import sys
from dataclasses import dataclass
from pathlib import Path

from ...errors import PromptError
from ..errors import ArgumentError, FileError, reason
from ..terminal.streams import is_terminal

STDIN = "-"


@dataclass(frozen=True)
class RequiredText:
    """A text a command cannot do without: its name, and the ways to give it."""

    name: str
    argument: str
    option: str
    example: str  # a command that has it


PROMPT = RequiredText(
    "prompt", "PROMPT", "--prompt-file", '`mlx-diffgemma generate "Why is the sky blue?"`'
)
TEMPLATE = RequiredText(
    "template", "TEMPLATE", "--template-file", '`mlx-diffgemma fill "The sky is [[...]]."`'
)


def read_text(text: str | None, file: Path | None, wanted: RequiredText) -> tuple[str, str]:
    """The text, and the final line break of the file or of standard input that it was read from.

    ArgumentError: none given, or two; FileError: unreadable or not UTF-8; PromptError: empty.
    """
    if text is not None and file is not None:
        raise ArgumentError(
            f"{wanted.argument} and {wanted.option} are both given; give one of them."
        )
    if file is not None:
        whole = _read_file(file, wanted)
    elif text is not None and text != STDIN:
        whole = text
    else:
        whole = _read_stdin(wanted, asked=text == STDIN)
    if not whole.strip():
        raise PromptError(f"the {wanted.name} is empty, expected some text.")
    if whole is text:
        return whole, ""
    kept = whole.removesuffix("\n").removesuffix("\r")
    return kept, whole[len(kept) :]


def _read_file(file: Path, wanted: RequiredText) -> str:
    try:
        return _text(file.read_bytes(), str(file), wanted)
    except OSError as error:
        raise FileError(f"the {wanted.name} cannot be read: {reason(error)}.") from error


def _read_stdin(wanted: RequiredText, *, asked: bool) -> str:
    """All of standard input; a terminal is read only when "-" asks for it."""
    if sys.stdin is None or (not asked and is_terminal(sys.stdin)):
        raise ArgumentError(
            f"no {wanted.name}; try {wanted.example}, {wanted.option} FILE, or a pipe into "
            "standard input."
        )
    try:
        return _text(sys.stdin.buffer.read(), "standard input", wanted)
    except OSError as error:
        raise FileError(
            f"the {wanted.name} cannot be read: standard input: {reason(error)}."
        ) from error


def _text(content: bytes, place: str, wanted: RequiredText) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            f"the {wanted.name} cannot be read: {place} is not UTF-8 text (byte "
            f"0x{content[error.start]:02x} at {error.start:,}); save it as UTF-8."
        ) from error
