"""A file written whole or not at all: found writable before the work, put in place after it."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import FileError, reason


class OutFile:
    """The place for a file that does not exist yet; `write` fills it, leaving without removes it.

    FileError when it cannot be written. What was there before stays until the new file is whole; a
    device or a pipe is written into directly.
    """

    def __init__(self, file: Path, what: str) -> None:
        self.file, self.what = file, what
        self.target = Path(os.path.realpath(file))
        self.part: Path | None = None
        try:
            self.descriptor = self._opened()
        except OSError as error:
            raise self._error(error) from error

    def write(self, text: str) -> None:
        """The whole content, once."""
        content = text.encode()
        try:
            while content:
                content = content[os.write(self.descriptor, content) :]
            if self.part:
                os.fsync(self.descriptor)
                self.part.replace(self.target)
                self.part = None
        except OSError as error:
            raise self._error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.descriptor)
        if self.part:
            with suppress(OSError):
                self.part.unlink()

    def _opened(self) -> int:
        if self.target.exists():
            descriptor = os.open(self.target, os.O_WRONLY)  # a folder, or no permission: OSError
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
        part = self.target.with_name(f".{self.target.name}.{os.getpid()}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.part = part
        return descriptor

    def _error(self, error: OSError) -> FileError:
        said = error.strerror or reason(error)
        return FileError(f"{self.what} cannot be written: {self.file}: {said}.")
