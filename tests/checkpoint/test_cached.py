"""The models in the local cache, counted and removed: a cache is made by hand, file by file."""

import json
import os
from pathlib import Path

import pytest
from facts import raises

from mlx_diffgemma.checkpoint.cache import lock_of, taken
from mlx_diffgemma.checkpoint.cached import CachedModel, plan_removal, take_stock
from mlx_diffgemma.errors import HubError

REPO = "owner/model"
FIRST, SECOND = "1" * 40, "2" * 40


class Cache:
    """A cache in a folder; a file's content is its blob's name, as long as a number says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def repository(self, repo_id: str) -> Path:
        return self.folder / f"models--{repo_id.replace('/', '--')}"

    def add(
        self, repo_id: str, commit: str, blobs: dict[str, int], name: str | None = None
    ) -> Path:
        """A revision with files of these sizes, `config.json` a plain one; `name` is its branch."""
        repository = self.repository(repo_id)
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for folder in ("blobs", "refs"):
            (repository / folder).mkdir(exist_ok=True)
        for file, size in blobs.items():
            blob = repository / "blobs" / f"{file}-{size}"
            blob.write_bytes(bytes(size))
            (snapshot / file).symlink_to(Path("../../blobs") / blob.name)
        (snapshot / "config.json").write_text(json.dumps({"model_type": "diffusion_gemma"}))
        if name:
            (repository / "refs" / name).write_text(commit)
        return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return Cache(tmp_path / "cache")


def only() -> CachedModel:
    (model,) = take_stock().models
    return model


WHOLE = {"model.safetensors": 1000, "tokenizer.json": 20}


def test_what_is_whole_and_what_is_in_part(cache: Cache) -> None:
    cache.add(REPO, FIRST, WHOLE, "main")
    cache.add("owner/part", FIRST, {"model.safetensors": 1000}, "main")
    begun = cache.repository("owner/begun") / "blobs"
    begun.mkdir(parents=True)
    (begun / "aa11.incomplete").write_bytes(bytes(300))
    found = {model.repo_id: model for model in take_stock().models}
    assert {name: model.is_whole for name, model in found.items()} == {
        "owner/begun": False,
        REPO: True,
        "owner/part": False,
    }
    assert found["owner/begun"].num_bytes == 300
    assert found["owner/begun"].problem is None
    assert found[REPO].used_at is not None


def test_a_shared_file_counts_once(cache: Cache) -> None:
    cache.add(REPO, FIRST, WHOLE, "main")
    cache.add(REPO, SECOND, {**WHOLE, "tokenizer.json": 30})
    assert 1050 < only().num_bytes < 1500  # links and configs have some bytes of their own
    assert only().revisions[0].num_bytes >= 1020


def test_the_first_revision_is_that_of_the_main_branch(cache: Cache) -> None:
    cache.add(REPO, FIRST, WHOLE, "main")
    later = cache.add(REPO, SECOND, WHOLE, "v2")
    os.utime(later, (2e9, 2e9))
    assert [revision.names for revision in only().revisions] == [("main",), ("v2",)]


def test_what_is_broken_is_told_and_the_rest_is_listed(cache: Cache) -> None:
    cache.add(REPO, FIRST, WHOLE, "main")
    lost = cache.add("owner/lost", FIRST, WHOLE, "main")
    (lost / "model.safetensors").resolve().unlink()
    found = {model.repo_id: model for model in take_stock().models}
    assert found[REPO].problem != "it cannot be read"
    assert "broken symlink" in str(found["owner/lost"].problem)
    assert not found["owner/lost"].is_whole


def test_other_models_are_counted_alone(cache: Cache) -> None:
    snapshot = cache.add("meta/llama", FIRST, WHOLE, "main")
    (snapshot / "config.json").write_text('{"model_type": "llama"}')
    stock = take_stock()
    assert (stock.models, stock.num_others) == ((), 1)


# --- removal


def test_all_of_a_repository_goes_parts_too(cache: Cache) -> None:
    cache.add(REPO, FIRST, WHOLE, "main")
    cache.add("owner/other", FIRST, WHOLE, "main")
    (cache.repository(REPO) / "blobs/aa11.incomplete").write_bytes(bytes(300))
    removal = plan_removal(only_named(REPO), None)
    assert 1320 < removal.num_bytes < 1600
    removal.execute()
    assert not cache.repository(REPO).exists()
    assert [model.repo_id for model in take_stock().models] == ["owner/other"]


def only_named(name: str) -> CachedModel:
    (model,) = (model for model in take_stock().models if model.repo_id == name)
    return model


@pytest.mark.parametrize("kind", ["begun", "lost"])
def test_what_the_library_cannot_read_goes_too(cache: Cache, kind: str) -> None:
    if kind == "begun":
        (cache.repository(REPO) / "blobs").mkdir(parents=True)
        (cache.repository(REPO) / "blobs/aa11.incomplete").touch()
    else:
        (cache.add(REPO, FIRST, WHOLE, "main") / "model.safetensors").resolve().unlink()
    plan_removal(only(), None).execute()
    assert not cache.repository(REPO).exists()


@pytest.mark.parametrize("revision", ["v2", SECOND, SECOND[:7]])
def test_a_revision_leaves_what_another_one_uses(cache: Cache, revision: str) -> None:
    stays = cache.add(REPO, FIRST, WHOLE, "main")
    cache.add(REPO, SECOND, {**WHOLE, "tokenizer.json": 30}, "v2")
    removal = plan_removal(only(), revision)
    assert 30 <= removal.num_bytes < 200
    removal.execute()
    assert [r.commit for r in only().revisions] == [FIRST]
    assert (stays / "model.safetensors").stat().st_size == 1000
    assert not (cache.repository(REPO) / "blobs/tokenizer.json-30").exists()


def test_the_last_revision_is_all_of_it(cache: Cache) -> None:
    cache.add(REPO, FIRST, WHOLE, "main")
    plan_removal(only(), "main").execute()
    assert not cache.repository(REPO).exists()


@pytest.mark.parametrize(("revision", "count"), [("v9", "no"), ("", "no"), ("1", "more than one")])
def test_a_revision_that_is_not_there_is_one_line(cache: Cache, revision: str, count: str) -> None:
    cache.add(REPO, FIRST, WHOLE, "main")
    cache.add(REPO, f"1{SECOND[1:]}", WHOLE)
    with raises(HubError, REPO, f"{count} revision ... main, 111111111111"):
        plan_removal(only(), revision)


def test_what_cannot_be_removed_is_one_line(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The library goes on with a warning of its own."""

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    cache.add(REPO, FIRST, WHOLE, "main")
    removal = plan_removal(only(), None)
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.shutil.rmtree", refuse)
    with raises(HubError, cache.repository(REPO), "cannot be removed"):
        removal.execute()
    assert caplog.records == []


@pytest.mark.parametrize("by", ["this program", "the library"])
def test_nothing_goes_while_it_is_fetched(cache: Cache, by: str) -> None:
    from huggingface_hub.utils import WeakFileLock

    cache.add(REPO, FIRST, WHOLE, "main")
    removal = plan_removal(only(), None)
    lock = lock_of(REPO, "0123")
    lock.parent.mkdir(parents=True)
    with taken(REPO) if by == "this program" else WeakFileLock(lock), raises(HubError, REPO):
        removal.execute()
    assert only().is_whole
