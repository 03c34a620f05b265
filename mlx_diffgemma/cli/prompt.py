"""Where a prompt comes from: the argument, --prompt-file or standard input; exactly one of them."""

import sys
from pathlib import Path

from ..errors import PromptError
from .errors import ArgumentError, FileError, reason
from .output import is_terminal

STDIN = "-"


def read_prompt(prompt: str | None, file: Path | None) -> str:
    """The prompt's text; one final line break of a file or of standard input is not part of it.

    ArgumentError: none given, or two; FileError: unreadable or not UTF-8; PromptError: empty.
    """
    if prompt is not None and file is not None:
        raise ArgumentError("PROMPT and --prompt-file are both given; give one of them.")
    if file is not None:
        text = _read_file(file)
    elif prompt is not None and prompt != STDIN:
        text = prompt
    else:
        text = _read_stdin(asked=prompt == STDIN)
    if not text.strip():
        raise PromptError("the prompt is empty, expected some text.")
    return text


def _read_file(file: Path) -> str:
    try:
        return _text(file.read_bytes(), str(file))
    except OSError as error:
        raise FileError(f"the prompt cannot be read: {reason(error)}.") from error


def _read_stdin(asked: bool) -> str:
    """All of standard input; a terminal is read only when "-" asks for it."""
    if sys.stdin is None or (not asked and is_terminal(sys.stdin)):
        raise ArgumentError(
            'no prompt; try `mlx-diffgemma generate "Why is the sky blue?"`, --prompt-file FILE, '
            "or a pipe into standard input."
        )
    try:
        return _text(sys.stdin.buffer.read(), "standard input")
    except OSError as error:
        raise FileError(f"the prompt cannot be read: standard input: {reason(error)}.") from error


def _text(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise FileError(
            f"the prompt cannot be read: {place} is not UTF-8 text (byte "
            f"0x{content[error.start]:02x} at {error.start:,}); save it as UTF-8."
        ) from error
