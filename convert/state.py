"""The folder beside OUT in which a conversion grows, and what an interrupted one left there.

Finished shards are recorded with their hashes in unfinished.json, beside the fingerprint of their
source and recipe: the next run checks the hashes and goes on. OUT appears by one rename, when the
folder is whole.
"""

import ctypes
import fnmatch
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..checkpoint.files import MANIFEST, read_object
from ..errors import CheckpointError, ConvertError
from ..machine.files import part_name
from ..machine.locks import NOT_SUPPORTED, locked
from .hashing import FileRecord, hash_file
from .write import write_synced

STATE = "unfinished.json"
AT_FDCWD = {"linux": -100, "darwin": -2}
RENAME_SWAP = 2  # RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS


@dataclass
class Workspace:
    """OUT.partial, locked for this process; of a link, `out` is the folder that the link names."""

    out: Path
    fingerprint: str  # of source, recipe and versions: shards of another are discarded
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
        """Make the folder, or take over the shards of an earlier run whose hashes are right."""
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
        """Count a shard, which is on the disk, as finished."""
        self.shards[name] = record
        self._save()

    def record_source(self, name: str, record: FileRecord) -> None:
        """Keep the hash of a source file, so that a later run need not hash the file again."""
        self.sources[name] = record
        self._save()

    def leave(self) -> None:
        """Clear up after a failure: keep the finished shards and their state, or nothing at all."""
        if self.lock < 0:
            return
        if self._is_published():
            self._clear_up()
        elif not self.opened:
            with suppress(OSError):  # not empty: the shards of an earlier run stay
                self.folder.rmdir()
        elif self.shards:
            self._remove_all_but({STATE, *self.shards})
            if not (self.folder / STATE).exists():  # the folder was about to be published
                self._save()
        else:
            self._remove_folder()
        self.close()

    def publish(self, overwrite: bool) -> None:
        """Put the finished folder in OUT's place, then remove the folder that was there.

        Without `overwrite`, OSError where an OUT has appeared meanwhile.
        """
        _sync_folder(self.folder)
        (self.folder / STATE).unlink()  # before: a kill must not leave it in OUT
        if not overwrite or not self.out.exists():
            os.rename(self.folder, self.out)
        elif not _swap(self.folder, self.out):
            _swap_by_renames(self.folder, self.out)
        self.published = True  # until here, what was made is kept for the next run
        _sync_folder(self.out.parent)
        self._clear_up()
        self.close()

    def _is_published(self) -> bool:
        """Test that OUT is the folder made here: an interrupt may come right after the rename."""
        try:
            return self.published or os.path.samestat(os.fstat(self.lock), self.out.stat())
        except OSError:
            return False

    def _clear_up(self) -> None:
        """Remove the folder that the new OUT has replaced."""
        if self.folder.is_dir():
            self._remove_folder()

    def _remove_folder(self) -> None:
        """Remove the folder, its state last: the next run must know the rest that a kill leaves."""
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
        if not locked(self.lock):
            self.close()
            raise ConvertError(
                f"{self.folder}: another process is converting into it; wait for it to end."
            )

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
    """The folder in which a conversion into `out` grows, beside the folder that a link names."""
    whole = out.resolve()
    return whole.with_name(f"{whole.name}.partial")


def unfinished_shards(out: Path) -> int:
    """The number of shards that an interrupted conversion into `out` has left for the next run."""
    return len(_records(_read_state(partial_folder(out) / STATE).get("shards")))


def _read_state(file: Path) -> dict[str, object]:
    """The state that an earlier run wrote; empty where there is none, or none that can be read."""
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
    """Exchange two folders in one step; False where the system or file system cannot."""
    here = AT_FDCWD.get(sys.platform)
    library = ctypes.CDLL(None, use_errno=True)
    function = getattr(library, "renameatx_np" if sys.platform == "darwin" else "renameat2", None)
    if here is None or function is None:
        return False
    done: int = function(here, os.fsencode(a), here, os.fsencode(b), RENAME_SWAP)
    return done == 0


def _swap_by_renames(new: Path, out: Path) -> None:
    """Exchange `new` and `out` by three renames; for a moment there is no OUT."""
    old = out.with_name(f"{out.name}.replaced")
    try:
        os.rename(out, old)
        os.rename(new, out)
    except BaseException:  # Ctrl-C too, which may come between the two
        if not out.exists():
            os.rename(old, out)
        raise
    os.rename(old, new)


def _sync_folder(folder: Path) -> None:
    """Make renames inside a folder last through a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)
