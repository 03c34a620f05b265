"""Files of this program's own, replaced whole: whoever reads sees the old one or all of the new."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def own_file(variable: str, usual: str, name: str) -> Path | None:
    """Where this program keeps a file, after the XDG base directories; None without a home.

    variable: of the environment, names the base folder; usual: that folder in the home.
    """
    base = os.environ.get(variable, "")
    try:
        folder = Path(base) if os.path.isabs(base) else Path.home() / usual
    except RuntimeError:
        return None
    return folder / "mlx-diffgemma" / name


def replace_file(file: Path, text: str) -> None:
    """Writes the whole file beside its place and moves it there; OSError where that fails."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{file.stem}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(name, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def require_replaceable(file: Path) -> None:
    """OSError where `replace_file` could not put anything; leaves nothing but the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(file))
    descriptor, name = tempfile.mkstemp(prefix=f".{file.stem}-", dir=file.parent)
    os.close(descriptor)
    os.unlink(name)
