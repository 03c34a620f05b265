"""A lock on a file or folder, and file systems that know none."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_diffgemma.machine import locks
from mlx_diffgemma.machine.locks import locked


def test_one_holds_a_folder_until_it_is_closed(tmp_path: Path) -> None:
    """Each descriptor stands for a process: a lock belongs to what was opened."""
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    assert locked(first)
    assert not locked(second)
    os.close(first)
    assert locked(second)
    os.close(second)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_refuses_nobody(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(locks.fcntl, "flock", failing(number))
    assert locked(0)


def test_a_broken_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks.fcntl, "flock", failing(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        locked(0)


def failing(number: int) -> Callable[..., None]:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return flock
