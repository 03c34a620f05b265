"""From a model's name to a folder, without the network: the Hub's library is stood in for."""

import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from facts import raises

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint import hub
from mlx_diffgemma.checkpoint.hub import Download, Source, find_model
from mlx_diffgemma.errors import CheckpointError, HubError

REPO = "owner/model"
HOW = f"`mlx-diffgemma pull {REPO}` ... `--model tiny-chat` works now"
REVISION = "0123456789abcdef"
WANTED = ["*.safetensors", "*.json", "*.jinja"]


def agree(download: Download) -> bool:
    return True


# --- names and folders


def test_an_embedded_model_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a folder of that name happens to stand."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-sudoku").mkdir()
    source = find_model("tiny-sudoku")
    assert source == Source(Path(str(embedded_folder("tiny-sudoku"))))
    assert (source.folder / "model.safetensors").exists()


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_taken_as_it_is(tmp_path: Path, kind: Callable[[Path], Any]) -> None:
    assert find_model(kind(tmp_path)) == Source(tmp_path)


def test_a_folder_goes_before_a_repository_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert find_model(REPO) == Source(Path(REPO))


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert find_model("~/model") == Source(tmp_path / "model")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with raises(CheckpointError, file, "file ... folder"):
        find_model(file)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(CheckpointError, match="the model's name is empty"):
        find_model("")


@pytest.mark.parametrize(
    "name",
    [
        *("/no/such/folder", "./owner/model", "../model", "./model", "model", "a/b/c", "owner/"),
        *("/model", "~/no-such-model", "~nobody-here/model", "owner/two words", "owner/a..b"),
        *("owner/model.git", "-/model", "x" * 5000, "Why is the sky blue?", "owner/\0"),
    ],
)
def test_what_is_neither_a_folder_nor_a_repository_is_one_line(name: str) -> None:
    says = "no such folder ... folder ... repository id ... tiny-sudoku"
    with raises(CheckpointError, says):
        find_model(name, consent=agree)


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "a\x1b[2J", "a\udcff", "x" * 100_000])
def test_a_name_is_repeated_in_a_short_line(name: str) -> None:
    """Bug: of any length, and with its line breaks."""
    with raises(CheckpointError, "no such folder", most=260) as _:
        find_model(name)


# --- the Hub


class Hub:
    """What huggingface_hub would do: a cache, a repository, and how reaching it fails."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        self.snapshot = folder / REVISION
        self.cached, self.asked = False, list[str]()
        self.revisions: list[str | None] = []
        self.survey_fails: Exception | None = None
        self.download_fails: Exception | None = None
        self.files = [
            SimpleNamespace(rfilename="model-00001-of-00002.safetensors", size=4_000_000_000),
            SimpleNamespace(rfilename="model-00002-of-00002.safetensors", size=3_000_000_000),
            SimpleNamespace(rfilename="config.json", size=3000),
            SimpleNamespace(rfilename="chat_template.jinja", size=None),
            SimpleNamespace(rfilename="pytorch_model.bin", size=9_000_000_000),
            SimpleNamespace(rfilename="README.md", size=5000),
        ]
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(model_info=self.info))

    def snapshot_download(
        self,
        repo_id: str,
        *,
        allow_patterns: list[str],
        local_files_only: bool = False,
        revision: str | None = None,
    ) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        assert (repo_id, allow_patterns) == (REPO, WANTED)
        self.revisions.append(revision)
        self.asked.append("cache" if local_files_only else "download")
        if local_files_only and not self.cached:
            raise LocalEntryNotFoundError("nothing here")
        if not local_files_only:
            if self.download_fails:
                raise self.download_fails
            self.fill()
            self.bring()
        return str(self.snapshot)

    def info(self, repo_id: str, *, files_metadata: bool, revision: str | None) -> Any:
        assert (repo_id, files_metadata) == (REPO, True)
        self.revisions.append(revision)
        self.asked.append("survey")
        if self.survey_fails:
            raise self.survey_fails
        return SimpleNamespace(siblings=self.files)

    def bring(self) -> None:
        """The files that the survey lists, of their sizes and without content."""
        for file in self.files:
            if file.size and not file.rfilename.endswith((".bin", ".md")):
                with (self.snapshot / file.rfilename).open("ab") as stream:
                    stream.truncate(file.size)

    def fill(self, weights: bool = True) -> None:
        self.cached = True
        self.snapshot.mkdir(exist_ok=True)
        for name in ("config.json", "tokenizer.json", "chat_template.jinja"):
            (self.snapshot / name).write_text("{}")
        if weights:
            (self.snapshot / "model.safetensors").touch()


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.chdir(tmp_path)
    return Hub(tmp_path, monkeypatch)


def assert_refused(*facts: object, **options: Any) -> None:
    """The error names the repository and says the facts."""
    with raises(HubError, REPO, *facts, most=500):  # a path of Python's may stand in it
        find_model(REPO, **options)


@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_a_revision_is_asked_for_everywhere(remote: Hub, revision: str | None) -> None:
    assert find_model(REPO, consent=agree, revision=revision).folder == remote.snapshot
    assert remote.asked == ["cache", "survey", "download"]
    assert remote.revisions == [revision] * 3


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    for name in (tmp_path, "tiny-sudoku"):
        with raises(CheckpointError, name, "folder ... revision main ... leave it out"):
            find_model(name, revision="main")


def test_pickled_weights_are_refused_before_they_are_fetched(remote: Hub) -> None:
    remote.files = [SimpleNamespace(rfilename=n, size=9) for n in ("a.json", "pytorch_model.bin")]
    assert_refused("pytorch_model.bin ... no *.safetensors", consent=agree)
    assert remote.asked == ["cache", "survey"]


@pytest.mark.parametrize("offline", [False, True])
def test_a_cached_repository_is_used_with_its_revision(remote: Hub, offline: bool) -> None:
    remote.fill()
    assert find_model(REPO, offline=offline) == Source(remote.snapshot, REVISION)
    assert remote.asked == ["cache"]


def test_offline_nothing_is_asked_or_fetched(remote: Hub) -> None:
    assert_refused("not in the local cache ... --offline", HOW, offline=True, consent=agree)
    assert remote.asked == ["cache"]


def test_without_consent_nothing_is_fetched(remote: Hub) -> None:
    assert_refused("not in the local cache", HOW)
    assert remote.asked == ["cache"]


def test_consent_is_asked_with_the_numbers_and_may_be_refused(
    remote: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Download] = []

    def refuse(download: Download) -> bool:
        told.append(download)
        return False

    usage = SimpleNamespace(total=0, used=0, free=12_345)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    assert_refused("not downloaded", HOW, consent=refuse)
    assert told == [Download(REPO, num_bytes=7_000_003_000, free_bytes=12_345)]
    assert remote.asked == ["cache", "survey"]


def test_what_is_in_the_cache_needs_no_room(
    remote: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: 45 of 52 GB were there, 20 GB free, and the rest of the download was refused."""
    told: list[Download] = []

    def refuse(download: Download) -> bool:
        told.append(download)
        return False

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    blobs = tmp_path / "cache/models--owner--model/blobs"
    blobs.mkdir(parents=True)
    for name in ("aa11", "cc33", "bb22.0123.incomplete"):
        (blobs / name).touch()
    remote.files[0].lfs = SimpleNamespace(sha256="aa11")
    remote.files[1].lfs = SimpleNamespace(sha256="bb22")
    remote.files[2].blob_id = "cc33"
    assert_refused(consent=refuse)
    assert (told[0].num_bytes, told[0].missing_bytes) == (7_000_003_000, 3_000_000_000)


def test_free_room_is_that_of_the_cache_or_of_what_will_hold_it(
    remote: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def usage(place: Path) -> Any:
        seen.append(place)
        return SimpleNamespace(free=1)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "not" / "yet"))
    assert_refused(consent=lambda download: False)
    assert seen == [tmp_path]


def test_with_consent_it_is_downloaded(remote: Hub) -> None:
    assert find_model(REPO, consent=agree) == Source(remote.snapshot, REVISION)
    assert remote.asked == ["cache", "survey", "download"]


@pytest.mark.parametrize("what", ["no weights", "no config", "a shard missing"])
def test_an_interrupted_download_is_taken_up_again(remote: Hub, what: str) -> None:
    remote.fill(weights=what != "no weights")
    if what == "no config":
        (remote.snapshot / "config.json").unlink()
    if what == "a shard missing":
        index = '{"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}'
        (remote.snapshot / "model.safetensors.index.json").write_text(index)
    lacks = {"no weights": "*.safetensors", "no config": "config.json"}
    said = f"incomplete ... lacks {lacks.get(what, 'model-00002.safetensors')}"
    assert_refused(said, HOW)
    assert_refused(said, "--offline", HOW, offline=True)
    assert find_model(REPO, consent=agree).folder == remote.snapshot
    assert remote.asked[-1] == "download"


def lose(file: Path) -> None:
    """As a cache that was emptied leaves a file: its link, and nothing behind it."""
    file.unlink(missing_ok=True)
    file.symlink_to(file.parent / "gone")


def shards_without_index(folder: Path) -> None:
    """As an older library of the Hub begins a download."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00003.safetensors")
    (folder / "model-00003-of-00003.safetensors").touch()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
    "a lost tokenizer": (lambda folder: lose(folder / "tokenizer.json"), "tokenizer.json"),
    "lost settings": (
        lambda folder: lose(folder / "generation_config.json"),
        "generation_config.json",
    ),
    "a lost template": (lambda folder: lose(folder / "chat_template.jinja"), "chat_template.jinja"),
    "lost weights": (lambda folder: lose(folder / "model.safetensors"), "model.safetensors"),
    "a lost index": (
        lambda folder: lose(folder / "model.safetensors.index.json"),
        "model.safetensors.index.json",
    ),
    "shards without an index": (shards_without_index, "model-00002-of-00003.safetensors"),
}


@pytest.mark.parametrize(("damage", "name"), DAMAGES.values(), ids=DAMAGES)
def test_an_incomplete_snapshot_is_completed_or_named(
    remote: Hub, damage: Callable[[Path], object], name: str
) -> None:
    """Bug: without tokenizer or template it counted as complete, and was never fetched again."""
    remote.fill()
    damage(remote.snapshot)
    assert_refused("incomplete ... lacks", name, HOW)
    assert_refused("incomplete ... lacks", name, "--offline", HOW, offline=True)
    assert remote.asked == ["cache", "cache"]
    assert find_model(REPO, consent=agree).folder == remote.snapshot
    assert remote.asked[-2:] == ["survey", "download"]


def test_a_template_is_asked_for_where_somebody_can_be_asked(remote: Hub) -> None:
    remote.fill()
    (remote.snapshot / "chat_template.jinja").unlink()
    whole = Source(remote.snapshot, REVISION)
    assert find_model(REPO) == find_model(REPO, offline=True) == whole
    assert remote.asked == ["cache", "cache"]
    assert find_model(REPO, consent=agree) == whole
    assert remote.asked[2:] == ["cache", "survey", "survey", "download"]


@pytest.mark.parametrize("away", [False, True])
def test_a_repository_without_a_template_is_complete(remote: Hub, away: bool) -> None:
    """Also where the Hub cannot be reached: all that is required is there."""
    remote.fill()
    (remote.snapshot / "chat_template.jinja").unlink()
    remote.files = [f for f in remote.files if f.rfilename in ("config.json", "README.md")]
    remote.survey_fails = OSError("no network") if away else None
    assert find_model(REPO, consent=agree) == Source(remote.snapshot, REVISION)
    assert remote.asked == ["cache", "survey"]


def test_a_template_in_the_tokenizers_config_is_one(remote: Hub) -> None:
    remote.fill()
    (remote.snapshot / "chat_template.jinja").unlink()
    (remote.snapshot / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    assert find_model(REPO, consent=agree).folder == remote.snapshot
    assert remote.asked == ["cache"]


def test_what_the_hubs_library_knows_to_be_missing_is_named(
    remote: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fail(repo_id: str, **_: object) -> str:
        error = LocalEntryNotFoundError("1 file(s) are missing (processor_config.json). Re-run.")
        error.snapshot_path = str(remote.snapshot)  # type: ignore[attr-defined]
        raise error

    remote.fill()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert_refused("incomplete ... lacks processor_config.json", HOW)


@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_the_command_that_fetches_is_one_that_is_there(
    monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    """Bug: `hf` was named where no `hf` was to be found."""
    at = f" --revision {revision}" if revision else ""
    assert hub.fetch_command(REPO, revision) == f"mlx-diffgemma pull {REPO}{at}"
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert hub._hub_tool() == "hf"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", "/my env/bin/python")
    assert hub._hub_tool() == "'/my env/bin/python' -m huggingface_hub.cli.hf"


def test_the_hubs_command_runs_as_a_module() -> None:
    assert find_spec("huggingface_hub.cli.hf") is not None


class ForeignError(Exception):
    """As an HTTP library below huggingface_hub raises it: neither its own nor an OSError."""


@pytest.mark.parametrize("stage", ["survey_fails", "download_fails"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ForeignError("[Errno 111] Connection\nrefused"), "[Errno 111] Connection refused"),
        (OSError("No space left on device"), "No space left on device"),
        (ValueError("odd"), "odd"),
        (ForeignError(), "ForeignError"),
        (ForeignError("x" * 500), "x" * 200),
    ],
)
def test_whatever_keeps_the_hub_away_is_one_line(
    remote: Hub, stage: str, error: Exception, reason: str
) -> None:
    setattr(remote, stage, error)
    assert_refused(f"cannot be fetched ({reason})", HOW, consent=agree)


def test_a_refused_connection_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real library, at a port of this machine that nobody listens on."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    real = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: real(endpoint="http://127.0.0.1:9"))
    monkeypatch.chdir(tmp_path)
    assert_refused("cannot be fetched (", consent=agree)


def test_what_consent_itself_raises_goes_through(remote: Hub) -> None:
    def interrupt(download: Download) -> bool:
        raise OSError("the terminal is gone")

    with pytest.raises(OSError, match="the terminal is gone") as error:
        find_model(REPO, consent=interrupt)
    assert not isinstance(error.value, HubError)


def test_only_weights_json_and_templates_are_wanted() -> None:
    assert list(hub.WANTED_FILES) == WANTED
