"""A repository described from its headers: the Hub's library is stood in for by a folder."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkpoints import Sizes, edit_json, vision_aside, write_checkpoint
from facts import raises
from repository import COMMIT, REPO, refused, serve

from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.remote import find_headers, remote_headers
from mlx_diffgemma.checkpoint.shards import SIDE_FILE, read_headers
from mlx_diffgemma.errors import CheckpointError, HubError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint in three shards, with a chat template and a tokenizer."""
    made = write_checkpoint(tmp_path / "there", Sizes("sf", vision=True), shards=3)
    for name in ("chat_template.jinja", "tokenizer.json", "README.md"):
        (made / name).write_text(name)
    (made / "tokenizer_config.json").write_text("{}")
    return made


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and no folder of the repository's name."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("revision", [None, "v1"])
def test_headers_stand_for_the_whole_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    """All is asked of the one commit that the first answer names."""
    repository = serve(monkeypatch, folder)
    with remote_headers(REPO, revision) as source:
        assert source.revision == COMMIT
        assert read_config(source.folder) == read_config(folder)
        mine, theirs = read_headers(source.folder, shape_only=True), read_headers(folder)
        assert {name: (i.dtype, i.shape) for name, i in mine.items()} == {
            name: (i.dtype, i.shape) for name, i in theirs.items()
        }
        names = {file.name for file in source.folder.iterdir()}
        assert names == {
            "config.json",
            "chat_template.jinja",
            *(f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)),
        }
    assert not source.folder.exists()
    small = ("config.json", "chat_template.jinja", "headers")
    assert repository.asked == [("info", revision), *((name, COMMIT) for name in small)]


def test_a_tower_in_a_side_file_and_its_budget_are_fetched_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub's list of shards names no side file."""
    (vision_aside(folder) / "processor_config.json").write_text(
        '{"image_processor": {"max_soft_tokens": 99}}'
    )
    repository = serve(monkeypatch, folder)
    with remote_headers(REPO, None) as source:
        assert read_config(source.folder) == read_config(folder)
        mine = read_headers(source.folder, shape_only=True)
        assert set(mine) == set(read_headers(folder))
        assert mine["model.encoder.vision_tower.std_bias"].file == source.folder / SIDE_FILE
    assert repository.asked[-1] == (SIDE_FILE, COMMIT)


def test_the_source_says_what_a_download_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=12_345))
    with remote_headers(REPO, None) as source:
        download = source.download
        assert download is not None
        wanted = [file for file in folder.iterdir() if file.name != "README.md"]
        assert download.num_bytes == sum(file.stat().st_size for file in wanted)
        assert (download.repo_id, download.free_bytes) == (REPO, 12_345)
        assert source.holds("tokenizer.json")
        assert not source.holds("tokenizer.model")


def test_a_folder_here_is_taken_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = serve(monkeypatch, folder)
    with find_headers(folder) as source:
        assert (source.folder, source.download) == (folder, None)
        assert source.holds("tokenizer.json")
        assert not source.holds("tokenizer.model")
    assert repository.asked == []


def test_offline_nothing_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = serve(monkeypatch, folder)
    says = (REPO, "not in the local cache ... --offline ... pull owner/model")
    with raises(HubError, *says), find_headers(REPO, offline=True):
        pass
    assert repository.asked == []


@pytest.mark.parametrize("call", ["info", "config.json", "headers"])
@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("GatedRepoError", "owner/model ... gated ... https://huggingface.co/owner/model"),
        ("RepositoryNotFoundError", "owner/model ... no such repository ... spelling"),
        ("RevisionNotFoundError", "owner/model ... no such revision"),
        ("NotASafetensorsRepoError", "owner/model ... model.safetensors"),
        ("OfflineModeIsEnabled", "owner/model ... not in the local cache ... $HF_HUB_OFFLINE"),
        ("HfHubHTTPError", "owner/model cannot be fetched ... Not Found ... --model tiny-chat"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str, facts: str
) -> None:
    serve(monkeypatch, folder, {call: refused(name)})
    with raises(HubError, facts), find_headers(REPO):
        pass


def test_another_architecture_is_refused_before_its_headers_are_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no error names the folder that is gone by then."""
    edit_json(folder / "config.json", model_type="llama")
    repository = serve(monkeypatch, folder)
    says = "owner/model/config.json ... 'llama' ... 'diffusion_gemma'"
    with raises(CheckpointError, says), find_headers(REPO):
        pass
    assert "headers" not in dict(repository.asked)


def test_errors_about_what_is_read_of_it_name_the_repository(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, folder)
    with raises(CheckpointError, "owner/model/config.json"), remote_headers(REPO, None) as source:
        edit_json(source.folder / "config.json", model_type="llama")
        read_config(source.folder)


@pytest.mark.parametrize("kind", ["nothing", "pickles", "no config"])
def test_a_repository_that_is_no_checkpoint_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "no config":
        (folder / "config.json").unlink()
        expected: tuple[type[Exception], str] = (CheckpointError, "owner/model/config.json")
    else:
        for file in folder.glob("*.safetensors"):
            file.unlink()
        if kind == "pickles":
            (folder / "pytorch_model.bin").touch()
        expected = (HubError, "no *.safetensors")
    serve(monkeypatch, folder)
    with raises(*expected), find_headers(REPO):
        pass


def test_a_shard_may_not_lie_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of shards come from an index that anybody may have written."""
    repository = serve(monkeypatch, folder)
    shard = SimpleNamespace(tensors={})
    metadata = SimpleNamespace(files_metadata={"../../model.safetensors": shard})
    monkeypatch.setattr(repository, "get_safetensors_metadata", lambda *_, **__: metadata)
    with raises(HubError, "owner/model ... '../../model.safetensors'"), find_headers(REPO):
        pass


@pytest.mark.parametrize("decided", [None, True, False])
def test_no_bar_is_drawn_for_headers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, decided: bool | None
) -> None:
    """Unless the environment says what bars are to do, which is left as it is."""
    from huggingface_hub.utils import are_progress_bars_disabled

    repository, seen = serve(monkeypatch, folder), list[bool]()
    before = are_progress_bars_disabled()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", decided)
    real = repository.hf_hub_download

    def download(repo_id: str, name: str, *, revision: str | None) -> str:
        seen.append(are_progress_bars_disabled())
        return real(repo_id, name, revision=revision)

    monkeypatch.setattr(repository, "hf_hub_download", download)
    with remote_headers(REPO, None):
        pass
    assert set(seen) == {before if decided is not None else True}
    assert are_progress_bars_disabled() == before
