"""Files of JSON lines, read one line at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, DataError, DiffGemmaError, brief, one_line, shown
from ...machine.files import parse_json

MOST_NAME = 200  # characters of a path in an error
MARK = b"\xef\xbb\xbf"  # of UTF-8, in front of a file


@dataclass(frozen=True)
class Line:
    """The object in a line; number: from 1; end: the byte of the file behind it."""

    file: Path
    number: int
    values: dict[str, Any]
    end: int

    @contextmanager
    def read(self) -> Iterator[None]:
        """Errors inside name this line; but for a checkpoint's they become DataErrors."""
        try:
            yield
        except DiffGemmaError as error:
            kind = CheckpointError if isinstance(error, CheckpointError) else DataError
            raise kind(f"{named(self.file)} line {self.number:,}: ", *error.args) from error


def named(file: Path) -> str:
    """A file as errors name it."""
    return shown(str(file), MOST_NAME)


def data_file(path: Path, name: str = "train") -> Path:
    """A file of examples, or NAME.jsonl of a folder; DataError where the folder has none."""
    if not path.is_dir():
        return path
    file = path / f"{name}.jsonl"
    if not file.exists():
        there = sorted(each.name for each in path.glob("*.jsonl"))[:3]
        raise DataError(
            f"{named(path)}: this folder has {', '.join(there) or 'no file of JSON lines'}, "
            f"expected {file.name}; add it, or give the file itself."
        )
    return file


@dataclass
class Lines:
    """The objects of a file, one after another; count, blank: lines read so far, and the blank.

    DataError where the file cannot be read, has no object, or has a line that is none.
    """

    file: Path
    count: int = 0
    blank: int = 0

    def __iter__(self) -> Iterator[Line]:
        end = 0
        try:
            with self.file.open("rb") as stream:
                for content in stream:
                    end += len(content)
                    if line := self._line(content, end):
                        yield line
        except OSError as error:
            said = error.strerror or one_line(error)
            raise DataError(
                f"{named(self.file)}: {said}, expected a file of JSON lines."
            ) from error
        if self.blank == self.count:
            raise DataError(
                f"{named(self.file)}: no example in it, expected a JSON object in each line."
            )

    def _line(self, content: bytes, end: int) -> Line | None:
        """The next line; None for a blank one."""
        self.count += 1
        content = content.strip().removeprefix(MARK if self.count == 1 else b"")
        if not content:
            self.blank += 1
            return None
        try:
            value = parse_json(content)
        except ValueError as error:
            raise self._no_object(one_line(error)) from error
        if not isinstance(value, dict):
            raise self._no_object(brief(value))
        return Line(self.file, self.count, value, end)

    def _no_object(self, got: str) -> DataError:
        return DataError(f"{named(self.file)} line {self.count:,}: {got}, expected a JSON object.")
