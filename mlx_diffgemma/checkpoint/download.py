"""A repository's files as the Hub lists them, and what of them is in the local cache already."""

import shutil
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from ..errors import HubError
from .cache import PART, cache_place, repo_folder

WANTED_FILES = ("*.safetensors", "*.json", "*.jinja")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its size, and the hashes by which the Hub and its cache know it.

    sha256: of a file in large file storage; blob_id: git's, of its content or of what stands for
    it. None where the Hub states none.
    """

    name: str
    num_bytes: int | None
    sha256: str | None = None
    blob_id: str | None = None

    @property
    def blob(self) -> str | None:
        """The name that its content has in the cache."""
        return self.sha256 or self.blob_id


@dataclass(frozen=True)
class Download:
    """A download that may be made: its size, and the room for files that are not cached yet.

    cached_bytes: what an interrupted download has left; revision: the commit, where the Hub says
    it; names: of all files in the repository; files: those that are fetched.
    """

    repo_id: str
    num_bytes: int
    free_bytes: int
    cached_bytes: int = 0
    revision: str | None = field(default=None, compare=False)
    names: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    files: tuple[RemoteFile, ...] = field(default=(), compare=False, repr=False)

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to be fetched."""
        return self.num_bytes - self.cached_bytes


def survey(repo_id: str, revision: str | None) -> Download:
    """Size of a repository and room for it, asked of the Hub."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(repo_id, revision=revision, files_metadata=True)
    listed = info.siblings or []
    names = [f.rfilename for f in listed]
    if not any(name.endswith(".safetensors") for name in names):
        pickled = next((name for name in names if name.endswith((".bin", ".pt", ".pth"))), None)
        held = f"{pickled} but " if pickled else ""
        raise HubError(
            f"{repo_id} holds {held}no *.safetensors, and nothing else is read; give another."
        )
    files = tuple(_described(f) for f in listed if is_wanted(f.rfilename))
    return Download(
        repo_id,
        sum(file.num_bytes or 0 for file in files),
        shutil.disk_usage(cache_place()).free,
        sum(cached_bytes(repo_id, file) for file in files),
        getattr(info, "sha", None),
        frozenset(names),
        files,
    )


def is_wanted(name: str) -> bool:
    """True for a file that is read: weights, JSON or a template."""
    return any(fnmatch(name, pattern) for pattern in WANTED_FILES)


def _described(file: Any) -> RemoteFile:
    lfs = getattr(file, "lfs", None)
    blob_id = getattr(file, "blob_id", None)
    return RemoteFile(file.rfilename, file.size, lfs.sha256 if lfs else None, blob_id)


def cached_bytes(repo_id: str, file: RemoteFile) -> int:
    """Bytes of a file in the cache, which keeps it by its hash: all, a part that goes on, or 0."""
    if file.blob is None:
        return 0
    blob = repo_folder(repo_id) / "blobs" / file.blob
    if blob.is_file():
        return file.num_bytes or 0
    part = blob.with_name(blob.name + PART)
    return min(part.stat().st_size, file.num_bytes or 0) if part.is_file() else 0
