"""Content of files, of bytes and of open streams, with where it came from."""

import os
import re
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import ImageError, brief, one_line, shown
from ..machine.files import read_bytes, read_stream
from .formats import HEAD_BYTES
from .pixels import Source

URL = re.compile(r"(https?|ftp|file|data):", re.IGNORECASE)
EXPECTED = "expected a path, bytes, a PIL image, or an array of uint8"


@dataclass(frozen=True)
class Content:
    """The bytes of one image or video; name: of their file, for errors."""

    data: bytes
    name: str
    source: Source


def read(given: Any, what: str = "image") -> Content:
    """The content of a path, of bytes, or of an open binary file; ImageError for all else.

    what: the name of that which was not read from a file.
    """
    if isinstance(given, str | os.PathLike):
        return read_file(path_of(given, what))
    if isinstance(given, bytes | bytearray | memoryview):
        return _unnamed(bytes(given), f"the {what}")
    if hasattr(given, "read"):
        return _unnamed(_drain(given, what), _stream_name(given, what))
    raise ImageError(f"the {what} is {brief(given)}, {EXPECTED}.")


def path_of(given: "str | os.PathLike[str]", what: str = "image") -> Path:
    """The path of a file that is there; a leading ~ is the home."""
    text = os.fspath(given)
    if not text:
        raise ImageError(f"the path of the {what} is empty, expected that of a file.")
    try:
        path = Path(text).expanduser()
        there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no such home
        raise ImageError(f"{shown(text)}: {_said(error)}.") from error
    if not there and URL.match(text):
        raise ImageError(f"{shown(text)}: nothing is fetched; download it, and give its path.")
    return path


def read_file(path: Path) -> Content:
    """The content of one file."""
    try:
        data = read_bytes(path)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise unreadable(path, error) from error
    return Content(data, label(path), Source(absolute(path), sha256(data).hexdigest()))


def head_of(path: Path) -> bytes:
    """The first bytes of a file, which tell its format."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error


def hashed(path: Path) -> Source:
    """The Source of a file that is not read into memory."""
    try:
        with path.open("rb") as file:
            return Source(absolute(path), file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> ImageError:
    """The line about a file that is not there, is a folder, or may not be read."""
    return ImageError(f"{label(path)}: {_said(error)}.")


def absolute(path: Path) -> str:
    """The path as it is found from any folder."""
    return os.path.abspath(path)


def label(path: Path) -> str:
    """The path as errors write it."""
    return shown(str(path))


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or one_line(error)


def _drain(stream: BinaryIO, what: str) -> bytes:
    name = _stream_name(stream, what)
    try:
        data = read_stream(stream, name)
    except (OSError, ValueError) as error:  # ValueError: closed
        raise ImageError(f"{name}: {_said(error)}.") from error
    if not isinstance(data, bytes):
        raise ImageError(f"{name}: a stream of text, expected one of bytes.")
    return data


def _stream_name(stream: BinaryIO, what: str) -> str:
    name = getattr(stream, "name", None)
    if not isinstance(name, str):
        return f"the {what}"
    return "standard input" if name == "<stdin>" else shown(name)


def _unnamed(data: bytes, name: str) -> Content:
    return Content(data, name, Source(None, sha256(data).hexdigest()))
