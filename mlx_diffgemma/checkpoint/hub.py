"""Models by the names that users give them: each is found as a folder on this disk.

A model is an embedded checkpoint's name, a folder, or a Hugging Face repository id. Nothing is
downloaded unless the caller allows it, and then safetensors, JSON and template files only.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..assets import embedded_folder
from ..errors import CheckpointError, HubError, one_line, shown
from .default import DEFAULT_MODEL as DEFAULT_MODEL
from .default import default_model as default_model
from .files import is_there, leads_nowhere, read_optional
from .shards import named_shards

WANTED_FILES = ("*.safetensors", "*.json", "*.jinja")
REQUIRED_FILES = ("config.json", "tokenizer.json")
TEMPLATE_FILES = (
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer_config.json",
)  # best first
SHOWN_FILES = 3
TRY_NOW = "`--model tiny-chat` works now, without a download"

T = TypeVar("T")


@dataclass(frozen=True)
class Download:
    """A download that may be made: its size, and the room for files that are not cached yet.

    cached_bytes: of files that an interrupted download has finished; revision: the commit, where
    the Hub says it; names: of all files in the repository.
    """

    repo_id: str
    num_bytes: int
    free_bytes: int
    cached_bytes: int = 0
    revision: str | None = field(default=None, compare=False)
    names: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to be fetched."""
        return self.num_bytes - self.cached_bytes


Consent = Callable[[Download], bool]


@dataclass(frozen=True)
class Source:
    """A checkpoint folder, and the revision it came from where the Hub knows one.

    download: where the folder holds a repository's headers alone, what the rest would take.
    """

    folder: Path
    revision: str | None = None
    download: Download | None = None

    def holds(self, name: str) -> bool:
        """True where the folder, or the repository whose headers it holds, has a file `name`."""
        if self.download is not None:
            return name in self.download.names
        return is_there(self.folder / name)


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


def _is_repo_id(name: str) -> bool:
    owner, slash, repo = name.partition("/")
    return bool(slash and owner and repo) and "/" not in repo and owner not in (".", "..", "~")


def _from_hub(repo_id: str, offline: bool, consent: Consent | None, revision: str | None) -> Source:
    from huggingface_hub import snapshot_download

    patterns = list(WANTED_FILES)
    fetch = partial(snapshot_download, repo_id, allow_patterns=patterns, revision=revision)
    cached, state = _in_cache(fetch, repo_id)
    if cached and (offline or consent is None or _has_template(cached)):
        return Source(cached, cached.name)
    if cached:
        if not (missing := _lacking_there(repo_id, revision, cached)):
            return Source(cached, cached.name)
        state = _incomplete(missing)
    how = f"`{fetch_command(repo_id, revision)}` fetches it; {TRY_NOW}."
    if offline:
        raise HubError(f"{repo_id} {state}, and --offline forbids fetching it; {how}")
    if consent is None:
        raise HubError(f"{repo_id} {state}; {how}")
    if not consent(reach(lambda: survey(repo_id, revision), repo_id, how)):
        raise HubError(f"{repo_id} was not downloaded; {how}")
    fetched = Path(reach(fetch, repo_id, how))
    return Source(fetched, fetched.name)


def _in_cache(fetch: Callable[..., str], repo_id: str) -> tuple[Path | None, str]:
    """The snapshot in the local cache where it is complete, and the state that an error tells."""
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = Path(fetch(local_files_only=True))
    except HFValidationError:
        raise _no_such_folder(repo_id) from None
    except LocalEntryNotFoundError as error:
        # Since 2.0 the library itself finds a snapshot incomplete, by the repository's list.
        if there := getattr(error, "snapshot_path", None):
            return None, _incomplete(_lacking(Path(there)) or _named_by(error))
        return None, "is not in the local cache"
    missing = _lacking(snapshot)
    return (None, _incomplete(missing)) if missing else (snapshot, "is in the local cache")


def reach(call: Callable[[], T], repo_id: str, how: str) -> T:
    """The result of a `call` to the Hub; HubError with the reason where it fails."""
    try:
        return call()
    except HubError:
        raise
    except Exception as error:  # huggingface_hub lets the errors of its HTTP library through
        raise HubError(_refusal(error, repo_id, how)) from None


def _refusal(error: Exception, repo_id: str, how: str) -> str:
    """The line about a repository that the Hub does not give, with what to do about it."""
    from huggingface_hub import errors

    log_in = f"log in with `{_hub_tool()} auth login` or set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        page = f"https://huggingface.co/{repo_id}"
        return f"{repo_id} is gated; accept its terms at {page}, then {log_in}."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{repo_id}: no such repository, or a private one; check its spelling, or {log_in}."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo_id} has no such revision; give a branch, tag or commit that it has."
    if isinstance(error, errors.NotASafetensorsRepoError):
        return f"{repo_id} has no model.safetensors and no index of such files; give another."
    if isinstance(error, errors.OfflineModeIsEnabled):
        forbids = f"{repo_id} is not in the local cache and $HF_HUB_OFFLINE forbids fetching it"
        return f"{forbids}; unset it, or {TRY_NOW}."
    reason = one_line(error)[:200] or type(error).__name__
    return f"{repo_id} cannot be fetched ({reason}); {how}"


def _no_such_folder(name: str | Path) -> CheckpointError:
    return CheckpointError(
        f"{shown(str(name))}: no such folder; give a checkpoint folder, a repository id such as "
        f"{DEFAULT_MODEL}, tiny-chat, or tiny-sudoku."
    )


def fetch_command(repo_id: str, revision: str | None = None) -> str:
    """A command that fetches a repository without a question, wherever this package is."""
    return f"{_hub_tool()} download {repo_id}" + (f" --revision {revision}" if revision else "")


def _hub_tool() -> str:
    """`hf`, which comes with huggingface_hub, or a way to it where a shell would not find it."""
    found = shutil.which("hf")
    return "hf" if found else f"{shlex.quote(sys.executable)} -m huggingface_hub.cli.hf"


def _lacking(folder: Path) -> list[str]:
    """Names of what a cached snapshot lacks: complete is one with none.

    Wanted are config and tokenizer, all shards that the index or their own numbers name, and
    whatever else a link in the folder stands for: the cache may have lost the file.
    """
    missing = [name for name in REQUIRED_FILES if not os.path.exists(folder / name)]
    lost = [file for pattern in WANTED_FILES for file in folder.glob(pattern)]
    missing += sorted(file.name for file in lost if leads_nowhere(file))
    if not any(folder.glob("*.safetensors")):
        return [*missing, "*.safetensors"]
    with suppress(CheckpointError):  # a broken index: to fetch what lacks would not mend it
        shards, _ = named_shards(folder)
        missing += [file.name for file in shards if not os.path.exists(file)]
    return list(dict.fromkeys(missing))


def _has_template(folder: Path) -> bool:
    *own, config = TEMPLATE_FILES
    if any(os.path.exists(folder / name) for name in own):
        return True
    return "chat_template" in read_optional(folder / config)


def _lacking_there(repo_id: str, revision: str | None, folder: Path) -> list[str]:
    """Wanted files that a repository has and its snapshot has not; none where nobody can be asked.

    Asked for where a snapshot has no chat template, as one of a repository without has none.
    """
    try:
        names = survey(repo_id, revision).names
    except Exception:  # offline: with all that is required, the snapshot will do
        return []
    return [
        name for name in sorted(names) if _is_wanted(name) and not os.path.exists(folder / name)
    ]


def _is_wanted(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in WANTED_FILES)


def _incomplete(missing: Sequence[str]) -> str:
    """The state of a snapshot in an error, with the first names that it lacks."""
    more = f" and {len(missing) - SHOWN_FILES} more" if len(missing) > SHOWN_FILES else ""
    names = ", ".join(shown(name, 60) for name in missing[:SHOWN_FILES])
    return f"is incomplete in the local cache: it lacks {names}{more}"


def _named_by(error: Exception) -> list[str]:
    """The files in the Hub library's own error, which knows a repository's list of them."""
    found = re.search(r"missing \((.+?)\)", str(error))
    return found[1].split(", ") if found else ["some of its files"]


def survey(repo_id: str, revision: str | None) -> Download:
    """Size of a repository and room for it, asked of the Hub."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(repo_id, revision=revision, files_metadata=True)
    files = info.siblings or []
    names = [f.rfilename for f in files]
    if not any(name.endswith(".safetensors") for name in names):
        pickled = next((name for name in names if name.endswith((".bin", ".pt", ".pth"))), None)
        held = f"{pickled} but " if pickled else ""
        raise HubError(
            f"{repo_id} holds {held}no *.safetensors, and nothing else is read; give another."
        )
    wanted = [f for f in files if _is_wanted(f.rfilename)]
    num_bytes = sum(f.size or 0 for f in wanted)
    free = shutil.disk_usage(cache_place()).free
    cached = _cached_bytes(repo_id, wanted)
    return Download(repo_id, num_bytes, free, cached, getattr(info, "sha", None), frozenset(names))


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
