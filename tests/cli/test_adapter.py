"""`--adapter` on the commands that answer: what it changes, what is said of it, what is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from adapting import write_adapter
from facts import assert_says
from puzzle import assert_one_line

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.adapter import TENSORS

SHORT = ("--max-tokens", "8", "--seed", "1")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, random_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    write_adapter(folder, random_folder, scale=2.0)
    return folder


def told(done: Any) -> Mapping[str, Any]:
    assert done.exit_code == 0, done.output
    content: Mapping[str, Any] = json.loads(done.stdout)
    return content


def test_generate_answers_with_it(run: Any, random_folder: Path, adapter: Path) -> None:
    asked = ("generate", "Hello", "--model", random_folder, *SHORT, "--json")
    plain, adapted = told(run(*asked)), told(run(*asked, "--adapter", adapter))
    assert (plain["adapter"], adapted["adapter"]) == (None, str(adapter))
    assert plain["token_ids"] != adapted["token_ids"]
    session = dg.load(random_folder, adapter=adapter)
    assert list(session.ask("Hello", max_tokens=8, seed=1).token_ids) == adapted["token_ids"]


def test_a_trace_names_it(run: Any, tmp_path: Path, random_folder: Path, adapter: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    asked = ("generate", "Hello", "--model", random_folder, *SHORT, "--trace", trace)
    assert run(*asked, "--adapter", adapter).exit_code == 0
    assert json.loads(trace.read_text().splitlines()[0])["adapter"] == str(adapter)


def test_fill_and_chat_take_it(run: Any, random_folder: Path, adapter: Path) -> None:
    given = ("--model", random_folder, "--adapter", adapter, "--seed", "1")
    filled = told(run("fill", "a [[4]] b", *given, "--json"))
    assert filled["adapter"] == str(adapter)
    chat = run("chat", *given, "--max-tokens", "8", input="/stats\n")
    assert chat.exit_code == 0
    assert f"adapter: {adapter}" in chat.output


@pytest.mark.slow
def test_profile_says_it(run: Any, tmp_path: Path, random_folder: Path, adapter: Path) -> None:
    """By its last name: paths are nobody's business. Two profiles with different ones differ."""
    few = ("--steps", "2", "--canvases", "5", "--context", "100", "--components")
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, more in zip(files, ((), ("--adapter", adapter)), strict=True):
        measured = ("profile", "--model", random_folder, *few, "--json", file, *more)
        done = run(*measured)
        assert done.exit_code == 0, done.output
    assert [json.loads(file.read_text())["adapter"] for file in files] == [None, "mine"]
    assert "adapter" in done.stdout
    assert_one_line(run("profile", "compare", *files), 1, "adapter", "null", '"mine"', "--anyway")


def test_tuning_is_of_the_model_alone(run: Any, random_folder: Path, adapter: Path) -> None:
    done = run("profile", "--tune", "--model", random_folder, "--adapter", adapter)
    assert_one_line(done, 2, "--adapter", "--tune")


def test_what_is_no_adapter(run: Any, tmp_path: Path, random_folder: Path, adapter: Path) -> None:
    asked = ("generate", "Hello", "--model", random_folder, "--adapter")
    assert_one_line(run(*asked, adapter / TENSORS), 1, "a file, expected a folder")
    assert_one_line(run(*asked, tmp_path / "none"), 1, "not found, expected a folder")
    (tmp_path / "empty").mkdir()
    assert_one_line(run(*asked, tmp_path / "empty"), 1, "adapter_config.json")


def test_it_is_looked_at_before_a_download(run: Any, tmp_path: Path) -> None:
    done = run("generate", "Hello", "--model", "some/repository", "--adapter", tmp_path / "none")
    assert_one_line(done, 1, "not found, expected a folder")


def test_an_adapter_of_another_model(run: Any, random_folder: Path, adapter: Path) -> None:
    done = run("generate", "Hello", "--model", "tiny-chat", "--adapter", adapter)
    assert (done.exit_code, done.stdout) == (1, "")
    assert_says(done.stderr.strip(), f"trained on '{random_folder.name}' ... tiny-chat", most=500)
