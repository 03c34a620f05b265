"""The Hub's local cache as it lies on this disk: its repositories, and who works on one of them.

huggingface_hub fills it: a folder a repository, in it `blobs` named by their hashes, `snapshots` of
links to them, and `refs` that name snapshots. What stands here is read without the rest of that
library, which takes a tenth of a second to import: a shell that completes names asks at every key.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, HubError
from ..machine.locks import locked
from .files import MODEL_TYPE, read_object

PREFIX = "models--"  # of the folder of a repository that holds a model
PART = ".incomplete"  # ends the name of a file of which not all is there
OUR_LOCK = "mlx-diffgemma"  # held while this program fetches or removes a repository


def cache_folder() -> Path:
    """The folder of the local cache, which need not be there yet."""
    from huggingface_hub import constants  # 5 ms; the rest of the library is not loaded

    return Path(constants.HF_HUB_CACHE)


def cache_place() -> Path:
    """The folder of the local cache, or the one in which it will be made."""
    return nearest_folder(cache_folder())


def nearest_folder(place: Path) -> Path:
    """`place`, or the first above it that is there."""
    while not place.exists():
        place = place.parent
    return place


def cached_names() -> list[str]:
    """Ids of the cached repositories that are, or may be, DiffusionGemma; never raises."""
    return sorted(id_of(folder) for folder in repo_folders() if may_be_ours(folder))


def repo_folders() -> list[Path]:
    """The folders of all models in the cache, broken ones too; none where there is no cache."""
    try:
        with os.scandir(cache_folder()) as entries:
            return sorted(Path(e.path) for e in entries if e.name.startswith(PREFIX) and e.is_dir())
    except OSError:
        return []


def repo_folder(repo_id: str) -> Path:
    """The folder that a repository has in the cache, or will have."""
    return cache_folder() / (PREFIX + repo_id.replace("/", "--"))


def id_of(folder: Path) -> str:
    """The repository's id by its folder's name, read as huggingface_hub reads it."""
    return folder.name.removeprefix(PREFIX).replace("--", "/")


def may_be_ours(folder: Path) -> bool:
    """True for a cached repository that is DiffusionGemma, or whose snapshots do not say."""
    return _kind_of(folder) in (None, MODEL_TYPE)


def _kind_of(folder: Path) -> str | None:
    """The `model_type` of a cached repository; None where no snapshot of it says one."""
    for config in sorted(folder.glob("snapshots/*/config.json")):
        try:
            kind: Any = read_object(config).get("model_type")
        except CheckpointError:  # broken, or a link to nothing
            continue
        return kind if isinstance(kind, str) else ""
    return None


@contextmanager
def taken(repo_id: str) -> Iterator[None]:
    """A repository of the cache for this process alone, among those that run this program.

    HubError where another one fetches or removes it.
    """
    with ExitStack() as stack:
        lock = lock_of(repo_id, OUR_LOCK)
        lock.parent.mkdir(parents=True, exist_ok=True)
        if not _acquired(lock, stack):
            raise HubError(
                f"{repo_id} is being fetched or removed by another process; wait for its end, or "
                "stop it first."
            )
        yield


def is_being_fetched(repo_id: str) -> bool:
    """True while a process downloads a file of a repository, by the locks of huggingface_hub."""
    with ExitStack() as stack:
        ours = lock_of(repo_id, OUR_LOCK)
        locks = [lock for lock in ours.parent.glob("*.lock") if lock != ours]
        return not all(_acquired(lock, stack) for lock in locks)


def lock_of(repo_id: str, blob: str) -> Path:
    """The file that whoever fetches a blob holds a lock on, by huggingface_hub's rule."""
    return cache_folder() / ".locks" / repo_folder(repo_id).name / f"{blob}.lock"


def _acquired(lock: Path, stack: ExitStack) -> bool:
    """True where the lock on a file is free, and this process's until the stack is left."""
    return locked(stack.enter_context(lock.open("ab")).fileno())
