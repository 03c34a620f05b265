"""Arrays kept on disk by what they were computed from: a folder of .npz files, the oldest go first.

Nothing here raises: a file that cannot be read is as if it were not there, and one that cannot be
written is computed again.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..machine.files import own_file, read_bytes, replace_file

FORMAT = 2  # raised when the arrays, or what they are computed by, change
MOST_FILES = 64
MOST_BYTES = 64 << 20
CHECK = "check"  # the name of the array that says what the file is for

Arrays = Mapping[str, NDArray[Any]]


def folder() -> Path | None:
    """The folder of all files; None without a home."""
    return own_file("XDG_CACHE_HOME", ".cache", "forms")


def recall(kind: str, key: str, dtypes: Mapping[str, str]) -> Arrays | None:
    """The arrays that were stored for a key, of these kinds of dtype; None where there are none."""
    if (file := _file(kind, key)) is None:
        return None
    try:
        with np.load(BytesIO(read_bytes(file)), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in (CHECK, *dtypes)}
    except Exception:  # numpy and zipfile raise whatever a broken file makes them raise
        return None
    if str(arrays.pop(CHECK)) != _digest(kind, key):
        return None
    if any(array.dtype.kind != dtypes[name] for name, array in arrays.items()):
        return None
    with suppress(OSError):
        os.utime(file)
    return arrays


def store(kind: str, key: str, arrays: Arrays) -> None:
    """Keep arrays for a key, and drop the files that were not used for longest."""
    if (file := _file(kind, key)) is None:
        return
    content = BytesIO()
    np.savez(content, allow_pickle=False, **{**arrays, CHECK: np.array(_digest(kind, key))})
    with suppress(OSError):
        replace_file(file, content.getvalue())
        _prune(file.parent)


def _prune(kept_in: Path) -> None:
    """Drop the oldest files beyond MOST_FILES and MOST_BYTES."""
    found = [(entry.stat().st_mtime, entry.stat().st_size, entry) for entry in kept_in.iterdir()]
    total = 0
    for count, (_, size, entry) in enumerate(sorted(found, reverse=True), 1):
        total += size
        if count > MOST_FILES or total > MOST_BYTES:
            entry.unlink(missing_ok=True)


def _file(kind: str, key: str) -> Path | None:
    kept_in = folder()
    return None if kept_in is None else kept_in / f"{kind}-{_digest(kind, key)[:32]}.npz"


def _digest(kind: str, key: str) -> str:
    return hashlib.sha256(f"{FORMAT}\n{kind}\n{key}".encode()).hexdigest()
