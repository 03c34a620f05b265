"""The local cache as folders and locks: what is there, and who works on it."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from facts import raises

from mlx_diffgemma.checkpoint.cache import (
    cache_folder,
    cached_names,
    is_being_fetched,
    lock_of,
    taken,
)
from mlx_diffgemma.errors import HubError
from mlx_diffgemma.machine import locks

REPO = "owner/model"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def snapshot(cache: Path, name: str, content: str | None) -> Path:
    folder = cache / f"models--{name}/snapshots/0123"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "config.json").write_text(content)
    return folder


def test_names_are_of_what_may_be_ours(cache: Path) -> None:
    snapshot(cache, "a--ours", json.dumps({"model_type": "diffusion_gemma"}))
    snapshot(cache, "b--begun", None)
    snapshot(cache, "c--broken", "{")
    snapshot(cache, "d--other", json.dumps({"model_type": "llama"}))
    snapshot(cache, "e--odd", json.dumps({"model_type": ["diffusion_gemma"]}))
    (snapshot(cache, "f--lost", None) / "config.json").symlink_to("nowhere")
    (cache / "models--a-file").touch()
    (cache / "datasets--a--set").mkdir()
    assert cached_names() == ["a/ours", "b/begun", "c/broken", "f/lost"]


@pytest.mark.parametrize("there", ["nothing", "a file"])
def test_no_cache_has_no_names(cache: Path, there: str) -> None:
    if there == "a file":
        cache.touch()
    assert cached_names() == []


def test_names_are_cheap() -> None:
    """A shell that completes names waits for them at every key."""
    program = (
        "import sys; from mlx_diffgemma.checkpoint.cache import cached_names; cached_names();"
        "print(*{'mlx', 'numpy', 'httpx', 'httpx2', 'huggingface_hub.hf_api'} & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "", "")


def test_the_place_is_the_librarys(cache: Path) -> None:
    assert cache_folder() == cache


def test_a_repository_is_taken_once(cache: Path) -> None:
    with taken(REPO):
        with taken("owner/other"):
            pass
        with raises(HubError, REPO, "another process"), taken(REPO):
            pass
    with taken(REPO):
        pass


def test_a_cache_on_a_file_system_without_locks_can_be_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pull` into a share that knows no locks failed with the system's error."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with taken(REPO):
        assert not is_being_fetched(REPO)


def test_a_download_of_the_library_itself_is_seen(cache: Path) -> None:
    """`hf download` holds a lock of its own for each file."""
    from huggingface_hub.utils import WeakFileLock

    assert not is_being_fetched(REPO)
    lock = lock_of(REPO, "0123")
    lock.parent.mkdir(parents=True)
    with WeakFileLock(lock):
        assert is_being_fetched(REPO)
    with taken(REPO):
        assert not is_being_fetched(REPO)
