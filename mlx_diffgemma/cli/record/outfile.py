"""One rule for every file that a command writes: the places it may take, and when it takes them.

A file that a command writes is none that it reads, none of the model's and no second output of the
same command. It takes the place of a file of its own kind or of an empty one; any other file stays,
unless --overwrite is given. All of that is decided before the work begins, and the old content
stays until the new one is whole. `-`, or a name of the same thing, is standard output.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...checkpoint.hub import known_folder
from ...machine.files import WholeFile, json_bytes, read_json
from ..errors import ArgumentError, FileError, reason
from ..terminal.output import require_output, write_json, write_out

STDOUT = Path("-")
OTHER_STREAMS = {0: "standard input", 2: "standard error"}


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name in errors, and the test that an existing file is one."""

    name: str
    holds: Callable[[Path], bool]


@dataclass(frozen=True)
class Wanted:
    """A file to write: the option that named it, the file, and the kind of its content."""

    option: str
    file: Path
    kind: Kind
    may_overwrite: bool = True  # the command has an option --overwrite


@dataclass(frozen=True)
class Taken:
    """A place that a command reads or writes: its name in errors, and a path or a descriptor.

    A folder is taken with all that lies in it.
    """

    name: str
    place: Path | int


@contextmanager
def open_files(
    wanted: Sequence[Wanted | None], taken: Iterable[Taken] = (), *, overwrite: bool = False
) -> "Iterator[list[OutFile | None]]":
    """The files of a command in order, None where none is wanted; all are checked before any."""
    places = [*_redirected(), *taken]
    for each in wanted:
        if each is not None:
            _require_free(each, places)
            places.append(Taken(each.option, each.file))
    with ExitStack() as stack:
        yield [stack.enter_context(OutFile(each, overwrite)) if each else None for each in wanted]


class OutFile:
    """A file's new content, which `finish` puts in its place; leaving without changes nothing.

    FileError where the file cannot be written, before the work or after it, or is of another kind.
    """

    def __init__(self, wanted: Wanted, overwrite: bool = False) -> None:
        self.file, self.what = wanted.file, f"the {wanted.kind.name}"
        self.is_stdout = is_standard_output(self.file)
        self.broken = False  # the disk took only a part
        if self.is_stdout:
            require_output()
        elif not overwrite:
            _require_kind(wanted)
        with self._writing():
            self.whole = None if self.is_stdout else WholeFile(self.file)

    def write(self, content: bytes) -> None:
        """More UTF-8 text; standard output gets it at once."""
        if self.whole is None:
            write_out(content.decode())
            return
        try:
            with self._writing():
                self.whole.append(content)
        except FileError:
            self.broken = True
            raise

    def write_line(self, value: Mapping[str, Any]) -> None:
        """One more object on a line of its own; NaN has no JSON and is a bug."""
        if self.is_stdout:
            write_json(value)
        else:
            self.write(json_bytes(value))

    def finish(self) -> None:
        """Put the content in its place; a part of it only where no old content is lost."""
        if self.whole is None or (self.broken and not self._worth_keeping()):
            return
        with self._writing():
            self.whole.finish()

    def _worth_keeping(self) -> bool:
        whole = self.whole
        return bool(whole and whole.size and not whole.target.exists())

    def __enter__(self) -> "OutFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self.whole:
            self.whole.__exit__(*error)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns an OSError into the FileError that says that the file cannot be written."""
        try:
            yield
        except OSError as error:
            said = error.strerror or reason(error)
            raise FileError(f"{self.what} cannot be written: {self.file}: {said}.") from error


def taken_by(model: str, **files: Path | Sequence[Path] | None) -> Iterator[Taken]:
    """The places that a command reads: the model's folder, and the files of its options.

    `-` among them is standard input, which has a rule of its own.
    """
    if (folder := known_folder(model)) is not None:
        yield Taken("the model's folder", folder)
    for name, given in files.items():
        for file in [given] if isinstance(given, Path) else given or ():
            if file != STDOUT:
                yield Taken(f"--{name.replace('_', '-')}", file)


def json_object(file: Path) -> Mapping[str, Any]:
    """The object in a JSON file; an empty one for any other file."""
    try:
        value = read_json(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def is_standard_output(file: Path) -> bool:
    """True for `-`, and for a name of whatever standard output goes to, but not for /dev/null."""
    there = _stat(file)
    return file == STDOUT or (there is not None and not _is_null(there) and _same(there, _stat(1)))


def _require_free(wanted: Wanted, taken: Iterable[Taken]) -> None:
    """ArgumentError where the command reads the file, or writes it already."""
    for other in taken:
        if not isinstance(other.place, int) and other.place.is_dir():
            if _lies_in(wanted.file, other.place):
                raise ArgumentError(
                    f"{wanted.option} {wanted.file} lies in {other.name} {other.place}; give "
                    "another place."
                )
        elif _is_same(wanted.file, other.place):
            raise ArgumentError(
                f"{other.name} and {wanted.option} are both {_said(wanted.file)}; give another "
                "name."
            )


def _require_kind(wanted: Wanted) -> None:
    """FileError where a file with another content is there."""
    there = _stat(wanted.file)
    if there is None or not stat.S_ISREG(there.st_mode) or not there.st_size:
        return  # what cannot be written at all says so itself
    if not wanted.kind.holds(wanted.file):
        how = ", or replace it with --overwrite" if wanted.may_overwrite else ""
        raise FileError(
            f"{wanted.file} exists and is no {wanted.kind.name} that mlx-diffgemma wrote; choose "
            f"another name{how}."
        )


def _redirected() -> Iterator[Taken]:
    """The standard streams that are files, but for standard output, which may be what is wanted."""
    for number, name in OTHER_STREAMS.items():
        there = _stat(number)
        if there is not None and stat.S_ISREG(there.st_mode):
            yield Taken(name, number)


def _is_same(file: Path, place: Path | int) -> bool:
    """True where both are one file, also through links."""
    if is_standard_output(file):
        return isinstance(place, Path) and is_standard_output(place)
    if place == STDOUT:
        return False
    one, other = _stat(file), _stat(place)
    if one is None or other is None:
        return isinstance(place, Path) and os.path.realpath(file) == os.path.realpath(place)
    return _same(one, other)


def _lies_in(file: Path, folder: Path) -> bool:
    """True where the file is in the folder, or one of the folder's files is the same by a link."""
    if file != STDOUT and Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder)):
        return True
    there = _stat(file)
    if there is None:
        return False
    with suppress(OSError):  # a folder that cannot be listed is no model either
        return any(_same(there, _stat(each)) for each in folder.iterdir())
    return False


def _stat(place: Path | int) -> os.stat_result | None:
    """The state of a file or descriptor; None where there is none. FileError for no name."""
    try:
        return os.stat(place)
    except OSError:
        return None
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise FileError(f"{str(place)!r:.80} cannot be a file's name; choose another.") from error


def _same(one: os.stat_result, other: os.stat_result | None) -> bool:
    return other is not None and os.path.samestat(one, other)


def _is_null(there: os.stat_result) -> bool:
    return stat.S_ISCHR(there.st_mode) and there.st_rdev == os.stat(os.devnull).st_rdev


def _said(file: Path) -> str:
    return "standard output" if file == STDOUT else str(file.absolute())
