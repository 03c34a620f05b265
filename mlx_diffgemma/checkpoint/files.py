"""Small files of a checkpoint folder, read so that whatever is wrong with one fits on one line.

One rule for all that may be missing: no file is an empty one. A link to nothing, as an emptied Hub
cache leaves it, and a file that cannot be read are errors: what they said must not be guessed.
"""

import os
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, one_line
from ..machine.files import read_json


def is_there(file: Path) -> bool:
    """True where a folder has a file or a link of this name, wherever the link leads."""
    return os.path.lexists(file)


def read_text(file: Path) -> str:
    """The UTF-8 text of a file."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(_unreadable(file, error, "UTF-8 text")) from error


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        content = read_json(file)
    except FileNotFoundError:
        raise CheckpointError(
            f"{file}: not found; a checkpoint folder holds config.json, tokenizer.json and "
            "*.safetensors."
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(_unreadable(file, error, "a JSON object")) from error
    if not isinstance(content, dict):
        raise CheckpointError(_unreadable(file, type(content).__name__, "a JSON object"))
    return content


def read_optional(file: Path) -> dict[str, Any]:
    """The JSON object in a file, an empty one where there is no file."""
    return read_object(file) if is_there(file) else {}


def _unreadable(file: Path, reason: object, expected: str) -> str:
    return f"{file}: {one_line(reason)}, expected {expected}; download the file again."
