"""`pull`, `list` and `rm` as a user types them, with a Hub and a cache on this machine."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkpoints import Sizes, edit_json, write_checkpoint
from facts import assert_says
from fake_hub import COMMIT, FakeHub, served, use
from pseudo_terminal import PROGRAM, Tty

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.cache import taken
from mlx_diffgemma.cli.models import consent, pull, removal

REPO = "owner/model"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_checkpoint(tmp_path_factory.mktemp("there") / "model", Sizes("sf"), shards=2)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(embedded_folder("tiny-chat") / name, folder)  # type: ignore[operator]
    return folder


@pytest.fixture
def hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.chdir(tmp_path)
    with served(FakeHub(checkpoint)) as hub:
        use(hub, tmp_path / "cache", monkeypatch)
        yield hub


def assert_line(done: Any, code: int, *facts: object) -> None:
    """The last line on standard error says the facts."""
    assert (done.exit_code, done.stdout) == (code, ""), done.stderr
    assert_says(done.stderr.splitlines()[-1], "error", *facts)


def test_pull_list_and_rm(run: Any, hub: FakeHub, tmp_path: Path) -> None:
    done = run("pull", REPO)
    assert done.exit_code == 0, done.stderr
    whole, path = done.stdout.splitlines()
    assert_says(whole, REPO, "whole ... 7 files ... 7 hashes")
    assert Path(path) == tmp_path / f"cache/models--owner--model/snapshots/{COMMIT}"
    said = done.stderr.splitlines()
    assert_says(said[0], REPO, "not on this machine")
    assert_says(said[1], "Download ... free disk")
    assert_says(said[2], "Memory it needs")
    assert_says(said[3], "downloading", REPO, tmp_path / "cache", "Ctrl-C keeps")

    again = run("pull", REPO, "--json")
    assert json.loads(again.stdout)["fetched_bytes"] == 0
    assert_says(again.stderr.splitlines()[-1], REPO, "already")

    listed = run("list").stdout.splitlines()
    assert listed[0] == REPO
    assert_says(listed[1], "not quantised", "used")
    assert listed[2::2][:2] == ["tiny-chat", "tiny-sudoku"]
    assert_says(listed[-1], "cache", tmp_path / "cache")

    assert_line(run("rm", REPO), 2, "nobody can be asked", REPO, "--yes")
    assert_says(run("rm", REPO, "--yes").stdout.strip(), "removed", REPO)
    assert not (tmp_path / "cache/models--owner--model").exists()
    assert run("list").stdout.splitlines()[0] == "tiny-chat"


def test_another_architecture_is_refused_before_its_weights_are_asked_for(
    run: Any, hub: FakeHub, checkpoint: Path, tmp_path: Path
) -> None:
    hub.folder = Path(shutil.copytree(checkpoint, tmp_path / "llama"))
    edit_json(hub.folder / "config.json", model_type="llama")
    assert_line(run("pull", REPO), 1, "owner/model/config.json ... 'llama'")
    assert not [name for name, _ in hub.asked if name.endswith(".safetensors")]


def test_a_disk_without_room_is_one_line_before_anything_is_fetched(
    run: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=12_345))
    assert_line(run("pull", REPO), 1, REPO, "12.3 kB free", "make room")
    assert hub.asked == []


@pytest.mark.parametrize("how", ["nobody there", "no", "yes", "--yes"])
def test_what_does_not_fit_into_memory_is_asked_about(
    run: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(pull, "available_memory", lambda: 1_000)
    monkeypatch.setattr(pull, "can_ask", lambda: how in ("no", "yes"))
    options = ("--yes",) if how == "--yes" else ()
    done = run("pull", REPO, *options, input={"no": "\n", "yes": "y\n"}.get(how))
    assert any("DOES NOT FIT" in line for line in done.stderr.splitlines())
    fetched = [name for name, _ in hub.asked if name == "tokenizer.json"]
    if how in ("yes", "--yes"):
        assert (done.exit_code, fetched) == (0, ["tokenizer.json"])
    else:
        assert_line(done, 1, REPO, "--yes")
        assert fetched == []


@pytest.mark.parametrize(
    ("name", "facts"),
    [("tiny-chat", "comes with this program"), ("there", "is a folder")],
)
def test_what_is_here_needs_no_pull(run: Any, tmp_path: Path, name: str, facts: str) -> None:
    (tmp_path / "there").mkdir()
    name = str(tmp_path / name) if name == "there" else name
    done = run("pull", name)
    assert (done.exit_code, done.stderr) == (0, "")
    assert_says(done.stdout.strip(), name, facts, "nothing to pull")
    assert json.loads(run("pull", name, "--json").stdout)["fetched_bytes"] == 0


def test_without_a_network_it_is_one_line(
    run: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refuses = 404
    assert_line(run("pull", REPO), 1, REPO, "cannot be fetched ... the same command goes on")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert_line(run("pull", REPO), 1, REPO, "cannot be fetched ... the same command goes on")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_line(run("pull", REPO), 1, "$HF_HUB_OFFLINE", REPO)


def test_the_default_is_pulled_where_none_is_named(
    run: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", REPO)
    assert run("pull").exit_code == 0
    assert run("list").stdout.startswith(f"{REPO} (default)\n")


def test_the_question_of_generate_fetches_the_same_way(
    run: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept_awake = list[bool]()
    monkeypatch.setattr(consent, "awake", lambda: nullcontext(kept_awake.append(True)))
    monkeypatch.setattr(consent, "can_ask", lambda: True)
    asked = ("generate", "Hi", "-m", REPO, "--max-tokens", 8, "--steps", 1)
    done = run(*asked, input="\n")
    assert done.exit_code == 0, done.stderr
    assert_says(done.stderr.splitlines()[3], f"downloading {REPO}", tmp_path / "cache")
    assert run(*asked).exit_code == 0
    assert kept_awake == [True]


# --- rm


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("tiny-chat", "comes with this program"),
        (".", "folder"),
        ("owner/modle", "did you mean owner/model?"),
        ("what?", "not in the local cache ... `mlx-diffgemma list`"),
        ("meta/llama", "no DiffusionGemma"),
    ],
)
def test_what_is_not_removed_is_one_line(
    run: Any, hub: FakeHub, tmp_path: Path, name: str, facts: str
) -> None:
    for repo_id, kind in ((REPO, "diffusion_gemma"), ("meta/llama", "llama")):
        snapshot = tmp_path / f"cache/models--{repo_id.replace('/', '--')}/snapshots/0123"
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps({"model_type": kind}))
    assert_line(run("rm", name, "--yes"), 1, name, facts)
    assert len(list(tmp_path.glob("cache/models--*"))) == 2


def begin(tmp_path: Path) -> Path:
    blobs = tmp_path / "cache/models--owner--model/blobs"
    blobs.mkdir(parents=True)
    (blobs / "aa11.incomplete").write_bytes(bytes(5000))
    return blobs


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 1), ("what?\n", 1), ("", 1)])
def test_rm_asks_with_the_bytes(
    run: Any,
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
) -> None:
    blobs = begin(tmp_path)
    monkeypatch.setattr(removal, "can_ask", lambda: True)
    done = run("rm", REPO, input=answer)
    assert done.exit_code == code
    assert "Remove owner/model and free 5.0 kB? [y/N]" in done.stderr
    assert blobs.exists() is bool(code)


def test_rm_during_a_pull_is_one_line(run: Any, hub: FakeHub, tmp_path: Path) -> None:
    blobs = begin(tmp_path)
    with taken(REPO):
        assert_line(run("rm", REPO, "--yes"), 1, REPO, "another process")
        assert_line(run("pull", REPO), 1, REPO, "another process")
    assert blobs.exists()


# --- terminals


@pytest.mark.slow
def test_a_bar_and_an_interrupt_that_goes_on(hub: FakeHub, tmp_path: Path) -> None:
    """In a window that has no room for a bar with rate and time left: one row all the same."""
    hub.rate = 60_000
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(tmp_path / "cache")}
    env |= {"HF_HUB_OFFLINE": "0"}
    slow = "import sys, mlx_diffgemma.checkpoint.fetch as f; f.PIECE = 8192; from mlx_diffgemma.cli"
    slow += ".app import main; sys.argv = ['mlx-diffgemma', 'pull', 'owner/model']; main()"
    with Tty("-c", slow, columns=40, env=env) as tty:
        tty.until(lambda t: re.search(r"downloading [1-9][\d.]*/\d", t.text()) is not None)
        tty.type("\x03")
        assert tty.wait() == 130
        assert "Traceback" not in tty.text()
        assert "are kept" in " ".join(tty.text().split())
        tty.assert_given_back()
    hub.rate = None
    with Tty(*PROGRAM, "pull", REPO, columns=40, env=env) as tty:
        assert tty.wait() == 0
        assert "owner/model is whole" in " ".join(tty.text().split())
