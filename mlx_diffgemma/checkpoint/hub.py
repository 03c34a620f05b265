"""Models by the names that users give them: each is found as a folder on this disk.

A model is an embedded checkpoint's name, a folder, or a Hugging Face repository id. Nothing is
downloaded unless the caller allows it, and then safetensors, JSON and template files only.
"""

import errno
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..assets import embedded_folder
from ..errors import CheckpointError, HubError, one_line, shown
from .default import DEFAULT_MODEL
from .download import WANTED_FILES, Download, is_wanted, survey
from .fetch import Progress, fetch, snapshot_of, unheard
from .files import is_there, leads_nowhere, read_optional
from .shards import named_shards

REQUIRED_FILES = ("config.json", "tokenizer.json")
TEMPLATE_FILES = (
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer_config.json",
)  # best first
SHOWN_FILES = 3
TRY_NOW = "`--model tiny-chat` works now, without a download"

T = TypeVar("T")
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
    progress: Progress = unheard,
    instead: str = TRY_NOW,
) -> Source:
    """The folder of `model`; asks `consent` before a download, and without one never downloads.

    revision: a repository's branch, tag or commit; None is its main branch. progress: of the
    download. instead: what an error says can be done without one.
    CheckpointError: no such folder; HubError: not in the local cache and not to be had.
    """
    name = str(model)
    if (there := folder_or_repository(name, revision)) is not None:
        return Source(there)
    return _from_hub(name, offline, consent, revision, progress, instead)


def folder_or_repository(name: str, revision: str | None) -> Path | None:
    """The folder that a model's name means; None where it can only be a repository's id.

    CheckpointError for what is neither, and for a revision of a folder.
    """
    if not name:
        raise CheckpointError("the model's name is empty, expected a folder or a repository id.")
    if (there := local_folder(name)) is not None:
        if revision is not None:
            raise CheckpointError(
                f"{there} is a folder and has no revision {revision}; leave it out."
            )
        return there
    folder = Path(os.path.expanduser(name))
    if os.path.exists(folder):
        raise CheckpointError(f"{folder} is a file, expected a checkpoint folder.")
    if not _is_repo_id(name):
        raise _no_such_folder(folder)
    return None


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


def _from_hub(
    repo_id: str,
    offline: bool,
    consent: Consent | None,
    revision: str | None,
    progress: Progress,
    instead: str,
) -> Source:
    cached, state = in_cache(repo_id, revision)
    if cached and (offline or consent is None or _has_template(cached)):
        return Source(cached, cached.name)
    if cached:
        if not (missing := _lacking_there(repo_id, revision, cached)):
            return Source(cached, cached.name)
        state = _incomplete(missing)
    how = f"`{fetch_command(repo_id, revision)}` fetches it; {instead}."
    if offline:
        raise HubError(f"{repo_id} {state}, and --offline forbids fetching it; {how}")
    if consent is None:
        raise HubError(f"{repo_id} {state}; {how}")
    download = reach(lambda: survey(repo_id, revision), repo_id, how)
    if not consent(download):
        raise HubError(f"{repo_id} was not downloaded; {how}")
    fetched = reach(lambda: fetch(download, revision, progress), repo_id, how)
    return Source(fetched.folder, fetched.folder.name)


def in_cache(repo_id: str, revision: str | None) -> tuple[Path | None, str]:
    """The snapshot in the local cache where it is complete, and the state that an error tells."""
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = snapshot_of(repo_id, revision, local_files_only=True)
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
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{repo_id}: the disk is full; make room, and the same command goes on."
    reason = one_line(error)[:200] or type(error).__name__
    return f"{repo_id} cannot be fetched ({reason}); {how}"


def _no_such_folder(name: str | Path) -> CheckpointError:
    return CheckpointError(
        f"{shown(str(name))}: no such folder; give a checkpoint folder, a repository id such as "
        f"{DEFAULT_MODEL}, tiny-chat, or tiny-sudoku."
    )


def fetch_command(repo_id: str, revision: str | None = None) -> str:
    """The command of this program that fetches a repository."""
    return f"mlx-diffgemma pull {repo_id}" + (f" --revision {revision}" if revision else "")


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
    return [name for name in sorted(names) if is_wanted(name) and not os.path.exists(folder / name)]


def _incomplete(missing: Sequence[str]) -> str:
    """The state of a snapshot in an error, with the first names that it lacks."""
    more = f" and {len(missing) - SHOWN_FILES} more" if len(missing) > SHOWN_FILES else ""
    names = ", ".join(shown(name, 60) for name in missing[:SHOWN_FILES])
    return f"is incomplete in the local cache: it lacks {names}{more}"


def _named_by(error: Exception) -> list[str]:
    """The files in the Hub library's own error, which knows a repository's list of them."""
    found = re.search(r"missing \((.+?)\)", str(error))
    return found[1].split(", ") if found else ["some of its files"]
