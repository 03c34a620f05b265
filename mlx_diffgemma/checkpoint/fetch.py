"""A repository fetched into the Hub's cache: every file goes on where it stopped, and is checked.

huggingface_hub begins a file again whose download was stopped, and this model's have 5 GB each.
So the large ones, which the Hub knows by their SHA-256, are fetched here, with that library's own
HTTP, locks and names; small files, links and refs are left to its snapshot_download.
"""

import hashlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ..errors import HubError
from .cache import PART, lock_of, repo_folder, taken
from .download import WANTED_FILES, Download, RemoteFile, cached_bytes

AT_ONCE = 4  # files fetched at a time
PIECE = 1 << 20  # bytes read at a time: what a stop may lose of each file
TICK, PATIENCE = 0.1, 2.0  # seconds between two reports, and those a thread has to stop
DOWNLOADING, CHECKING = "downloading", "checking"  # what progress is told of

Progress = Callable[[str, int, int], None]


def unheard(what: str, done: int, total: int) -> None:
    """The progress of what nobody watches."""


@dataclass(frozen=True)
class Fetched:
    """A repository's snapshot that is whole: every size, and every hash that the Hub states.

    num_bytes: what was fetched; num_hashes: of its files, those with such a hash; mended: what was
    wrong with files that lay in the cache or came, and were fetched again.
    """

    folder: Path
    num_bytes: int
    num_hashes: int
    mended: tuple[str, ...] = ()


def fetch(download: Download, revision: str | None, progress: Progress = unheard) -> Fetched:
    """Fetch what is missing of a repository, and check all of it; what is wrong is fetched again.

    HubError where it is wrong once more, or where another process fetches it.
    """
    with taken(download.repo_id), quietly():
        folder = _complete(download, revision, progress)
        wrong = check(download.files, folder, progress)
        for file in wrong:
            discard(folder / file.name)
        if wrong:
            folder = _complete(download, revision, progress)
            if still := check(list(wrong), folder, progress):
                raise HubError(f"{download.repo_id}: {'; '.join(still.values())}, fetched twice.")
    came = download.missing_bytes + sum(file.num_bytes or 0 for file in wrong)
    hashed = sum(file.blob is not None for file in download.files)
    return Fetched(folder, came, hashed, tuple(wrong.values()))


def _complete(download: Download, revision: str | None, progress: Progress) -> Path:
    with suppress(ImportError):  # a release of the library with other parts: it fetches all
        fetch_large(download, progress)
    return snapshot_of(download.repo_id, revision)


def snapshot_of(repo_id: str, revision: str | None, *, local_files_only: bool = False) -> Path:
    """The snapshot of a repository as huggingface_hub has it, once it has fetched the rest."""
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repo_id,
            allow_patterns=list(WANTED_FILES),
            revision=revision,
            local_files_only=local_files_only,
        )
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the Hub's library from drawing and from logging, and let it read small pieces.

    The environment may have decided on bars: then that stays.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    free = constants.HF_HUB_DISABLE_PROGRESS_BARS is None
    logger, piece = logging.getLogger("huggingface_hub"), constants.DOWNLOAD_CHUNK_SIZE
    level = logger.level
    if free:
        disable_progress_bars()
    logger.setLevel(logging.ERROR)
    constants.DOWNLOAD_CHUNK_SIZE = PIECE  # 10 MB, which a slow line takes many seconds for
    try:
        yield
    finally:
        constants.DOWNLOAD_CHUNK_SIZE = piece
        logger.setLevel(level)
        if free:
            enable_progress_bars()


# --- large files


class _StoppedError(Exception):
    """A thread is to leave the file that it fetches."""


@dataclass
class _Work:
    """Files of a repository that threads fetch, and the bytes that each of them has."""

    download: Download
    done: dict[str, int]
    todo: deque[RemoteFile]
    stop: threading.Event = field(default_factory=threading.Event)
    errors: list[Exception] = field(default_factory=list)

    def run(self) -> None:
        """Fetch one file after the other, until there is none or something is wrong."""
        try:
            while not self.stop.is_set() and (file := self._next()):
                self._fetch(file)
        except _StoppedError:
            return
        except Exception as error:
            self.errors.append(error)

    def _next(self) -> RemoteFile | None:
        with suppress(IndexError):  # another thread may take the last one
            return self.todo.popleft()
        return None

    def _fetch(self, file: RemoteFile) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            WeakFileLock,
            build_hf_headers,
        )

        blob = _blob(self.download, file)
        part = blob.with_name(blob.name + PART)
        url = hf_hub_url(self.download.repo_id, file.name, revision=self.download.revision)
        with WeakFileLock(lock_of(self.download.repo_id, blob.name)):
            if blob.is_file():  # another process has brought it meanwhile
                return
            with part.open("ab") as out:
                if out.tell() > (file.num_bytes or 0):  # it is no part of this file
                    out.seek(0)
                    out.truncate()
                http_get(
                    url,
                    out,
                    resume_size=out.tell(),
                    headers=build_hf_headers(),
                    expected_size=file.num_bytes,
                    displayed_filename=file.name,
                    tqdm_class=self._gauge(file),
                )
            os.replace(part, blob)

    def _gauge(self, file: RemoteFile) -> Any:
        """A class in tqdm's place that counts a file's bytes, and leaves it when all is to stop."""
        work = self

        class Gauge:
            def __init__(self, *, initial: int = 0, **_: object) -> None:
                work.done[file.name] = initial

            def update(self, count: int) -> None:
                work.done[file.name] += count
                if work.stop.is_set():
                    raise _StoppedError

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                return

        return Gauge


def fetch_large(download: Download, progress: Progress) -> None:
    """Fetch the large files that are not in the cache, several at a time; a stop keeps the bytes.

    Progress is told in this thread, of all large files together.
    """
    from huggingface_hub.constants import MAX_HTTP_DOWNLOAD_SIZE as MOST

    large = [f for f in download.files if f.sha256 and f.num_bytes and f.num_bytes <= MOST]
    missing = deque(file for file in large if not _blob(download, file).is_file())
    if not missing:
        return
    for folder in (_blob(download, missing[0]).parent, lock_of(download.repo_id, "").parent):
        folder.mkdir(parents=True, exist_ok=True)
    work = _Work(download, {f.name: cached_bytes(download.repo_id, f) for f in large}, missing)
    total = sum(file.num_bytes or 0 for file in large)
    _watch(work, min(AT_ONCE, len(missing)), lambda done: progress(DOWNLOADING, done, total))
    progress(DOWNLOADING, total, total)


def _watch(work: _Work, count: int, tell: Callable[[int], None]) -> None:
    """Let so many threads work, and tell of their bytes; what ends it early stops all of them."""
    threads = [threading.Thread(target=work.run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        while (running := [t for t in threads if t.is_alive()]) and not work.errors:
            tell(sum(work.done.values()))
            running[0].join(TICK)
    finally:
        work.stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    if work.errors:
        raise work.errors[0]


def _blob(download: Download, file: RemoteFile) -> Path:
    return repo_folder(download.repo_id) / "blobs" / (file.blob or "")


# --- checking


def check(
    files: Sequence[RemoteFile], folder: Path, progress: Progress = unheard
) -> dict[RemoteFile, str]:
    """Those of a snapshot's files that are not what the Hub states, each with what is wrong."""
    wrong: dict[RemoteFile, str] = {}
    done, total = 0, sum(file.num_bytes or 0 for file in files)

    def tell(count: int) -> None:
        progress(CHECKING, min(done + count, total), total)

    for file in files:
        if problem := _problem(file, folder / file.name, tell):
            wrong[file] = f"{file.name} {problem}"
        done += file.num_bytes or 0
        tell(0)
    return wrong


def _problem(file: RemoteFile, path: Path, tell: Callable[[int], None]) -> str | None:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if file.num_bytes is not None and size != file.num_bytes:
        return f"has {size:,} bytes, expected {file.num_bytes:,}"
    if file.sha256:
        expected, digest = file.sha256, hashlib.sha256()
    elif file.blob_id:  # git's own: of a header and the content
        expected, digest = file.blob_id, hashlib.sha1(f"blob {size}\0".encode())
    else:
        return None
    with path.open("rb") as stream:
        while piece := stream.read(16 * PIECE):
            digest.update(piece)
            tell(stream.tell())
    found = digest.hexdigest()
    return None if found == expected else f"has the hash {found[:12]}..., expected {expected[:12]}"


def discard(link: Path) -> None:
    """Take a file out of the cache: its link in a snapshot, and the content that it leads to."""
    if link.is_symlink():
        (link.parent / os.readlink(link)).unlink(missing_ok=True)
    link.unlink(missing_ok=True)
