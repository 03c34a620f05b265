"""`fuse` as a user meets it: a folder, text, JSON, and what is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from adapting import write_adapter
from facts import assert_says
from puzzle import assert_one_line

from mlx_diffgemma.checkpoint.adapter import TENSORS
from mlx_diffgemma.convert.write import ShardWriter


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, random_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    write_adapter(folder, random_folder, scale=2.0)
    return folder


def test_the_folder_answers_as_the_adapter_does(
    run: Any, tmp_path: Path, random_folder: Path, adapter: Path
) -> None:
    given = ("--model", random_folder, "--adapter", adapter)
    done = run("fuse", *given, tmp_path / "out", "--check", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["path"], told["adapter"]) == (str(tmp_path / "out"), str(adapter))
    assert (told["quantize"], told["modules"]) == ("keep", 22)
    assert told["check"]["logits"]["decoder"] < 1e-3
    asked = ("generate", "Hello", "--max-tokens", "8", "--seed", "1", "--json")
    answers = [run(*asked, *model) for model in (given, ("--model", tmp_path / "out"))]
    first, second = (json.loads(answer.stdout)["token_ids"] for answer in answers)
    assert first == second


def test_it_says_what_it_made(run: Any, tmp_path: Path, random_folder: Path, adapter: Path) -> None:
    asked = ("fuse", "--model", random_folder, "--adapter", adapter, tmp_path / "out")
    first, *_ = run(*asked).stdout.splitlines()
    assert_says(first, tmp_path / "out", random_folder.name, "mine on 22 modules", most=400)
    assert_one_line(run(*asked), 1, "out exists", "--overwrite")
    lines = run(*asked, "--overwrite", "--check", "--quantize", "8bit").stdout.splitlines()
    assert_says(lines[3], "weights", "22 modules", "furthest off", "at most")
    assert_says(lines[4], "logits", "encoder", "decoder", "conditioned")
    assert_says(lines[5], "canvas", "of 8 positions")


def test_what_is_missing(run: Any, tmp_path: Path, adapter: Path) -> None:
    assert_one_line(run("fuse", "--adapter", adapter), 2, "OUT is missing")
    assert_one_line(run("fuse", tmp_path / "out"), 2, "--adapter is missing")


def test_what_is_no_adapter_or_no_place(
    run: Any, tmp_path: Path, random_folder: Path, adapter: Path
) -> None:
    def refused(adapter: Path, out: Path, code: int, *facts: object, model: Any = "") -> None:
        done = run("fuse", "--model", model or random_folder, "--adapter", adapter, out)
        assert_one_line(done, code, *facts)
        assert not list(tmp_path.glob("out*"))

    out = tmp_path / "out"
    refused(adapter / TENSORS, out, 1, "a file, expected a folder")
    refused(tmp_path / "none", out, 1, "not found, expected a folder", model="some/repository")
    refused(adapter, adapter / TENSORS, 1, f"{TENSORS} is a file")
    refused(adapter, random_folder / "in", 1, "one inside the other")
    refused(adapter, out, 1, "trained on", "tiny-chat", model="tiny-chat")
    done = run("fuse", "--adapter", adapter, out, "--model", "tiny-chat", "--quantize", "9bit")
    assert_one_line(done, 2, "9bit")


def test_an_interrupt_leaves_nothing(
    run: Any, tmp_path: Path, random_folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: ShardWriter) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ShardWriter, "finish", stop)
    done = run("fuse", "--model", random_folder, "--adapter", adapter, tmp_path / "out")
    assert (done.exit_code, done.stdout) == (130, "")
    assert "interrupted; nothing is left behind" in done.stderr
    assert not list(tmp_path.glob("out*"))
