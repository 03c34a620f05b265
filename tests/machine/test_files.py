"""The one writer of whole files: the old content or all of the new, and nothing beside it."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says

from mlx_diffgemma.machine import files
from mlx_diffgemma.machine.files import (
    WholeFile,
    json_bytes,
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
        replace_file(file, b"new content")
    monkeypatch.undo()
    assert file.read_text() == "old"


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    replace_file(tmp_path / "link", b"new")
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
    replace_file(file, b"new")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


BAD_JSON: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "line 1 column 1"),
    "unfinished": (b"{", "line 1 column 2"),
    "no UTF-8": (b'{"a": "\xff"}', "UTF-8 ... 0xff ... 7"),
    "UTF-16": ("{}".encode("utf-16"), "UTF-8"),
    "a list without end": (b"[" * 200_000, "nested ... 100"),
    "an object without end": (b'{"a":' * 200_000, "nested ... 100"),
    "too deep": (b"[" * 101 + b"]" * 101, "nested ... 100"),
    "a key twice": (b'{"a": 1, "b": 2, "a": 3}', "'a' ... twice"),
    "a key twice inside": (b'[{"a": {"b": 1, "b": 1}}]', "'b' ... twice"),
    "a long key twice": (b'{"%s": 1, "%s": 2}' % ((b"k" * 9999,) * 2), "twice"),
    "NaN": (b"[NaN]", "NaN"),
    "an infinity": (b"[-Infinity]", "-Infinity"),
    "a number beyond a double": (b"[1e999]", "1e999"),
    "a whole number beyond a double": (b"[1%s]" % (b"0" * 400), "401 digits"),
    "a whole number that Python refuses": (b"[-1%s]" % (b"0" * 9000), "digits"),
    "half a surrogate pair": (rb'["\ud83d"]', "surrogate"),
    "half a surrogate pair as a key": (rb'{"\ud83d": 1}', "surrogate"),
}


@pytest.mark.parametrize(("content", "said"), BAD_JSON.values(), ids=BAD_JSON)
def test_no_json_is_a_short_line(file: Path, content: bytes, said: str) -> None:
    """Bug: nesting gave a RecursionError, 10**400 an OverflowError far behind the reader."""
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r".") as caught:
        read_json(file)
    assert_says(caught.value, said, most=100)


GOOD_JSON: dict[str, tuple[bytes, Any]] = {
    "a byte order mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "deep": (b"[" * 100 + b"]" * 100, ...),
    "a surrogate pair": (rb'["\ud83d\ude00"]', ["\U0001f600"]),
    "the largest": (b"[1%s, 1.7e308]" % (b"0" * 307), [10**307, 1.7e308]),
    "what tokenizers call no limit": (b"[1000000000000000019884624838656]", [int(1e30)]),
}


@pytest.mark.parametrize(("content", "value"), GOOD_JSON.values(), ids=GOOD_JSON)
def test_other_json_is_read(file: Path, content: bytes, value: Any) -> None:
    file.write_bytes(content)
    found = read_json(file)
    assert value is ... or found == value


def test_a_name_that_is_no_utf8_is_written_as_its_escape(file: Path) -> None:
    file.write_bytes(json_bytes({"path": "a\udcff", "text": "\U0001f600\\"}))
    assert read_json(file) == {"path": r"a\udcff", "text": "\U0001f600\\"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes(float("nan"))


@pytest.mark.parametrize("most", ["MOST_BYTES", "MOST_UNSIZED_BYTES"])
def test_what_has_no_end_is_not_read_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str
) -> None:
    """Bug: `replay /dev/full` took all memory; a pipe and a device may go on for ever."""
    monkeypatch.setattr(files, most, 1 << 20)
    file = tmp_path / "large" if most == "MOST_BYTES" else Path("/dev/zero")
    if most == "MOST_BYTES":
        file.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(OSError, match="more than 1 MiB"):
        files.read_bytes(file)
    if most == "MOST_BYTES":
        file.write_bytes(bytes(1 << 20))
        assert len(files.read_bytes(file)) == 1 << 20
