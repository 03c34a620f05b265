"""The one writer of whole files: the old content or all of the new, and nothing beside it."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from mlx_diffgemma.machine import files
from mlx_diffgemma.machine.files import (
    WholeFile,
    part_name,
    read_json,
    replace_file,
    require_replaceable,
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "file"
    assert not [path for path in tmp_path.iterdir() if fnmatch(path.name, part_name("*"))]


def test_the_old_content_stays_until_the_new_one_is_whole(file: Path) -> None:
    file.write_text("old")
    with WholeFile(file) as out:
        assert file.read_text() == "old"
        out.write(b"new")
    assert file.read_text() == "new"


def test_without_a_write_nothing_changes(file: Path) -> None:
    with pytest.raises(KeyboardInterrupt), WholeFile(file):
        raise KeyboardInterrupt
    assert not file.exists()
    require_replaceable(file)
    assert not file.exists()


def test_a_disk_that_fills_up_leaves_the_old_content(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("old")
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) < 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content[:4])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(file, "new content")
    monkeypatch.undo()
    assert file.read_text() == "old"


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    replace_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert file.read_text() == "new"


def test_a_pipe_is_written_into(file: Path) -> None:
    os.mkfifo(file)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(file.read_text()))
    reader.start()
    with WholeFile(file) as out:
        out.write(b"new")
    reader.join()
    assert read == ["new"]
    assert stat.S_ISFIFO(file.stat().st_mode)


def test_a_pipe_that_nobody_reads_is_not_waited_for(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(file)
    monkeypatch.setattr(files, "PATIENCE", 0)
    with pytest.raises(OSError, match="nobody reads this pipe"):
        WholeFile(file)


def test_what_is_appended_is_whole_or_not_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with WholeFile(file) as out:
        out.append(b"one\n")
        monkeypatch.setattr(os, "write", lambda number, part: _short(write, number, part))
        with pytest.raises(OSError, match="No space"):
            out.append(b"two and more\n")
        monkeypatch.undo()
        out.append(b"three\n")
        assert not file.exists()
        out.finish()
    assert file.read_bytes() == b"one\nthree\n"


def _short(write: Callable[[int, bytes], int], number: int, part: bytes) -> int:
    """Write four bytes of a long part, and none of its rest."""
    if len(part) < 13:
        raise OSError(errno.ENOSPC, "No space left on device")
    return write(number, part[:4])


def test_a_new_content_keeps_the_files_permissions(file: Path) -> None:
    file.write_text("old")
    file.chmod(0o640)
    with WholeFile(file) as out:
        out.write(b"new")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_folder_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        WholeFile(tmp_path)
    with pytest.raises(IsADirectoryError):
        require_replaceable(tmp_path)


def test_files_of_our_own_are_the_users_alone(file: Path) -> None:
    replace_file(file, "new")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"{", b"", b"\xff", b"[" * 100_000])
def test_no_json_is_a_value_error(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_json(file)
