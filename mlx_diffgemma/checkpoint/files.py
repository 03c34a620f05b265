"""Small files of a checkpoint folder, read so that whatever is wrong with one fits on one line."""

from __future__ import annotations

import json
from pathlib import Path

from mlx_diffgemma.errors import CheckpointError, one_line


def read_text(path: Path) -> str:
    """The UTF-8 text of a file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(_unreadable(path, error, "UTF-8 text")) from error


def read_object(path: Path) -> dict[str, object]:
    """The JSON object in a file."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(_unreadable(path, error, "a JSON object")) from error
    if not isinstance(content, dict):
        raise CheckpointError(_unreadable(path, type(content).__name__, "a JSON object"))
    return content


def _unreadable(path: Path, reason: object, expected: str) -> str:
    return f"{path}: {one_line(reason)}, expected {expected}; download the file again."
