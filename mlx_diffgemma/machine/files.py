"""Files read and written whole: whoever reads one sees the old content or all of the new."""

import errno
import json
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

PATIENCE = 5.0  # seconds that a pipe may lack a reader


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
    """A file's new content: `finish` puts it in the file's place, leaving without takes it away.

    Made before the work whose result it will hold, so that OSError comes first where the file
    cannot be written, or the disk has no room. The old content stays until the new one is on the
    disk, and its permissions stay. A link stays a link; a device or a pipe is written into.
    """

    def __init__(self, file: Path, *, mode: int = 0o666) -> None:
        self.target = Path(os.path.realpath(file))
        self.part: Path | None = None
        self.descriptor = self._open(file, mode)

    def write(self, content: bytes) -> None:
        """The whole content, once."""
        self.append(content)
        self.finish()

    def append(self, content: bytes) -> None:
        """More of the content; none of it where the disk takes only a part."""
        before = self.size
        try:
            while content:  # a disk that fills up takes a part first
                content = content[os.write(self.descriptor, content) :]
        except OSError:
            if self.part:
                os.ftruncate(self.descriptor, before)
                os.lseek(self.descriptor, before, os.SEEK_SET)
            raise

    @property
    def size(self) -> int:
        """Bytes of the content so far; 0 for a device or a pipe."""
        return os.fstat(self.descriptor).st_size

    def finish(self) -> None:
        """Put the content in the file's place."""
        if self.part:
            os.fsync(self.descriptor)
            os.replace(self.part, self.target)
            self.part = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.descriptor)
        self._discard()

    def _discard(self) -> None:
        if self.part:
            with suppress(OSError):
                self.part.unlink()

    def _open(self, file: Path, mode: int) -> int:
        old = None
        if os.path.exists(file):  # the target of /dev/stdout, as a link, is no path
            descriptor = _open_there(file)  # a folder, or no permission: OSError
            old = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(old):
                os.write(descriptor, b"")  # a device that is full says so
                return descriptor
            os.close(descriptor)
        part = self.target.with_name(part_name(self.target.name, os.urandom(4).hex()))
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        self.part = part
        try:
            if old is not None:
                os.fchmod(descriptor, stat.S_IMODE(old) & mode)
            _require_room(descriptor)
        except BaseException:
            os.close(descriptor)
            self._discard()
            raise
        return descriptor


def _open_there(file: Path) -> int:
    """A descriptor to write into what is there; a pipe is given some time to find a reader."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(file).st_mode):
                raise
            if time.monotonic() > end:
                raise OSError(errno.ENXIO, "nobody reads this pipe", str(file)) from None
            time.sleep(0.02)
    os.set_blocking(descriptor, True)
    return descriptor


def _require_room(descriptor: int) -> None:
    """OSError on a full disk: one byte is written and taken back."""
    os.write(descriptor, b"\n")
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)


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
