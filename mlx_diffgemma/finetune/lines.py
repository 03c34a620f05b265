"""Files of JSON lines, read one line at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, DiffGemmaError, brief, one_line, shown
from ..machine.files import parse_json

NAMES = ("train", "valid", "test")  # of a folder's files, each NAME.jsonl


@dataclass(frozen=True)
class Line:
    """The object in a line; number: from 1; end: the byte of the file behind it."""

    file: Path
    number: int
    values: dict[str, Any]
    end: int

    @contextmanager
    def read(self) -> Iterator[None]:
        """Errors inside become DataErrors of this line."""
        try:
            yield
        except DataError as error:
            raise DataError(f"{place(self.file, self.number)}: {error}") from error
        except DiffGemmaError as error:
            raise type(error)(f"{place(self.file, self.number)}: ", *error.args) from error


def place(file: Path, number: int) -> str:
    """A line as errors name it."""
    return f"{shown(str(file), 200)} line {number:,}"


def data_file(path: Path, name: str = "train") -> Path:
    """A file of examples, or the one of this name in a folder; DataError where there is none."""
    if not path.is_dir():
        return path
    file = path / f"{name}.jsonl"
    if not file.exists():
        there = sorted(each.name for each in path.glob("*.jsonl"))
        raise DataError(
            f"{shown(str(path), 200)}: no {file.name} in this folder, which has "
            f"{', '.join(there[:3]) or 'no file of JSON lines'}; name the file, or add it."
        )
    return file


def read_lines(file: Path) -> Iterator[Line]:
    """The objects of a file, blank lines left out; DataError where it has none, or a bad line."""
    end, empty = 0, True
    try:
        with file.open("rb") as stream:
            for number, content in enumerate(stream, 1):
                end += len(content)
                if content.strip():
                    empty = False
                    yield Line(file, number, _object(file, number, content), end)
    except OSError as error:
        said = error.strerror or one_line(error)
        raise DataError(
            f"{shown(str(file), 200)}: {said}, expected a file of JSON lines."
        ) from error
    if empty:
        raise DataError(
            f"{shown(str(file), 200)}: no line with an example, expected a JSON object a line."
        )


def _object(file: Path, number: int, content: bytes) -> dict[str, Any]:
    try:
        value = parse_json(content.strip())
    except ValueError as error:
        said = f"{one_line(error)}, expected a JSON object"
        raise DataError(f"{place(file, number)}: {said}.") from error
    if not isinstance(value, dict):
        raise DataError(f"{place(file, number)}: {brief(value)}, expected a JSON object.")
    return value
