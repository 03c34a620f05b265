"""Repositories fetched from a Hub on this machine: what goes on, is checked, or is mended."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from facts import raises
from fake_hub import COMMIT, FakeHub, served, use

from mlx_diffgemma.checkpoint import fetch as fetching
from mlx_diffgemma.checkpoint.cache import PART, taken
from mlx_diffgemma.checkpoint.download import Download, survey
from mlx_diffgemma.checkpoint.fetch import fetch
from mlx_diffgemma.errors import HubError

REPO = "owner/model"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SMALL = ("config.json", "tokenizer_config.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository of two large and two small files, and one that nobody wants."""
    made, noise = tmp_path / "there", random.Random(0)
    made.mkdir()
    for name, size in zip(
        (*SHARDS, *SMALL, "README.md"), (300_000, 200_000, 900, 50, 9), strict=True
    ):
        (made / name).write_bytes(noise.randbytes(size))
    return made


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(fetching, "PIECE", 1 << 14)
    with served(FakeHub(folder)) as hub:
        use(hub, tmp_path / "cache", monkeypatch)
        yield hub


def surveyed() -> Download:
    return survey(REPO, None)


def blob_of(tmp_path: Path, name: str) -> Path:
    """The place of a file's content in the cache, there or not."""
    (found,) = (file for file in surveyed().files if file.name == name)
    assert found.blob
    return tmp_path / "cache/models--owner--model/blobs" / found.blob


def assert_whole(fetched: fetching.Fetched, folder: Path) -> None:
    assert fetched.folder.name == COMMIT
    assert {file.name for file in fetched.folder.iterdir()} == {*SHARDS, *SMALL}
    for name in (*SHARDS, *SMALL):
        assert (fetched.folder / name).read_bytes() == (folder / name).read_bytes()


def test_all_that_is_wanted_comes_and_is_checked(hub: FakeHub, folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    fetched = fetch(surveyed(), None, lambda *progress: told.append(progress))
    assert_whole(fetched, folder)
    assert (fetched.num_hashes, fetched.num_bytes, fetched.mended) == (4, 500_950, ())
    assert sorted(hub.asked) == sorted((name, 0) for name in (*SHARDS, *SMALL))
    assert ("downloading", 500_000, 500_000) in told
    assert told[-1] == ("checking", 500_950, 500_950)
    assert surveyed().missing_bytes == 0
    hub.asked.clear()
    assert fetch(surveyed(), None).num_bytes == 0
    assert hub.asked == []


def test_a_release_of_the_library_with_other_parts_fetches_all(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object) -> None:
        raise ImportError("cannot import name 'http_get'")

    monkeypatch.setattr(fetching, "fetch_large", lacking)
    assert_whole(fetch(surveyed(), None), folder)


def test_a_part_of_a_file_goes_on(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    """huggingface_hub itself begins the file again, of which the real ones have 5 GB."""
    blob = blob_of(tmp_path, SHARDS[0])
    blob.parent.mkdir(parents=True)
    part = blob.with_name(blob.name + PART)
    part.write_bytes((folder / SHARDS[0]).read_bytes()[:200_000])
    assert surveyed().missing_bytes == 300_950
    assert_whole(fetch(surveyed(), None), folder)
    assert (SHARDS[0], 200_000) in hub.asked
    assert not part.exists()


def test_an_interrupt_keeps_what_has_come(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    hub.rate = 400_000

    def interrupt(what: str, done: int, total: int) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(surveyed(), None, interrupt)
    hub.rate = None
    parts = {name: blob_of(tmp_path, name) for name in SHARDS}
    kept = {
        name: part.stat().st_size
        for name, blob in parts.items()
        if (part := blob.with_name(blob.name + PART)).exists()
    }
    assert sum(kept.values()) >= 50_000
    hub.asked.clear()
    assert_whole(fetch(surveyed(), None), folder)
    assert all((name, size) in hub.asked for name, size in kept.items())


def test_a_broken_connection_goes_on(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # what the library waits
    hub.cut = 150_000
    assert_whole(fetch(surveyed(), None), folder)
    assert [begin for _, begin in hub.asked if begin] == [131_072]


@pytest.mark.parametrize("size", [100_000, 200_000, 200_001])
def test_a_part_that_is_none_of_the_file_is_found(
    hub: FakeHub, folder: Path, tmp_path: Path, size: int
) -> None:
    """As a full disk, or a crash, may leave it; one that is too long is begun again at once."""
    blob = blob_of(tmp_path, SHARDS[1])
    blob.parent.mkdir(parents=True)
    blob.with_name(blob.name + PART).write_bytes(bytes(size))
    fetched = fetch(surveyed(), None)
    assert_whole(fetched, folder)
    said = [line.startswith(f"{SHARDS[1]} has the hash") for line in fetched.mended]
    assert said == ([] if size > 200_000 else [True])


@pytest.mark.parametrize("name", [SHARDS[0], SMALL[0]])
@pytest.mark.parametrize("wrong", ["shorter", "another byte", "gone"])
def test_what_is_wrong_in_the_cache_is_named_and_fetched_again(
    hub: FakeHub, folder: Path, tmp_path: Path, name: str, wrong: str
) -> None:
    fetch(surveyed(), None)
    blob = blob_of(tmp_path, name)
    content = blob.read_bytes()
    if wrong == "gone":
        blob.unlink()
    else:
        blob.write_bytes(content[:-1] + (b"?" if wrong == "another byte" else b""))
    fetched = fetch(surveyed(), None)
    assert_whole(fetched, folder)
    assert [line.split()[0] for line in fetched.mended] == ([] if wrong == "gone" else [name])
    assert fetched.num_bytes == len(content)


def test_what_is_wrong_twice_is_an_error(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub states another hash than its file has."""
    files = [{**f, "sha256": "0" * 64} if f["name"] == SHARDS[0] else f for f in hub.files()]
    monkeypatch.setattr(hub, "files", lambda: iter(files))
    with raises(HubError, REPO, SHARDS[0], "hash ... 000000000000 ... twice"):
        fetch(surveyed(), None)


def test_two_processes_do_not_fetch_one_repository(hub: FakeHub) -> None:
    with taken(REPO), raises(HubError, REPO, "another process"):
        fetch(surveyed(), None)
    assert hub.asked == []


def test_what_the_hub_refuses_on_the_way_ends_the_download(hub: FakeHub) -> None:
    """The error of a thread is that of the download."""
    download = surveyed()
    hub.refuses = 403
    with pytest.raises(Exception, match="403"):
        fetch(download, None)
