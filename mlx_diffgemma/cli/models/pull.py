"""`pull`: a repository fetched and checked, once it is clear what it takes of this machine."""

from collections.abc import Iterator
from typing import Any

from ...assets import EMBEDDED
from ...checkpoint.cache import cache_folder, taken
from ...checkpoint.config import read_config
from ...checkpoint.download import Download, cached_bytes, survey
from ...checkpoint.fetch import Fetched, fetch
from ...checkpoint.hub import TRY_NOW, folder_or_repository, in_cache, reach
from ...errors import FitError, HubError, counted
from ...machine.awake import awake
from ...machine.memory import available_memory
from ...model.memory import sized
from ..errors import exit_code
from ..terminal.output import require_output, show
from ..terminal.progress import Bars
from ..terminal.streams import say
from .consent import announce, can_ask, confirmed
from .fit import describe, planned, require_disk

HOW = f"the same command goes on when the Hub can be reached; {TRY_NOW}."


def pull(name: str, revision: str | None, *, yes: bool, as_json: bool) -> int:
    """Fetch and check; an interrupt keeps what has come."""
    require_output()
    if (folder := folder_or_repository(name, revision)) is not None:
        what = "comes with this program" if name in EMBEDDED else "is a folder on this machine"
        nothing = _described(Download(name, 0, 0), Fetched(folder, 0, 0))
        show(nothing, [f"{name} {what}; there is nothing to pull."], as_json)
        return 0
    download = _surveyed(name, revision)
    with taken(name):  # said before a question, not after it
        pass
    if not _agreed(download, yes):
        raise HubError(f"{name} was not downloaded; --yes fetches it all the same.")
    try:
        with awake(), Bars() as bars:
            fetched = reach(lambda: fetch(download, revision, bars), name, HOW)
    except KeyboardInterrupt as interrupt:
        kept = sum(cached_bytes(name, file) for file in download.files)
        of = sized(download.num_bytes)
        say(f"interrupted; {sized(kept)} of {of} are kept, and the same command goes on.")
        return exit_code(interrupt)
    show(_described(download, fetched), _lines(download, fetched), as_json)
    return 0


def _surveyed(name: str, revision: str | None) -> Download:
    """The download that it would be; what would not load is refused with its line."""
    from huggingface_hub.constants import is_offline_mode

    whole, _ = in_cache(name, revision)
    if is_offline_mode():
        raise HubError(f"$HF_HUB_OFFLINE forbids asking the Hub for {name}; unset it to pull.")
    download = reach(lambda: survey(name, revision), name, HOW)
    if whole is not None and whole.name == download.revision:
        read_config(whole)
    return download


def _agreed(download: Download, yes: bool) -> bool:
    """True where it may be fetched: it fits, or somebody wants it all the same.

    FitError where nobody can be asked.
    """
    if not download.missing_bytes:
        say(f"{download.repo_id} is in {cache_folder()} already; its files are checked.")
        return True
    require_disk(download)
    lines, fits = describe(download, planned(download), available_memory())
    for line in lines:
        say(line)
    if not (fits or yes):
        if not can_ask():
            raise FitError(
                f"{download.repo_id} would not fit into this machine's memory, and nobody can be "
                "asked; --yes fetches it all the same."
            )
        if not confirmed("Download it all the same?", usual=False):
            return False
    announce(download)
    return True


def _described(download: Download, fetched: Fetched) -> dict[str, Any]:
    """The object of `pull --json`."""
    return {
        "repository": download.repo_id,
        "revision": download.revision,
        "path": str(fetched.folder),
        "files": len(download.files),
        "hashes": fetched.num_hashes,
        "bytes": download.num_bytes,
        "fetched_bytes": fetched.num_bytes,
        "mended": list(fetched.mended),
    }


def _lines(download: Download, fetched: Fetched) -> Iterator[str]:
    for line in fetched.mended:
        yield f"fetched again: {line}"
    yield (
        f"{download.repo_id} is whole: {counted(len(download.files), 'file')}, "
        f"{sized(download.num_bytes)}; all sizes and {counted(fetched.num_hashes, 'hash')} are "
        "what the Hub states."
    )
    yield str(fetched.folder)
