"""Models by the names that users give them: each is found as a folder on this disk.

A model is an embedded checkpoint's name, a folder, or a Hugging Face repository id. Nothing is
downloaded unless the caller allows it, and then safetensors, JSON and template files only.
"""

import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..assets import embedded_folder
from ..errors import CheckpointError, HubError, one_line
from .shards import shard_files

DEFAULT_MODEL = "mlx-community/diffusiongemma-26B-A4B-it-4bit"
MODEL_VARIABLE = "MLX_DIFFGEMMA_MODEL"
SMALL_CONFIGS = ("config.json", "generation_config.json")
WANTED_FILES = ("*.safetensors", "*.json", "*.jinja")
TRY_NOW = "`--model tiny-sudoku` works without a download"

T = TypeVar("T")


@dataclass(frozen=True)
class Download:
    """A download that may be made: its size, and the room for files that are not cached yet."""

    repo_id: str
    num_bytes: int
    free_bytes: int
    cached_bytes: int = 0  # of files that an interrupted download has finished

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to be fetched."""
        return self.num_bytes - self.cached_bytes


Consent = Callable[[Download], bool]


@dataclass(frozen=True)
class Source:
    """A checkpoint folder, and the revision it came from where the Hub knows one."""

    folder: Path
    revision: str | None = None


def default_model() -> str:
    """$MLX_DIFFGEMMA_MODEL, else the published 4-bit checkpoint."""
    return os.environ.get(MODEL_VARIABLE) or DEFAULT_MODEL


def find_model(
    model: str | Path,
    *,
    offline: bool = False,
    consent: Consent | None = None,
    revision: str | None = None,
) -> Source:
    """The folder of `model`; asks `consent` before a download, and without one never downloads.

    revision: a repository's branch, tag or commit; None is its main branch.
    CheckpointError: no such folder; HubError: not in the local cache and not to be had.
    """
    name = str(model)
    if not name:
        raise CheckpointError("the model's name is empty, expected a folder or a repository id.")
    if (there := local_folder(name)) is not None:
        if revision is not None:
            raise CheckpointError(
                f"{there} is a folder and has no revision {revision}; leave it out."
            )
        return Source(there)
    folder = Path(os.path.expanduser(name))
    if os.path.exists(folder):
        raise CheckpointError(f"{folder} is a file, expected a checkpoint folder.")
    if not _is_repo_id(name):
        raise _no_such_folder(folder)
    return _from_hub(name, offline, consent, revision)


def local_folder(name: str) -> Path | None:
    """The folder that `name` means, or the embedded checkpoint's; None for a repository's id."""
    if (embedded := embedded_folder(name)) is not None:
        return embedded
    folder = Path(os.path.expanduser(name))  # os.path raises for no name, however odd or long
    return folder if os.path.isdir(folder) else None


def known_folder(name: str) -> Path | None:
    """The folder that a model has on this disk, whole or not; None where it has none.

    Asks no network and raises for no name.
    """
    if (folder := local_folder(name)) is not None or not _is_repo_id(name):
        return folder
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(config).parent if isinstance(config, str) else None


def fetch_headers(repo_id: str, revision: str | None, folder: Path) -> Source:
    """Fills `folder` with a repository's config and its shards' headers, without their data.

    Some hundred kilobytes in place of all weights, enough to plan with. HubError with the reason.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    how = f"`hf download {repo_id}` fetches all of it."
    info = _reach(lambda: api.model_info(repo_id, revision=revision), repo_id, how)
    commit = info.sha or revision
    shards = _reach(
        lambda: api.get_safetensors_metadata(repo_id, revision=commit).files_metadata, repo_id, how
    )
    for name, shard in shards.items():
        write_shapes(folder / name, shard.tensors)
    there = {file.rfilename for file in info.siblings or []}
    for name in SMALL_CONFIGS:
        if name in there:
            cached = _reach(partial(api.hf_hub_download, repo_id, name, revision=commit), name, how)
            shutil.copyfile(cached, folder / name)
    return Source(folder, commit)


def write_shapes(file: Path, tensors: Mapping[str, Any]) -> None:
    """A safetensors file that ends behind its header: dtype, shape and data_offsets by name."""
    keys = ("dtype", "shape", "data_offsets")
    header = {name: {key: getattr(info, key) for key in keys} for name, info in tensors.items()}
    content = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(content)) + content)


def _is_repo_id(name: str) -> bool:
    owner, slash, repo = name.partition("/")
    return bool(slash and owner and repo) and "/" not in repo and owner not in (".", "..", "~")


def _from_hub(repo_id: str, offline: bool, consent: Consent | None, revision: str | None) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    patterns = list(WANTED_FILES)
    fetch = partial(snapshot_download, repo_id, allow_patterns=patterns, revision=revision)
    try:
        cached = Path(fetch(local_files_only=True))
        if _complete(cached):
            return Source(cached, cached.name)
    except LocalEntryNotFoundError:
        pass
    except HFValidationError:
        raise _no_such_folder(repo_id) from None
    at = f" --revision {revision}" if revision else ""
    how = f"`hf download {repo_id}{at}` fetches it; {TRY_NOW}."
    if offline:
        raise HubError(
            f"{repo_id} is not in the local cache and --offline forbids fetching it; {how}"
        )
    if consent is None:
        raise HubError(f"{repo_id} is not in the local cache; {how}")
    if not consent(_reach(lambda: _survey(repo_id, revision), repo_id, how)):
        raise HubError(f"{repo_id} was not downloaded; {how}")
    fetched = Path(_reach(fetch, repo_id, how))
    return Source(fetched, fetched.name)


def _reach(call: Callable[[], T], repo_id: str, how: str) -> T:
    """The result of a `call` to the Hub; HubError with the reason where it fails."""
    try:
        return call()
    except Exception as error:  # huggingface_hub lets the errors of its HTTP library through
        reason = one_line(error)[:200] or type(error).__name__
        raise HubError(f"{repo_id} cannot be fetched ({reason}); {how}") from None


def _no_such_folder(name: str | Path) -> CheckpointError:
    return CheckpointError(
        f"{name}: no such folder; give a checkpoint folder, a repository id such as "
        f"{DEFAULT_MODEL}, or tiny-sudoku."
    )


def _complete(folder: Path) -> bool:
    """True for a cached snapshot with config and all shards; an interrupted download lacks some."""
    try:
        return (folder / "config.json").exists() and bool(shard_files(folder))
    except CheckpointError:
        return False


def _survey(repo_id: str, revision: str | None) -> Download:
    """Size of a repository and room for it, asked of the Hub."""
    from fnmatch import fnmatch

    from huggingface_hub import HfApi

    files = HfApi().model_info(repo_id, revision=revision, files_metadata=True).siblings or []
    names = [f.rfilename for f in files]
    if not any(name.endswith(".safetensors") for name in names):
        pickled = next((name for name in names if name.endswith((".bin", ".pt", ".pth"))), None)
        held = f"{pickled} but " if pickled else ""
        raise HubError(f"it holds {held}no *.safetensors, and nothing else is read")
    wanted = [f for f in files if any(fnmatch(f.rfilename, p) for p in WANTED_FILES)]
    num_bytes = sum(f.size or 0 for f in wanted)
    free = shutil.disk_usage(cache_place()).free
    return Download(repo_id, num_bytes, free, _cached_bytes(repo_id, wanted))


def cache_place() -> Path:
    """The folder of the local cache, or the one in which it will be made."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return nearest_folder(Path(HF_HUB_CACHE))


def nearest_folder(place: Path) -> Path:
    """`place`, or the first above it that is there."""
    while not place.exists():
        place = place.parent
    return place


def _cached_bytes(repo_id: str, files: Sequence[Any]) -> int:
    """Bytes of those `files` that are whole in the cache, which keeps them by their hashes."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    blobs = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model") / "blobs"
    total = 0
    for file in files:
        lfs = getattr(file, "lfs", None)
        name = lfs.sha256 if lfs else getattr(file, "blob_id", None)
        if name and (blobs / name).is_file():
            total += file.size or 0
    return total
