"""Hashes the source's files in the background, for the manifest."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

from .state import Workspace
from .write import FileRecord, hash_file


class SourceHasher:
    """One thread that hashes each source file once; what it found is recorded by the caller's."""

    def __init__(self, files: Sequence[Path], workspace: Workspace) -> None:
        self.files, self.workspace = files, workspace
        self.stop = Event()
        self.waiting: dict[str, Future[FileRecord]] = {}

    def __enter__(self) -> Self:
        self.thread = ThreadPoolExecutor(1, "hash")
        for file in self.files:
            if file.name not in self.workspace.sources:
                self.waiting[file.name] = self.thread.submit(hash_file, file, self.stop.is_set)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop.set()
        self.thread.shutdown(cancel_futures=True)

    def record(self) -> None:
        """Records the hashes that are ready."""
        for name in [name for name, future in self.waiting.items() if future.done()]:
            self.workspace.record_source(name, self.waiting.pop(name).result())

    def finish(self) -> None:
        """Waits for the rest, and records it."""
        for name in list(self.waiting):
            self.workspace.record_source(name, self.waiting.pop(name).result())
