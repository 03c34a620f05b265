"""`fill` from the outside: what comes out, from where a template comes, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pseudo_terminal import PROGRAM, Tty
from puzzle import PUZZLE, SOLUTION, assert_one_line
from waiting import SECONDS

from mlx_diffgemma.cli.record.recording import read_recording

SOLVE = ("fill", PUZZLE, "--model", "tiny-sudoku", "--seed", "1")
ROOT = Path(__file__).parents[2]


def test_a_puzzle_comes_out_as_its_grid(run: Any) -> None:
    done = run(*SOLVE)
    assert (done.exit_code, done.stdout, done.stderr) == (0, SOLUTION, "")
    done = run(*SOLVE[:1], PUZZLE.replace(".", "[[1]]"), *SOLVE[2:])
    assert (done.exit_code, done.stdout) == (0, SOLUTION)


def test_its_json_has_the_holes(run: Any) -> None:
    content = json.loads(run(*SOLVE, "--json").stdout)
    assert content["text"] == SOLUTION[:-1]
    assert len(content["holes"]) == content["generated_tokens"] == PUZZLE.count(".")
    assert content["finish_reason"] == "stop"


def test_a_puzzle_that_is_not_solved_prints_no_grid(run: Any) -> None:
    done = run("fill", "532" + PUZZLE[3:], *SOLVE[2:])
    assert_one_line(done, 1, "not a valid solution", "the puzzle has no solution")


def test_steps_go_to_standard_error(run: Any) -> None:
    done = run(*SOLVE, "--visual")
    assert done.stdout == SOLUTION
    assert done.stderr.startswith("canvas 1 step  1/48  accepted ")
    assert "of 51 " in done.stderr  # holes


@pytest.mark.slow
def test_at_a_terminal_the_grid_is_drawn_with_its_givens_and_the_answer_stays() -> None:
    hard = "1" + "." * 80  # many steps
    with Tty(*PROGRAM, "fill", hard, "--model", "tiny-sudoku", "--seed", 2) as tty:
        tty.until(lambda t: t.alternate and "┌───────┬" in t.text())
        assert "│ 1 " in tty.text()
        tty.send(signal.SIGINT)
        assert tty.wait() == 130
        tty.assert_given_back()
        assert tty.scrollback().splitlines()[-1] == "interrupted: no canvases finished."
    with Tty(*PROGRAM, *SOLVE) as tty:
        assert tty.wait() == 0
        tty.assert_given_back()
        assert tty.entered == 1
        *grid, numbers = tty.scrollback().splitlines()
        assert grid == SOLUTION.splitlines()
        assert re.fullmatch(r"51 tokens in [\d.]+ s, [\d.]+ tokens/s, \d+ steps, seed 1", numbers)


def steps_and_commits(file: Path) -> list[dict[str, Any]]:
    """The lines of a trace but for the header and those that begin a segment."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if line["type"] not in ("header", "segment")]


def test_a_trace_of_it_plays_again(run: Any, random_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "steps"
    source = "one [[2]] two [[12]] three"
    options = ("--model", random_folder, "--seed", 3, "--trace", file)
    filled = run("fill", source, *options)
    lines = steps_and_commits(file)
    assert not any("b" in line["roles"] for line in lines)  # nothing stands behind the end
    commits = [line for line in lines if line["type"] == "commit"]
    assert "".join(piece for line in commits for piece in line["pieces"]) + "\n" == filled.stdout
    played = run("replay", file, "--speed", 1000)
    assert (played.exit_code, played.stdout) == (0, filled.stdout)


def test_a_trace_has_every_step_with_what_is_pinned(run: Any, tmp_path: Path) -> None:
    assert run(*SOLVE, "--trace", tmp_path / "steps").exit_code == 0
    *steps, commit = steps_and_commits(tmp_path / "steps")
    with (tmp_path / "steps").open() as trace:
        assert json.loads(trace.readline())["seed"] == 1
    for step in steps:
        pinned = [place for place, nats in enumerate(step["entropies"]) if nats == 0.0]
        assert len(pinned) >= 90 - PUZZLE.count(".")
        assert step["tokens"][:2] == [ord("5"), ord("3")]
        free = [nats for nats in step["entropies"] if nats > 0]
        assert step["mean_entropy"] >= sum(free) / PUZZLE.count(".") * 0.999
        assert [place for place, pinned in enumerate(step["pinned"]) if not pinned] == [
            *(10 * (cell // 9) + cell % 9 for cell, given in enumerate(PUZZLE) if given == ".")
        ]
    assert commit["text"] == SOLUTION[:-1]
    assert sum(hole >= 0 for hole in commit["holes"]) == PUZZLE.count(".")


def test_what_is_pinned_counts_neither_in_the_view_nor_in_a_replay(
    run: Any, random_folder: Path, tmp_path: Path
) -> None:
    """Tokens per step were those of the whole canvas, the entropy of a replay its mean."""
    file = tmp_path / "steps"
    template = "a long text in front [[2]] of two holes [[3]] of few tokens"
    options = ("--model", random_folder, "--seed", 3, "--trace", file, "--json")
    reply = json.loads(run("fill", template, *options).stdout)
    lines = steps_and_commits(file)
    recording = read_recording(file)
    scene = recording.scene()
    for frame, line in zip(recording.frames, lines, strict=True):
        scene.take(frame)
        if line["type"] == "commit":
            continue
        snapshot = scene.snapshot()
        assert snapshot is not None
        free = line["pinned"].count(0)
        assert snapshot.numbers.num_denoised == free < 8
        assert snapshot.numbers.accepted <= free
        assert snapshot.numbers.mean_entropy == pytest.approx(line["mean_entropy"], rel=1e-5)
    assert scene.committed == reply["generated_tokens"] == 5


@pytest.mark.parametrize(
    ("number", "key", "value"),
    [(2, "pinned", [0]), (2, "pinned", [1] * 90), (-1, "holes", [0]), (-1, "holes", None)],
)
def test_a_damaged_trace_of_a_template_is_one_line(
    run: Any, tmp_path: Path, number: int, key: str, value: Any
) -> None:
    run(*SOLVE, "--trace", tmp_path / "steps")
    lines = (tmp_path / "steps").read_text().splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | {key: value})
    (tmp_path / "steps").write_text("\n".join(lines) + "\n")
    assert_one_line(run("replay", tmp_path / "steps"), 1, "is wrong")


@pytest.fixture
def fill(run: Any, random_folder: Path) -> Any:
    """Fills a template with the random model, by default in one step."""

    def call(*arguments: object, input: str | bytes | None = None) -> Any:
        options = ("--model", random_folder, "--seed", "3", "--steps", "1")
        return run("fill", *arguments, *options, input=input)

    return call


def test_a_template_comes_from_an_argument_a_file_or_standard_input(
    fill: Any, tmp_path: Path
) -> None:
    source = "a [[3]] b\n\tc  [[...]]\\[[2]]\n"
    (tmp_path / "template").write_text(source + "\n")
    expected = fill(source, "--gap", 2)
    assert expected.exit_code == 0, expected.stderr
    assert expected.stdout.startswith("a ")
    assert expected.stdout.endswith("[[2]]\n")
    assert "\n\tc  " in expected.stdout
    for done in (
        fill("--template-file", tmp_path / "template", "--gap", 2),
        fill("-", "--gap", 2, input=source + "\n"),
        fill("--gap", 2, input=source + "\n"),
    ):
        assert (done.exit_code, done.stdout) == (0, expected.stdout + "\n")


ENDS = ["\n\n", "\n \n\n", "\r\n", "\r\n\r\n", "]]\n"]


@pytest.mark.parametrize(
    "ending", ["\n", *(pytest.param(end, marks=pytest.mark.slow) for end in ENDS)]
)
def test_a_file_comes_out_with_its_own_end(spawn: Any, random_folder: Path, ending: str) -> None:
    options = ("--model", random_folder, "--seed", 3, "--steps", 1)
    for template in ("a [[1]] b", "a [[1]]"):
        done = spawn("fill", "-", *options, input=(template + ending).encode())
        assert (done.returncode, done.stderr) == (0, b"")
        before, _, after = (template + ending).partition("[[1]]")
        assert done.stdout.startswith(before.encode())
        assert done.stdout[len(before) + 1 :] == after.encode()


def test_gaps_are_one_for_all_or_one_each(fill: Any) -> None:
    for gaps, lengths in (([], [32, 32]), ([5], [5, 5]), ([5, 6], [5, 6])):
        options = [part for gap in gaps for part in ("--gap", gap)]
        content = json.loads(fill("a [[...]] b [[...]]", "--json", *options).stdout)
        assert content["sampler"]["max_tokens"] == sum(lengths)


def test_prompt_system_and_raw_change_the_prompt(fill: Any) -> None:
    counts = [
        json.loads(fill("a [[1]]", "--json", *options).stdout)["prompt_tokens"]
        for options in ([], ["--prompt", "abc"], ["--system", "ab"], ["--raw", "--prompt", "abcd"])
    ]
    assert counts == [9, 12, 21, 4]


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["a"], 1, "the template has no hole"),
        (["[[0]]"], 1, "the hole in line 1 has 0 tokens"),
        ([""], 1, "the template is empty"),
        (["[[...]]", "--gap", "0"], 2, "--gap has 0 ... at least 1"),
        (["[[...]]", "--gap", "-3"], 2, "--gap has -3"),
        (["[[...]]", "--gap", "two"], 2, "--gap"),
        (["[[...]]", "--gap", "1", "--gap", "2"], 2, "--gap has 2 ... template 1"),
        (["[[4]]", "--gap", "1"], 2, "--gap ... no [[...]]"),
        (["[[...]]", "--template-file", "x"], 2, "TEMPLATE and --template-file"),
        (["[[...]]", "--max-tokens", "3"], 2, "--max-tokens"),
        (["[[...]]", "--steps", "0"], 2, "--steps is 0"),
    ],
)
def test_what_is_no_template_is_one_line_before_any_model_is_sought(
    run: Any, arguments: list[str], code: int, part: str
) -> None:
    assert_one_line(run("fill", *arguments, "--model", "no/where"), code, part)


@pytest.mark.parametrize(
    ("template", "part"),
    [
        ("é [[1]]", "line 1 has 'é ' ... tokenizer ... ' '"),
        ("[[1]]\né", "line 2 has 'é'"),
        ("[[9999]]", "10,009 positions ... 2,048"),
    ],
)
def test_what_this_model_cannot_fill_is_one_line(fill: Any, template: str, part: str) -> None:
    assert_one_line(fill(template), 1, part)


def test_a_marker_in_a_template_is_text_unless_it_is_raw(fill: Any) -> None:
    said = fill("<turn|>a[[1]]<eos>", "--seed", "1")
    assert said.exit_code == 0
    assert said.stdout.startswith("<turn|>a")
    assert said.stdout.endswith("<eos>\n")
    assert_one_line(fill("[[1]]\n<eos>", "--raw"), 1, "line 2 has '<eos>'")


def test_a_repository_that_is_not_here_may_have_a_task(run: Any) -> None:
    """A puzzle is no wrong template before the model says so; any other text without holes is."""
    for text in (PUZZLE, "a [[1]]"):
        assert_one_line(run("fill", text, "--model", "no/where"), 1, "not in the local cache")
    assert_one_line(run("fill", "text", "--model", "no/where"), 1, "the template has no hole")
    done = run("fill", PUZZLE, "--model", "no/where", "--raw")
    assert_one_line(done, 1, "the template has no hole")


def test_a_puzzle_too_many_or_none_is_one_line(run: Any) -> None:
    assert_one_line(run("fill", "a [[1]]", *SOLVE[2:]), 1, "is no part of a puzzle")
    assert_one_line(run("fill", PUZZLE, *SOLVE[2:], "--prompt", "x"), 1, "no part of a puzzle")
    assert_one_line(run("fill", SOLUTION, *SOLVE[2:]), 1, "the template has no hole")
    assert_one_line(
        run("fill", PUZZLE, *SOLVE[2:], "--gap", 3), 2, "--gap ... no [[...]] ... leave --gap out"
    )


def test_a_template_that_cannot_be_read_is_one_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"Gr\xfc\xdfe [[1]]")
    done = run("fill", "--template-file", tmp_path / "latin", "--model", "tiny-sudoku")
    assert_one_line(done, 1, "the template cannot be read", "0xfc at 2")


def test_help_says_how_holes_are_written(run: Any) -> None:
    text = " ".join(run("fill", "--help").stdout.split())
    for part in ("[[...]]", "[[12]]", "a backslash in front", "--gap", "Default: 32", "--prompt"):
        assert part in text
    assert "--max-tokens" not in text
    assert "fill" in run("--help").stdout


# Runs the command line with a second canvas that never comes to an end.
ENDLESS = """
import time
import mlx_diffgemma.conversation.fill as module
fast = module.fill

def endless(*arguments, **options):
    for frame in fast(*arguments, **options):
        while frame.canvas == 1:
            time.sleep(0.01)
        yield frame

module.fill = endless
from mlx_diffgemma.cli.app import main
main()
"""


def test_an_interrupt_keeps_what_is_finished(random_folder: Path, tmp_path: Path) -> None:
    """Every canvas is printed when it is done; Ctrl-C then leaves no more than that."""
    source = "first words [[2]] and then some more [[1500]] the end"
    command = [sys.executable, "-c", ENDLESS, "fill", source, "--model", str(random_folder)]
    process = subprocess.Popen(
        [*command, "--seed", "3"], cwd=ROOT, stdout=-1, stderr=-1, env=dict(os.environ)
    )
    assert process.stdout is not None
    begun = process.stdout.read(12)
    process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate(timeout=SECONDS)
    assert begun == b"first words "
    assert b"the end" not in rest
    assert process.returncode == 130
    line = stderr.splitlines(keepends=True)[-1]
    assert line.startswith(b"interrupted: ")
    assert line.endswith(b" finished.\n")
