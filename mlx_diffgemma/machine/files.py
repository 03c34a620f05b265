"""Files read and written whole: whoever reads one sees the old content or all of the new."""

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Self


def own_file(variable: str, usual: str, name: str) -> Path | None:
    """Path of a file of this program's own, after the XDG base directories; None without a home.

    variable: of the environment, names the base folder; usual: that folder in the home.
    """
    base = os.environ.get(variable, "")
    try:
        folder = Path(base) if os.path.isabs(base) else Path.home() / usual
    except RuntimeError:
        return None
    return folder / "mlx-diffgemma" / name


def read_json(file: Path) -> Any:
    """The JSON value in a file; OSError where the file is not readable, ValueError for no JSON."""
    try:
        return json.loads(file.read_bytes())
    except RecursionError as error:
        raise ValueError("nested too deep") from error


class WholeFile:
    """A file's new content: `write` puts it in the file's place, leaving without takes it away.

    Made before the work whose result it will hold, so that OSError comes first where the file
    cannot be written. The old content stays until the new one is on the disk. A link stays a link;
    a device or a pipe is written into directly.
    """

    def __init__(self, file: Path, *, mode: int = 0o666) -> None:
        self.target = Path(os.path.realpath(file))
        self.part: Path | None = None
        self.descriptor = self._open(mode)

    def write(self, content: bytes) -> None:
        """The whole content, once."""
        while content:  # a disk that fills up takes a part first
            content = content[os.write(self.descriptor, content) :]
        if self.part:
            os.fsync(self.descriptor)
            os.replace(self.part, self.target)
            self.part = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.descriptor)
        if self.part:
            with suppress(OSError):
                self.part.unlink()

    def _open(self, mode: int) -> int:
        if self.target.exists():
            descriptor = os.open(self.target, os.O_WRONLY)  # a folder, or no permission: OSError
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
        part = self.target.with_name(part_name(self.target.name, os.urandom(4).hex()))
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        self.part = part
        return descriptor


def part_name(name: str, mark: str = "*") -> str:
    """The name of a new content beside the file `name`; a pattern for all of them by default."""
    return f".{name}.{mark}.part"


def replace_file(file: Path, text: str) -> None:
    """Writes a whole file of this program's own, its folder too; OSError where that fails."""
    with _own(file) as out:
        out.write(text.encode())


def require_replaceable(file: Path) -> None:
    """OSError where `replace_file` could not put anything; leaves nothing but the folder."""
    with _own(file):
        pass


def _own(file: Path) -> WholeFile:
    file.parent.mkdir(parents=True, exist_ok=True)
    return WholeFile(file, mode=0o600)
