"""`--trace`: JSON lines, and files that cannot be written."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from puzzle import SOLVE, assert_one_line

STEP = [
    *("type", "canvas", "step", "temperature", "mean_entropy", "strain", "accepted", "tokens"),
    *("entropies", "seconds", "caller_seconds", "second_tier_rows", "dense_rows"),
    *("encode_seconds", "pieces", "roles"),
]


def read(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in lines]


def test_a_trace_has_a_header_the_steps_and_a_commit_a_canvas(
    run: Any, random_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "trace.jsonl"
    command = ("generate", "Hi", "--model", random_folder, "--max-tokens", 12, "--seed", 5)
    done = run(*command, "--json", "--trace", file)
    reply = json.loads(done.stdout)
    header, *lines = read(file)
    assert (header["type"], header["seed"], header["canvas_length"]) == ("header", 5, 8)
    assert (header["sampler"], header["model"]) == (reply["sampler"], reply["model"])
    assert header["prompt_tokens"] == reply["prompt_tokens"]
    kinds = [line["type"] for line in lines]
    first, second = (["segment", *["step"] * steps, "commit"] for steps in reply["steps"])
    assert kinds == first + second
    commits = [line for line in lines if line["type"] == "commit"]
    assert [token for line in commits for token in line["tokens"]] == reply["token_ids"]
    assert [line["finish_reason"] for line in commits] == [None, "length"]


def test_a_step_holds_what_the_contract_names(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    run(*SOLVE, "--trace", file)
    steps = [line for line in read(file) if line["type"] == "step"]
    for number, step in enumerate(steps):
        assert list(step) == STEP
        assert (step["canvas"], step["step"]) == (0, number)
        assert len(step["tokens"]) == len(step["entropies"]) == len(step["accepted"]) == 90
        assert set(step["accepted"]) <= {0, 1}
        mean = sum(step["entropies"]) / 90
        assert step["mean_entropy"] == pytest.approx(mean, rel=1e-5)  # a float32 sum of 90


def test_a_trace_replaces_an_earlier_one(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    for seed in (1, 2):
        assert run(*SOLVE[:-1], seed, "--trace", file).exit_code == 0
        assert read(file)[0]["seed"] == seed
    assert [path.name for path in tmp_path.iterdir()] == ["trace.jsonl"]


@pytest.mark.parametrize(
    ("place", "part"),
    [("none/trace", "No such file or directory"), (".", "Is a directory")],
)
def test_a_place_that_cannot_be_written_is_found_before_the_model(
    run: Any, tmp_path: Path, place: str, part: str
) -> None:
    done = run("generate", "Hi", "--model", "no/where", "--trace", tmp_path / place)
    assert_one_line(done, 1, "the trace cannot be written", part)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full: full disks not checked")
def test_a_full_disk_is_found_before_the_model(run: Any) -> None:
    done = run("generate", "Hi", "--model", "no/where", "--trace", "/dev/full")
    assert_one_line(done, 1, "trace cannot be written ... /dev/full ... No space left")


def test_no_file_is_left_by_a_generation_that_never_began(run: Any, tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_text('{"type": "header", "format": 1}\n')
    for file in (new, old):
        assert_one_line(run("generate", "12", "--model", "tiny-sudoku", "--trace", file), 1)
    assert not new.exists()
    assert old.read_text() == '{"type": "header", "format": 1}\n'


def test_a_disk_that_fills_up_keeps_what_is_finished(
    run: Any, random_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("generate", "Hi", "--model", random_folder, "--max-tokens", 16, "--seed", 5)
    first = json.loads(run(*command, "--json", "--max-tokens", 8).stdout)["text"]
    file, room, write = tmp_path / "trace", [7], os.write

    def short(descriptor: int, content: bytes) -> int:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr("mlx_diffgemma.machine.files.os.write", short)
    done = run(*command, "--trace", file)  # a probe, header, segment, 3 steps and a commit
    assert done.exit_code == 1
    assert done.stdout == first + "\n"
    (line,) = done.stderr.splitlines()
    assert_says(line, "error: ... trace cannot be written", file, "No space left on device")
    assert len(read(file)) == 6
    before, room[0] = file.read_bytes(), 3  # an earlier trace stays
    assert run(*command, "--trace", file).exit_code == 1
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]


@pytest.mark.parametrize("place", ["-", "/dev/stdout"])
def test_a_trace_on_standard_output_stands_there_alone(
    spawn: Any, random_folder: Path, place: str
) -> None:
    command = ("generate", "Hi", "--model", random_folder, "--max-tokens", 16, "--seed", 5)
    done = spawn(*command, "--trace", place)
    header, *lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr, header["type"]) == (0, b"", "header")
    assert [line["canvas"] for line in lines if line["type"] == "commit"] == [0, 1]


def test_one_object_or_lines_on_standard_output(run: Any) -> None:
    done = run(*SOLVE, "--json", "--trace", "-")
    assert_one_line(done, 2, "--json and --trace ... standard output")


def test_a_device_takes_a_trace(run: Any) -> None:
    assert run(*SOLVE, "--trace", os.devnull).exit_code == 0


# --- modes

TOKEN = [
    *("type", "canvas", "step", "token", "entropy", "top_probability", "strain", "seconds"),
    *("piece", "role"),
]


def test_a_token_is_a_line(run: Any, random_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    command = ("generate", "Hi", "--model", random_folder, "--max-tokens", 12, "--seed", 5)
    reply = json.loads(run(*command, "--mode", "ar", "--json", "--trace", file).stdout)
    header, *lines = read(file)
    assert (header["format"], header["mode"], header["sampler"]) == (2, "ar", reply["sampler"])
    kinds = [line["type"] for line in lines]
    assert kinds == ["segment", *["token"] * 8, "commit", "segment", *["token"] * 4, "commit"]
    assert [line["canvas"] for line in lines] == [0] * 10 + [1] * 6
    tokens = [line for line in lines if line["type"] == "token"]
    assert all(list(line) == TOKEN for line in tokens)
    assert [line["token"] for line in tokens] == reply["token_ids"]
    assert "".join(line["piece"] for line in tokens) == reply["text"]
    for line in tokens:
        assert 0 <= line["entropy"] <= math.log(128)
        assert 1 / 128 <= line["top_probability"] <= 1
    segments = [line for line in lines if line["type"] == "segment"]
    assert [(line["mode"], line["decision"], line["router"]) for line in segments] == [
        ("ar", None, None)
    ] * 2


@pytest.mark.parametrize("times", ["1,1000", "1,inf"])
def test_every_decision_of_mode_auto_is_a_line(
    run: Any, random_folder: Path, tmp_path: Path, times: str
) -> None:
    """What is not finite is null, there as in --json."""
    file = tmp_path / "trace.jsonl"
    command = ("generate", "Hi", "--model", random_folder, "--max-tokens", 9, "--seed", 5)
    given = ("--mode", "auto", "--auto-times", times, "--json", "--trace", file)
    reply = json.loads(run(*command, *given).stdout)
    segments = [line for line in read(file) if line["type"] == "segment"]
    modes = ["diffusion", "diffusion" if times == "1,inf" else "ar"]
    assert [line["mode"] for line in segments] == modes
    assert [line["decision"] for line in segments] == reply["router"]["decisions"]
    for line in segments:
        assert {**line["router"], "decisions": reply["router"]["decisions"]} == reply["router"]
    assert (segments[0]["decision"]["break_even"] is None) == (times == "1,inf")
