"""The lines typed in earlier chats: a file of this machine's user, one line of JSON an entry.

Chats at the same time add to it side by side: an entry is written at once, at the end of the file,
and the file is shortened only by whoever holds its lock. Whatever is wrong with it costs the
history and nothing else.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prompt_toolkit.history import History

from ...errors import counted
from ...machine.files import json_bytes, own_file, parse_json
from ..errors import reason

MOST_ENTRIES = 1000
SLACK = 200  # entries more, before the file is shortened
MOST_ENTRY_BYTES = 1 << 16  # of a line or a pasted text; a longer one is not kept
MOST_BYTES = 1 << 26  # of a file that is ours


def history_file() -> Path | None:
    """The place of the history; None without a home."""
    return own_file("XDG_STATE_HOME", ".local/state", "chat-history.jsonl")


class KeptHistory(History):
    """Lines of earlier chats, and those of this one; `note` is a line on what is wrong, once."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file, self.note = file, ""
        self.keeps = True
        self.entries: list[str] = []
        try:
            with _opened(file) as descriptor:
                self.entries, broken = _read(descriptor, file)
            if broken:
                lines = counted(broken, "line")
                self.note = f"note: {file} has {lines} that are no history; they are left out."
        except OSError as error:
            self._give_up(error)

    def load_history_strings(self) -> Iterable[str]:
        """The entries, the last one first."""
        return reversed(self.entries)

    def store_string(self, string: str) -> None:
        """Add an entry to the file."""
        content = json_bytes(string)
        if not self.keeps or len(content) > MOST_ENTRY_BYTES:
            return
        try:
            with _opened(self.file) as descriptor:
                os.write(descriptor, content)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.keeps = False
        self.note = (
            f"note: {reason(error)}; this chat's lines are not kept for the next one. --no-history "
            "says so from the start."
        )


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    """A descriptor of the file, made where it is not there; OSError for what is no such file."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK  # a pipe must not be waited for
    descriptor = os.open(file, flags, 0o600)
    try:
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(file))
        if there.st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"has more than {MOST_BYTES >> 20} MiB", str(file))
        if stat.S_IMODE(there.st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, file: Path) -> tuple[list[str], int]:
    """The last entries, and the number of lines that are none; a file that is long is shortened."""
    locked = _lock(descriptor)
    content = os.pread(descriptor, MOST_BYTES, 0)
    found = [_entry(line) for line in content.splitlines()]
    entries = [entry for entry in found if entry is not None]
    if locked and len(found) > MOST_ENTRIES + SLACK:
        kept = b"".join(map(json_bytes, entries[-MOST_ENTRIES:]))
        os.ftruncate(descriptor, 0)
        os.write(descriptor, kept)
    return entries[-MOST_ENTRIES:], len(found) - len(entries)


def _lock(descriptor: int) -> bool:
    """True where no other chat holds the file, until it is closed."""
    with suppress(OSError):  # another one does, or the disk knows no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _entry(line: bytes) -> str | None:
    try:
        entry = parse_json(line)
    except ValueError:
        return None
    return entry if isinstance(entry, str) else None
