"""The folder beside OUT in which a conversion grows, and what an interrupted one left there.

Finished shards are recorded with their hashes in unfinished.json, next to what they were made from:
the next run checks the hashes and goes on. OUT appears by one rename, when all is whole.
"""

import ctypes
import errno
import fcntl
import fnmatch
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..checkpoint.files import read_object
from ..errors import CheckpointError, ConvertError
from ..machine.files import part_name
from .write import FileRecord, hash_file, write_synced

STATE, MANIFEST = "unfinished.json", "conversion.json"
AT_FDCWD = {"linux": -100, "darwin": -2}
# What network and foreign file systems say who know no locks, or do not sync folders.
NOT_SUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK, errno.ENOSYS)
RENAME_SWAP = 2  # RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS


@dataclass
class Workspace:
    """OUT.partial, locked for this process; `out` is what a link names, not the link."""

    out: Path
    fingerprint: str  # of source, recipe and versions: shards of another are worth nothing
    shards: dict[str, FileRecord] = field(default_factory=dict)
    sources: dict[str, FileRecord] = field(default_factory=dict)
    discarded: int = 0  # shards that were there, of another fingerprint
    lock: int = -1
    opened: bool = False
    published: bool = False

    def __post_init__(self) -> None:
        self.out = self.out.resolve()

    @property
    def folder(self) -> Path:
        return partial_folder(self.out)

    def open(self, checked: Callable[[Path], FileRecord] = hash_file) -> None:
        """Makes the folder, or takes over what an earlier run finished there, hashes checked."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._refuse_foreign()
        state = _read_state(self.folder / STATE)
        recorded = _records(state.get("shards"))
        if state.get("fingerprint") == self.fingerprint:
            self.sources = _records(state.get("sources"))
            for name, record in recorded.items():
                file = self.folder / name
                if file.is_file() and checked(file) == record:
                    self.shards[name] = record
        else:
            self.discarded = len(recorded)
        self.opened = True  # until here nothing was changed, and nothing is to be cleared up
        self._remove_all_but({STATE, *self.shards})
        self._save()

    def record_shard(self, name: str, record: FileRecord) -> None:
        """Counts a shard as finished; it is on the disk."""
        self.shards[name] = record
        self._save()

    def record_source(self, name: str, record: FileRecord) -> None:
        """Keeps the hash of a source file, so that a later run need not read it for that."""
        self.sources[name] = record
        self._save()

    def leave(self) -> None:
        """After a failure: keeps the finished shards and nothing else, or nothing at all."""
        if self.lock < 0:
            return
        if self._is_published():
            self._clear_up()
        elif not self.opened:
            with suppress(OSError):  # it is not empty: an earlier run's, whose shards stay
                self.folder.rmdir()
        elif self.shards:
            self._remove_all_but({STATE, *self.shards})
            if not (self.folder / STATE).exists():  # it was about to be published
                self._save()
        else:
            self._remove_folder()
        self.close()

    def publish(self, overwrite: bool) -> None:
        """Puts the finished folder in OUT's place; what was there goes once replaced.

        Without `overwrite` there must be no OUT, and OSError says that one has appeared.
        """
        _sync_folder(self.folder)
        (self.folder / STATE).unlink()  # before: a kill must not leave it in OUT
        if not overwrite or not self.out.exists():
            os.rename(self.folder, self.out)
        elif not _swap(self.folder, self.out):
            _replace_in_two_steps(self.folder, self.out)
        self.published = True  # until here, what was made is kept for the next run
        _sync_folder(self.out.parent)
        self._clear_up()
        self.close()

    def _is_published(self) -> bool:
        """Whether OUT is the folder made here: an interruption may come right after the rename."""
        try:
            return self.published or os.path.samestat(os.fstat(self.lock), self.out.stat())
        except OSError:
            return False

    def _clear_up(self) -> None:
        """Removes the folder that the new OUT has replaced."""
        if self.folder.is_dir():
            self._remove_folder()

    def _remove_folder(self) -> None:
        """The state goes last: after a kill in between, the next run knows what the rest is."""
        with suppress(OSError):
            (self.folder / STATE).touch()
            self._remove_all_but({STATE})
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _take_lock(self) -> None:
        self.lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ConvertError(
                f"{self.folder}: another process is converting into it; wait for it to end."
            ) from None
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                raise

    def _refuse_foreign(self) -> None:
        names = {file.name for file in self.folder.iterdir()}
        parts = fnmatch.filter(names, part_name(STATE))
        if names and not names & {STATE, MANIFEST, *parts}:
            self.close()
            raise ConvertError(
                f"{self.folder}: not from an unfinished conversion, expected a free name; "
                "move it away."
            )

    def _remove_all_but(self, kept: set[str]) -> None:
        for file in self.folder.iterdir():
            if file.name not in kept:
                file.unlink() if not file.is_dir() else shutil.rmtree(file)

    def _save(self) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "shards": {name: asdict(record) for name, record in self.shards.items()},
            "sources": {name: asdict(record) for name, record in self.sources.items()},
        }
        write_synced(self.folder / STATE, json.dumps(state, indent=1).encode())


def partial_folder(out: Path) -> Path:
    """Where a conversion into `out` grows: beside the folder itself, not beside a link to it."""
    whole = out.resolve()
    return whole.with_name(f"{whole.name}.partial")


def unfinished_shards(out: Path) -> int:
    """How many shards an interrupted conversion into `out` has left for the next run."""
    return len(_records(_read_state(partial_folder(out) / STATE).get("shards")))


def _read_state(file: Path) -> dict[str, object]:
    """What an earlier run wrote; nothing where it did not come that far."""
    try:
        return read_object(file)
    except CheckpointError:
        return {}


def _records(raw: object) -> dict[str, FileRecord]:
    if not isinstance(raw, dict):
        return {}
    try:
        return {name: FileRecord(**entry) for name, entry in raw.items()}
    except TypeError:  # as another version wrote it
        return {}


def _swap(a: Path, b: Path) -> bool:
    """Exchanges two folders in one step; False where the system or file system cannot."""
    here = AT_FDCWD.get(sys.platform)
    library = ctypes.CDLL(None, use_errno=True)
    function = getattr(library, "renameatx_np" if sys.platform == "darwin" else "renameat2", None)
    if here is None or function is None:
        return False
    done: int = function(here, os.fsencode(a), here, os.fsencode(b), RENAME_SWAP)
    return done == 0


def _replace_in_two_steps(new: Path, out: Path) -> None:
    """The same where there is no exchange: for a moment there is no OUT. `new` becomes the old."""
    old = out.with_name(f"{out.name}.replaced")
    try:
        os.rename(out, old)
        os.rename(new, out)
    except BaseException:  # Ctrl-C too: it may come between the two
        if not out.exists():
            os.rename(old, out)
        raise
    os.rename(old, new)


def _sync_folder(folder: Path) -> None:
    """Makes renames inside a folder last through a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)
