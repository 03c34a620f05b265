"""The models in the Hub's local cache: how large they are, whether they are whole, and removal.

All that huggingface_hub knows of its cache is asked of it; what it cannot read, a broken repository
or one that is only begun, is found by its folder.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError, HubError, one_line, shown
from .cache import (
    cache_folder,
    id_of,
    is_being_fetched,
    may_be_ours,
    repo_folder,
    repo_folders,
    taken,
)
from .config import read_config
from .fetch import quietly
from .hub import in_cache

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, HFCacheInfo


@dataclass(frozen=True)
class CachedRevision:
    """A snapshot in the cache: its commit, the branches and tags that name it, and its files."""

    commit: str
    names: tuple[str, ...]
    path: Path
    num_bytes: int
    is_whole: bool


@dataclass(frozen=True)
class CachedModel:
    """A cached repository; its first revision is the one that its id alone means.

    num_bytes: all that it takes on the disk, parts of files too; used_at: in seconds since 1970;
    quantization: None for none; problem: what is wrong with it in the cache, in a few words.
    """

    repo_id: str
    folder: Path
    num_bytes: int
    used_at: float | None
    quantization: str | None
    revisions: tuple[CachedRevision, ...]
    problem: str | None

    @property
    def is_whole(self) -> bool:
        """True where it loads without a download."""
        return bool(self.revisions) and self.revisions[0].is_whole


@dataclass(frozen=True)
class Stock:
    """The models in the cache, and the number of those of other architectures."""

    models: tuple[CachedModel, ...]
    num_others: int


def take_stock() -> Stock:
    """The models in the cache that are, or may be, DiffusionGemma."""
    folders = repo_folders()
    ours = [folder for folder in folders if may_be_ours(folder)]
    scanned = _scanned()
    known = {repo.repo_path.name: repo for repo in scanned.repos} if scanned else {}
    broken = [one_line(warning) for warning in scanned.warnings] if scanned else []
    models = tuple(_model(folder, known.get(folder.name), broken) for folder in ours)
    return Stock(models, len(folders) - len(ours))


def _scanned() -> "HFCacheInfo | None":
    """The cache as huggingface_hub sees it; None where there is none."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return scan_cache_dir(cache_folder())
    except (CacheNotFound, ValueError):  # a file in its place
        return None


def _model(folder: Path, repo: "CachedRepoInfo | None", broken: list[str]) -> CachedModel:
    revisions = tuple(sorted(_revisions(folder, repo), key=lambda r: "main" not in r.names))
    problem = quantization = None
    if repo is None and (folder / "snapshots").is_dir():  # else it is only begun
        said = next((line for line in broken if str(folder) in line), "it cannot be read")
        problem = shown(said.replace(str(folder), "").strip(), 120)
    if revisions:
        try:
            quantization = read_config(revisions[0].path).packing
        except CheckpointError as error:
            said = one_line(error).replace(f"{revisions[0].path}/", "")
            problem = said.rstrip(".")
    return CachedModel(
        id_of(folder),
        folder,
        _bytes_on_disk(folder),
        max(repo.last_accessed, repo.last_modified) if repo else None,
        quantization,
        revisions,
        problem,
    )


def _revisions(folder: Path, repo: "CachedRepoInfo | None") -> Iterator[CachedRevision]:
    if repo is None:
        return
    for revision in sorted(repo.revisions, key=lambda r: (-r.last_modified, r.commit_hash)):
        yield CachedRevision(
            revision.commit_hash,
            tuple(sorted(revision.refs)),
            revision.snapshot_path,
            revision.size_on_disk,
            _is_whole(id_of(folder), revision.commit_hash),
        )


def _is_whole(repo_id: str, commit: str) -> bool:
    try:
        return in_cache(repo_id, commit)[0] is not None
    except CheckpointError:  # the folder's name is no repository's
        return False


def _bytes_on_disk(folder: Path) -> int:
    """Bytes of all files in a folder; links, and what they lead to, are counted once or not."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # another process tidies up
                total += os.lstat(os.path.join(place, name)).st_size
    return total


@dataclass(frozen=True)
class Removal:
    """What may be removed of a repository in the cache, and the bytes that are free again then.

    commits: of the revisions, none for all that there is of it.
    """

    repo_id: str
    num_bytes: int
    commits: tuple[str, ...] = ()

    def execute(self) -> None:
        """Remove it. HubError, and nothing is removed, where a process works on it."""
        with taken(self.repo_id), quietly():
            if is_being_fetched(self.repo_id):
                raise HubError(
                    f"{self.repo_id} is being downloaded, and nothing of it was removed; stop the "
                    "download first."
                )
            if (scanned := _scanned()) is None:
                return
            strategy = scanned.delete_revisions(*self.commits)
            folder = repo_folder(self.repo_id)
            if not self.commits:
                strategy = replace(strategy, repos=frozenset({folder}))
            strategy.execute()
            left = [p for p in (*strategy.repos, *strategy.snapshots) if p.exists()]
            if left:
                raise HubError(f"{left[0]} cannot be removed; see whom it belongs to.")


def plan_removal(model: CachedModel, revision: str | None) -> Removal:
    """The Removal of a cached model, or of one revision; HubError for one that it has not.

    What a remaining revision uses stays. revision: a branch, a tag, or a commit's first digits.
    """
    if revision is None:
        return Removal(model.repo_id, model.num_bytes)
    found = [
        r for r in model.revisions if revision in r.names or r.commit.startswith(revision or "-")
    ]
    if len(found) != 1:
        there = ", ".join(name for r in model.revisions for name in (*r.names, r.commit[:12]))
        count = "more than one revision" if found else "no revision"
        raise HubError(
            f"{model.repo_id} has {count} {shown(revision)} in the local cache, expected one of: "
            f"{there or 'none'}."
        )
    if len(model.revisions) == 1:
        return Removal(model.repo_id, model.num_bytes)
    scanned = _scanned()
    commits = (found[0].commit,)
    freed = scanned.delete_revisions(*commits).expected_freed_size if scanned else 0
    return Removal(model.repo_id, freed, commits)
