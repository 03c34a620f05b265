"""`eval`: table, JSON, the file of answers, bad arguments and data, and Ctrl-C."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from facts import assert_says
from waiting import SECONDS

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.adapter import LoraParameters
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.finetune.evaluation.evaluate import Evaluation, Outcome
from mlx_diffgemma.finetune.lora import initial, save_adapter, select
from mlx_diffgemma.machine import device

Run = Callable[..., Any]
RIGHT = {"prompt": "What is 17 + 25?", "expected": "17 + 25 = 42.", "skill": "sums"}
WRONG = {"prompt": "Opposite of hot?", "completion": "Warm.", "skill": "opposites"}
CHAT = ("eval", "--model", "tiny-chat", "--max-tokens", 64)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "test.jsonl"
    file.write_text(f"{json.dumps(RIGHT)}\n{json.dumps(WRONG)}\n")
    return file


def test_a_table_of_all_ways(run: Run, data: Path) -> None:
    done = run(*CHAT, "--data", data, "--mode", "diffusion,ar", "--steps", 4, "--temperature", 0)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["mode", "steps", "skill", "right"]
    cells = [line.split()[:5] for line in lines[2:-1]]
    assert cells == [
        ["diffusion", "4", "sums", "1", "1"],
        ["diffusion", "4", "opposites", "0", "1"],
        ["diffusion", "4", "all", "1", "2"],
        ["ar", "sums", "1", "1", "100.0%"],
        ["ar", "opposites", "0", "1", "0.0%"],
        ["ar", "all", "1", "2", "50.0%"],
    ]
    assert_says(lines[-1], "95% ... 2 cases")


def test_one_object_and_a_line_an_answer(run: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    done = run(*CHAT, "--data", data, "--limit", 1, "--seeds", 2, "--json", "--out", out)
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["complete"] is True
    assert result["kernels"] == ("metal" if device.has_metal() else "numpy")
    skill, whole = result["results"]
    assert (skill["skill"], whole["skill"], whole["mode"]) == ("sums", None, "diffusion")
    assert (whole["steps"], whole["n"], whole["cases"], whole["correct"]) == (48, 2, 1, 2)
    assert whole["accuracy"] == 1.0
    assert whole["interval"] == pytest.approx([0.2065, 1.0], abs=1e-4)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["answer"] for line in lines] == [RIGHT["expected"]] * 2
    assert [line["correct"] for line in lines] == [True, True]
    again = run(*CHAT, "--data", data, "--limit", 1, "--steps", 1, "--out", out)
    assert again.exit_code == 0, again.stderr
    assert len(out.read_text().splitlines()) == 1


def test_an_adapter_is_applied(run: Run, data: Path, tmp_path: Path) -> None:
    """One of noise on every matrix: nothing is right any more."""
    base = embedded_folder("tiny-chat")
    assert base is not None
    config = read_config(base)
    first = initial(config, select(config, ["all"]), 2, 0)
    values = {name: mx.random.normal(v.shape, key=mx.random.key(0)) for name, v in first.items()}
    save_adapter(tmp_path / "adapter", values, LoraParameters(2, 50.0), base, "tiny-chat")
    given = ("--adapter", tmp_path / "adapter", "--limit", 1, "--steps", 1, "--json")
    result = json.loads(run(*CHAT, "--data", data, *given).stdout)
    assert result["adapter"] == str(tmp_path / "adapter")
    assert [row["accuracy"] for row in result["results"]] == [0.0, 0.0]


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_shows_what_is_finished(
    as_json: bool, run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Evaluation.__iter__

    def broken(self: Evaluation) -> Iterator[Outcome]:
        yield next(whole(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluation, "__iter__", broken)
    out = tmp_path / "answers.jsonl"
    flags = ["--json"] if as_json else []
    done = run(*CHAT, "--data", data, "--steps", 2, "--out", out, *flags)
    assert done.exit_code == 130
    assert_says(done.stderr.strip(), "1 ... 2 answers")
    assert len(out.read_text().splitlines()) == 1
    if as_json:
        assert json.loads(done.stdout)["complete"] is False
    else:
        assert_says(done.stdout.splitlines()[-1], "1 of 2 cases")


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        ((), 2, "--data"),
        (("--data", "gone.jsonl"), 1, "gone.jsonl"),
        (("--steps", "1,x"), 2, "--steps ... '1,x' ... 1,4,16,48"),
        (("--steps", "0"), 2, "--steps ... 0 ... 1"),
        (("--steps", "4,4"), 2, "--steps ... 4 twice"),
        (("--mode", "fast"), 2, "--mode ... 'fast' ... diffusion"),
        (("--mode", "ar", "--steps", "4"), 2, "--steps ... --mode ... ar"),
        (("--temperature", "0"), 2, "--temperature ... ar ... --mode ... diffusion"),
        (("--seeds", "0"), 2, "--seeds ... 0"),
        (("--limit", "0"), 2, "--limit ... 0"),
        (("--metric", "near"), 2, "'near' ... 'exact'"),
        (("--max-tokens", "4000"), 1, "line 1 ... 2,048"),
        (("--model", "tiny-sudoku", "--mode", "ar"), 2, "tiny-sudoku ... --mode ... ar"),
        (("--model", "tiny-sudoku"), 1, "line 1 ... 81"),
    ],
)
def test_bad_arguments(
    arguments: tuple[str, ...], code: int, facts: str, run: Run, data: Path
) -> None:
    given = () if not arguments or "--data" in arguments else ("--data", data)
    model = () if "--model" in arguments else ("--model", "tiny-chat")
    done = run("eval", *model, *given, *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert_says(done.stderr.strip(), facts)


def test_bad_data_is_found_before_the_model_is_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_diffgemma.conversation import loading

    monkeypatch.setattr(loading, "load_source", None)
    file = tmp_path / "bad.jsonl"
    file.write_text('{"prompt": "x", "expected": "y"}\n{"prompt": "x", \n')
    done = run("eval", "--model", "tiny-chat", "--data", file)
    assert done.exit_code == 1
    assert_says(done.stderr.strip(), "bad.jsonl line 2")


def test_a_file_of_another_kind_stays(run: Run, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    done = run(*CHAT, "--data", data, "--out", other)
    assert done.exit_code == 1
    assert_says(done.stderr.strip(), "notes.txt ... --overwrite")
    assert other.read_text() == "mine"


def test_ctrl_c_in_a_process_of_its_own(data: Path, tmp_path: Path) -> None:
    """The first answer is done, the second never is."""
    slow = """
import sys, time
from mlx_diffgemma.finetune.evaluation.evaluate import Evaluation
whole = Evaluation.__iter__

def slow(self):
    for number, outcome in enumerate(whole(self)):
        if number:
            print("SLOW", file=sys.stderr, flush=True)
            while True:  # a signal right before a sleep is seen when the sleep is over
                time.sleep(0.01)
        yield outcome

Evaluation.__iter__ = slow
sys.argv = ["mlx-diffgemma", *sys.argv[1:]]
from mlx_diffgemma.cli.app import main
main()
"""
    out = tmp_path / "answers.jsonl"
    command = [sys.executable, "-c", slow, *map(str, CHAT), "--data", data, "--out", out]
    with subprocess.Popen([*command, "--steps", "1"], stdout=-1, stderr=-1, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "SLOW\n"
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert_says(said.strip(), "1 ... 2 answers")
    assert_says(printed.splitlines()[-1], "1 of 2 cases")
    assert len(out.read_text().splitlines()) == 1
