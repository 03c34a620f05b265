"""`profile --send`: the file's name, what it leaves out, and where it says to post it."""

import json
import os
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from puzzle import assert_one_line

from mlx_diffgemma.cli.profile import send
from mlx_diffgemma.machine.identity import this_machine
from mlx_diffgemma.profile.comparison import read_profile

FAST = ("--steps", 1, "--context", 130)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_the_name_has_chip_model_workload_and_date() -> None:
    machine = replace(this_machine(), chip="Apple M4 Pro")
    name = send.file_to_send(machine, "mlx-community/gemma-4bit", "fixed").name
    assert name.startswith("profile-m4-pro-gemma-4bit-fixed-2")
    odd = send.file_to_send(replace(machine, chip=None), "/../…", "adaptive").name
    assert odd.startswith("profile-unknown-chip-unnamed-adaptive-2")


def test_a_name_that_is_taken_gets_a_number(here: Path) -> None:
    """A second run of one day took the place of the first."""
    first = send.file_to_send(this_machine(), "model", "fixed")
    first.symlink_to("nowhere")
    second = send.file_to_send(this_machine(), "model", "fixed")
    second.write_text("mine")
    third = send.file_to_send(this_machine(), "model", "fixed")
    assert [f.stem.removeprefix(first.stem) for f in (second, third)] == ["-2", "-3"]
    assert third.parent == Path(".")


def test_a_file_to_hand_in(run: Any, random_folder: Path, here: Path) -> None:
    done = run("profile", "--model", random_folder, *FAST, "--send")
    assert done.exit_code == 0
    (name,) = os.listdir(here)
    (said,) = done.stderr.splitlines()
    assert_says(said, name, "nothing was sent ... issue of the project; docs/benchmarks.md")
    value = read_profile(here / name)  # as `profile compare` and the table do
    assert all("prompt" not in answer for answer in value["answers"])
    text = json.dumps(value)
    for secret in (str(random_folder), str(Path.home()), str(here)):
        assert secret not in text
    assert done.stdout.startswith("A step takes ")


def test_the_file_of_json_is_the_one_to_hand_in(run: Any, random_folder: Path, here: Path) -> None:
    command = ("profile", "--model", random_folder, *FAST, "--send", "--json")
    (here / "mine.json").write_text("[]")
    assert_one_line(run(*command, "mine.json"), 1, "mine.json", "--overwrite")
    assert_one_line(run(*command, "-"), 2, "--send", "--json")
    assert os.listdir(here) == ["mine.json"]
    done = run(*command, "own.json")
    (said,) = done.stderr.splitlines()
    assert_says(said, "own.json is written")
    assert sorted(os.listdir(here)) == ["mine.json", "own.json"]
    assert "prompt" not in json.loads((here / "own.json").read_text())["answers"][0]


def test_nothing_is_said_to_be_written_that_is_not(
    run: Any, random_folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    done = run("profile", "--model", random_folder, *FAST, "--send")
    assert done.exit_code == 1
    assert done.exit_code == 1
    assert_says(done.stderr[:-1], "error: the profile cannot be written ... No space left")


@pytest.mark.parametrize(
    ("urls", "facts"),
    [
        ([], "in an issue of the project"),
        (["Source, https://example.org/a"], "in an issue of the project"),
        (
            ["Source, https://example.org/a", "Issues, https://example.org/b"],
            "issue at https://example.org/b",
        ),
    ],
)
def test_the_address_is_that_of_the_metadata(
    urls: list[str], facts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No address stands in the program: it would outlive a move of the project."""
    found = Message()
    for url in urls:
        found["Project-URL"] = url
    monkeypatch.setattr(send, "metadata", lambda name: found)
    assert_says(send.where_to_post(Path("a.json")), "a.json is written; nothing was sent", facts)
