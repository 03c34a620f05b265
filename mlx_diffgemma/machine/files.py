"""Files read and written whole: whoever reads one sees the old content or all of the new.

All JSON that this program reads comes through `parse_json`, and all that it writes into files of
JSON through `json_bytes`.
"""

import errno
import json
import math
import os
import re
import shutil
import stat
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Self

MOST_DEPTH = 100  # lists and objects inside each other: far more than any of these files has
MOST_DIGITS = 308  # of a whole number: with one more, the number may be beyond a double
MOST_SHOWN = 40  # characters of a key in an error
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # the escape of a half, or of a pair
HALF = re.compile("[\ud800-\udfff]")

PATIENCE = 5.0  # seconds that a pipe may lack a reader
MOST_BYTES = 1 << 30  # of a file that is read whole
MOST_UNSIZED_BYTES = 1 << 26  # of a pipe or a device, which may have no end


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


def read_bytes(file: Path) -> bytes:
    """The content of a file; OSError also for one that is too large to be read whole."""
    with file.open("rb") as stream:
        return read_stream(stream, str(file))


def read_stream(stream: BinaryIO, name: str) -> bytes:
    """All that an open file, pipe or device has; OSError where it is too large to be read whole."""
    most, size, content = MOST_BYTES, _size(stream), None
    if size is None:
        most, content = MOST_UNSIZED_BYTES, stream.read(MOST_UNSIZED_BYTES + 1)
        size = len(content)
    if size > most:
        raise OSError(errno.EFBIG, f"more than {most >> 20:,} MiB", name)
    return stream.read() if content is None else content


def _size(stream: BinaryIO) -> int | None:
    """The bytes of a regular file; None for all else."""
    try:
        there = os.fstat(stream.fileno())
    except OSError:  # no file behind it
        return None
    return there.st_size if stat.S_ISREG(there.st_mode) else None


def read_json(file: Path) -> Any:
    """The JSON value in a file; OSError where the file is not readable, ValueError as parse_json's.

    A reader of JSON lines, or of a part of a file, calls `parse_json` itself.
    """
    return parse_json(read_bytes(file))


def parse_json(content: bytes) -> Any:
    """The JSON value in UTF-8 bytes; ValueError, its message a short line, where there is none.

    A byte order mark in front is dropped. Refused beside what is no JSON: an object that names a
    key twice, of which json would keep the last without a word; NaN and numbers beyond a double;
    half a surrogate pair; nesting on which whatever recurses over the value would fail later.
    """
    text = decode_utf8(content)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise _too_deep() from None
    _require_flat(value)
    if SURROGATE.search(text):
        _require_unicode(value)
    return value


def decode_utf8(content: bytes) -> str:
    """The text in UTF-8 bytes, without a byte order mark in front; ValueError for other bytes."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{error.object[error.start]:02x} at {error.start:,}"
        raise ValueError(f"not UTF-8: {wrong}") from None


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """One JSON value in UTF-8, its last line ended; ValueError for NaN, which JSON has not.

    Half a surrogate pair, as Python reads a byte of a file's name that is not UTF-8, becomes the
    text of its escape, `\\udcff`.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    text = HALF.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text)
    return (text + "\n").encode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        (twice, _), *_ = counts.most_common(1)
        raise ValueError(f"{twice[:MOST_SHOWN]!r} is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"the number {text[:MOST_SHOWN]} is too large")


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits is too large")
    return int(text)


def _require_flat(value: Any) -> None:
    """ValueError for lists and objects deeper inside each other than MOST_DEPTH."""
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        inside = [each for each in level if isinstance(each, dict | list)]
        if not inside:
            return
        level = [v for each in inside for v in (each.values() if type(each) is dict else each)]
    raise _too_deep()


def _require_unicode(value: Any) -> None:
    """ValueError for text with half a surrogate pair, which nothing can write or encode."""
    if HALF.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("half a surrogate pair, which is no valid Unicode")


def _too_deep() -> ValueError:
    return ValueError(f"nested more than {MOST_DEPTH} deep")


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


class WholeFolder:
    """A new folder: `finish` puts it in its place, leaving without takes it away.

    `part` is where its files are written. A folder that was there is removed last.
    """

    def __init__(self, folder: Path) -> None:
        self.target = folder
        self.part = folder.with_name(part_name(folder.name, os.urandom(4).hex()))

    def finish(self) -> None:
        """Put the folder in its place, and bring that to the disk where the system can."""
        if self.target.exists():
            shutil.rmtree(self.target)
        os.replace(self.part, self.target)
        descriptor = os.open(self.target.parent, os.O_RDONLY)
        try:
            with suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        self.part.mkdir(parents=True)
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.part, ignore_errors=True)


def replace_file(file: Path, content: bytes) -> None:
    """Writes a whole file of this program's own, its folder too; OSError where that fails."""
    with _own(file) as out:
        out.write(content)


def require_replaceable(file: Path) -> None:
    """OSError where `replace_file` could not put anything; leaves nothing but the folder."""
    with _own(file):
        pass


def _own(file: Path) -> WholeFile:
    file.parent.mkdir(parents=True, exist_ok=True)
    return WholeFile(file, mode=0o600)
