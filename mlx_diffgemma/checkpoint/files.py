"""Small files of a checkpoint folder, read so that whatever is wrong with one fits on one line.

One rule for all that may be missing: no file is an empty one. A link to nothing, as an emptied Hub
cache leaves it, and a file that cannot be read are errors: what they said must not be guessed.
"""

import os
from io import StringIO
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, brief, one_line
from ..machine.files import decode_utf8, read_bytes, read_json

MANIFEST = "conversion.json"  # what a conversion says of its folder
MODEL_TYPE = "diffusion_gemma"  # what config.json calls the one architecture that is read
MOST_COUNT = (1 << 63) - 1  # of bytes, which the format of shards counts in 64 bits


def is_there(file: Path) -> bool:
    """True where a folder has this name; CheckpointError where the name is a link to nothing."""
    if leads_nowhere(file):
        raise CheckpointError(_not_found(file))
    return os.path.lexists(file)


def leads_nowhere(file: Path) -> bool:
    """True for a link to nothing, which is no missing file: a cache lost what it led to."""
    return os.path.islink(file) and not os.path.exists(file)


def require_no_lost_file(folder: Path) -> None:
    """CheckpointError for any name in a folder that is a link to nothing."""
    for file in sorted(folder.iterdir()):
        is_there(file)


def read_text(file: Path) -> str:
    """The UTF-8 text of a file, without a byte order mark in front."""
    try:
        text = decode_utf8(read_bytes(file))
    except FileNotFoundError:
        raise CheckpointError(_not_found(file)) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(_unreadable(file, error, "UTF-8 text")) from error
    return StringIO(text, newline=None).read()  # every kind of line break as one


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        content = read_json(file)
    except FileNotFoundError:
        raise CheckpointError(_not_found(file)) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(_unreadable(file, error, "a JSON object")) from error
    if not isinstance(content, dict):
        raise CheckpointError(_unreadable(file, type(content).__name__, "a JSON object"))
    return content


def read_optional(file: Path) -> dict[str, Any]:
    """The JSON object in a file, an empty one where there is no file."""
    return read_object(file) if is_there(file) else {}


def whole(value: Any, what: str, least: int = 1, most: int = MOST_COUNT) -> int:
    """A whole number of JSON in its range; ValueError for another value, 8.0 and true included."""
    if type(value) is int and least <= value <= most:
        return value
    raise ValueError(f"{what} is {brief(value)}, expected a whole number from {least:,}")


def _not_found(file: Path) -> str:
    if leads_nowhere(file):
        return (
            f"{file}: not found: it is a link to nothing, as a cache leaves it that lost the file; "
            "download the file again."
        )
    return (
        f"{file}: not found; a checkpoint folder holds config.json, tokenizer.json and "
        "*.safetensors."
    )


def _unreadable(file: Path, reason: object, expected: str) -> str:
    said = one_line(reason.strerror if isinstance(reason, OSError) else reason)
    return f"{file}: {said}, expected {expected}; download the file again."
