"""Sizes and sha256 of files, and those of the source's files while a conversion runs."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

HASH_BLOCK = 8 << 20


@dataclass(frozen=True)
class FileRecord:
    """A finished file: its size and its sha256."""

    bytes: int
    sha256: str


def hash_file(file: Path, stopped: Callable[[], bool] = lambda: False) -> FileRecord:
    """Read a file once for its size and sha256; InterruptedError as soon as `stopped`."""
    digest, count = hashlib.sha256(), 0
    buffer = memoryview(bytearray(HASH_BLOCK))
    with file.open("rb", buffering=0) as stream:
        while got := stream.readinto(buffer):
            if stopped():
                raise InterruptedError(f"{file}: hashing was stopped")
            digest.update(buffer[:got])
            count += got
    return FileRecord(count, digest.hexdigest())


class BackgroundHasher:
    """One thread that hashes files; the caller's thread records what is ready."""

    def __init__(self, files: Iterable[Path], keep: Callable[[str, FileRecord], None]) -> None:
        self.keep, self.stop = keep, Event()
        self.thread = ThreadPoolExecutor(1, "hash")
        self.waiting: dict[str, Future[FileRecord]] = {
            file.name: self.thread.submit(hash_file, file, self.stop.is_set) for file in files
        }

    def record(self, *, wait: bool = False) -> None:
        """Record the hashes that are ready; with `wait` all of them, once they are."""
        for name, future in list(self.waiting.items()):
            if wait or future.done():
                self.keep(name, future.result())
                del self.waiting[name]

    def close(self) -> None:
        """Give up what is not hashed yet."""
        self.stop.set()
        self.thread.shutdown(cancel_futures=True)
