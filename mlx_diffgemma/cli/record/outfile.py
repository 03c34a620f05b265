"""A file the user named, written whole or not at all; whatever goes wrong is one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...machine.files import WholeFile
from ..errors import FileError, reason


@contextmanager
def writing(file: Path, what: str) -> Iterator[None]:
    """Turns an OSError into the FileError that says of `what` that it cannot be written."""
    try:
        yield
    except OSError as error:
        said = error.strerror or reason(error)
        raise FileError(f"{what} cannot be written: {file}: {said}.") from error


class OutFile(WholeFile):
    """A WholeFile for text; FileError where it cannot be written, before the work or after it."""

    def __init__(self, file: Path, what: str) -> None:
        self.file, self.what = file, what
        with writing(file, what):
            super().__init__(file)

    def write_text(self, text: str) -> None:
        """The whole content, once."""
        self.write_bytes(text.encode())

    def write_bytes(self, content: bytes) -> None:
        """The whole content, once."""
        with writing(self.file, self.what):
            self.write(content)
