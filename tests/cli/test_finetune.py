"""`finetune` as a user meets it: arguments, text, JSON, exit codes, interruptions."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from pseudo_terminal import PROGRAM, Tty
from puzzle import assert_one_line
from ranks import ring_file
from waiting import SECONDS

ROOT = Path(__file__).parents[2]
KEYS = [
    *("step", "loss", "decoder_loss", "encoder_loss", "valid_loss", "learning_rate"),
    *("gradient_norm", "tokens", "tokens_per_second", "seconds", "peak_memory_bytes", "warning"),
]
END = ["steps", "best_loss", "adapter", "checkpoint", "best_step", "finished"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with train.jsonl and valid.jsonl."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, count in (("train", 5), ("valid", 2)):
        lines = [json.dumps({"text": f"{n} and {n}"}) for n in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def short(random_folder: Path, data: Path) -> list[object]:
    """A short run on the random model."""
    return ["--model", random_folder, "--data", data, "--steps", 3, "--batch", 2, "--out"]


# --- a run


def test_a_run_prints_a_line_a_step_and_its_end(
    run: Any, short: list[object], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    valid = ("--valid", data, "--valid-every", 2, "--mix", f"{data / 'valid.jsonl'}:0.25")
    done = run("finetune", *short, out, *valid, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    *steps, end = map(json.loads, done.stdout.splitlines())
    assert [[*step] for step in steps] == [KEYS] * 3
    assert [step["step"] for step in steps if step["valid_loss"] is not None] == [2, 3]
    assert [*end] == END
    assert (end["steps"], end["adapter"], end["finished"]) == (3, str(out), True)
    assert end["best_loss"] == min(step["loss"] for step in steps)
    assert (out / "metrics.jsonl").read_text() == "".join(done.stdout.splitlines(True)[:-1])
    assert {"adapters.safetensors", "adapter_config.json"} < {each.name for each in out.iterdir()}


def test_people_are_told_what_to_try_next(run: Any, short: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("finetune", *short, out)
    assert done.exit_code == 0
    assert_says(
        done.stderr.splitlines()[0], "step 1 of 3 ... loss ... decoder ... encoder ... tokens/s"
    )
    facts = "3 steps", f"generate --model {short[1]} --adapter {out}", f"fuse --model {short[1]}"
    assert_says(done.stdout.replace("\n", " "), *facts, most=1000)


def test_a_run_goes_on(run: Any, short: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("finetune", *short, out, "--resume").exit_code == 0
    again = run("finetune", *short, out, "--resume", "--json")
    assert_says(again.stderr.strip(), "step 3")
    assert json.loads(again.stdout)["steps"] == 3
    other = run("finetune", *short, out, "--resume", "--lr", "0.1", "--seed", 4)
    assert_one_line(other, 1, "--lr was 0.00015 and is 0.1 ... --seed was 0 and is 4")
    assert run("finetune", *short, out).exit_code == 1
    assert run("finetune", *short, out, "--overwrite").exit_code == 0


def test_all_weights_become_a_checkpoint(
    run: Any, random_folder: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run(
        *("finetune", "--model", random_folder, "--data", data, "--steps", 1, "--batch", 1),
        *("--out", out, "--full", "--json"),
    )
    assert (done.exit_code, done.stderr) == (0, "")
    end = json.loads(done.stdout.splitlines()[-1])
    assert (end["adapter"], end["checkpoint"]) == (None, str(out))
    told = run("info", out, "--json")
    assert told.exit_code == 0, told.stderr


# --- a plan


def test_a_plan_trains_nothing(
    run: Any, random_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("finetune", "--model", random_folder, "--plan", "--batch", 2, "--grad-accum", 3)
    done = run(*arguments, "--data", data, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    plan = json.loads(done.stdout)
    assert (plan["batch"], plan["accumulate"], plan["length"]) == (2, 3, 9)
    assert plan["needed_bytes"] == sum(plan["parts"].values()) + max(plan["largest_of"].values())
    told = run(*arguments)
    assert told.exit_code == 0
    assert_says(told.stdout.splitlines()[0], "3 batches of 2 examples of 1,024 tokens, 1 canvas")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data"]
    assert_one_line(run(*arguments, "--targets", "none"), 2, "--targets has 'none'")


def test_what_cannot_fit_is_not_begun(
    run: Any, short: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_diffgemma.finetune.plan.available_memory", lambda: 1000)
    out = tmp_path / "out"
    facts = "1.0 kB ... --grad-checkpoint ... --batch ... --max-length ... --force"
    assert_one_line(run("finetune", *short, out), 1, facts)
    assert not out.exists()
    assert run("finetune", *short, out, "--force").exit_code == 0


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        (["--steps", 0], 2, "--steps is 0"),
        (["--batch", 0], 2, "--batch is 0"),
        (["--canvases", 0], 2, "--canvases is 0"),
        (["--grad-accum", 0], 2, "--grad-accum is 0"),
        (["--lr", "-1"], 2, "--lr is -1.0"),
        (["--warmup", 9], 2, "--warmup is 9 ... 0 to 3"),
        (["--save-every", 0], 2, "--save-every is 0"),
        (["--lora-rank", 0], 2, "--lora-rank is 0"),
        (["--lora-dropout", 1], 2, "--lora-dropout is 1.0"),
        (["--lora-scale", 0], 2, "--lora-scale is 0.0"),
        (["--targets", "q_prof"], 2, "--targets has 'q_prof'"),
        (["--full", "--lora-rank", 8], 2, "--lora-rank ... --full"),
        (["--resume", "--overwrite"], 2, "--resume ... --overwrite"),
        (["--mix", "other.jsonl"], 2, "--mix is 'other.jsonl' ... FILE:SHARE"),
        (["--max-length", 4], 2, "--max-length is 4"),
        (["--data", "nowhere.jsonl"], 1, "nowhere.jsonl ... JSON lines"),
        (["--model", "nowhere"], 1, "nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_a_step(
    run: Any, short: list[object], tmp_path: Path, arguments: list[object], code: int, facts: str
) -> None:
    done = run("finetune", *short, tmp_path / "out", *arguments)
    assert_one_line(done, code, facts)
    assert not (tmp_path / "out").exists()


def test_data_has_no_default(run: Any) -> None:
    assert_one_line(run("finetune"), 2, "--data ... train.jsonl")


# --- processes of their own


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mlx_diffgemma", "finetune", *map(str, arguments)]


def started(*arguments: object, **env: str) -> subprocess.Popen[str]:
    single = {"OPENBLAS_NUM_THREADS": "1", **env}
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": -1, "stderr": -1}
    return subprocess.Popen(
        command(*arguments), cwd=ROOT, env={**os.environ, **single}, text=True, **streams
    )


def losses(out: Path) -> list[tuple[int, float]]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines]


@pytest.mark.slow
def test_a_terminal_shows_a_bar_in_one_line(short: list[object], tmp_path: Path) -> None:
    more = ("--steps", 9000, "--save-every", 9000)
    with Tty(*PROGRAM, "finetune", *short, tmp_path / "out", *more) as tty:
        tty.until(lambda tty: re.search(r"/9000 \d:\d\d:\d\d", tty.text()) is not None)
        shown = [line for line in tty.text().splitlines() if line.strip()]
        tty.process.send_signal(signal.SIGINT)
        tty.until("--resume")
        tty.wait()
    (line,) = shown
    pattern = r"loss \d+\.\d\d \(\d+\.\d\d \+ \d+\.\d\d\) [\d,]+ tokens/s [\d.]+ MB .* \d+/9000 "
    assert re.match(pattern, line)
    assert "/9000" not in tty.text()  # the bar is gone


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_last_step(
    short: list[object], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    with started(*short, out, "--steps", 50_000, "--json") as process:
        assert process.stdout
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(number)
        printed, said = process.communicate(timeout=SECONDS)
    end = json.loads(printed.splitlines()[-1])
    assert (process.returncode, end["finished"]) == (code, False)
    assert_says(said.strip(), f"interrupted ... step {end['steps']} is kept ... --resume")
    assert (out / f"states/{end['steps']:06}").is_dir()
    assert (out / "adapters.safetensors").exists()


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_is_the_undisturbed_one(
    short: list[object], tmp_path: Path
) -> None:
    """kill -9 at random moments: of loading, of a step, of a save."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = ("--steps", 40, "--save-every", 2, "--lora-dropout", 0.1, "--lr", 1e-2)
    with started(*short, whole, *options) as process:
        assert process.wait(timeout=SECONDS) == 0
    moments, kills = random.Random(0), 0
    while kills < 10:  # or fewer, where a busy machine lets them come late
        with started(*short, cut, *options, "--resume", "--json") as process:
            if kills % 3:  # else while it starts
                assert process.stdout
                process.stdout.readline()
            time.sleep(moments.uniform(0, 0.6))
            process.kill()
        kills += 1
        if (cut / "metrics.jsonl").exists() and len(losses(cut)) > 34:
            break
    with started(*short, cut, *options, "--resume") as process:
        assert process.wait(timeout=SECONDS) == 0
    assert kills > 1
    assert losses(cut) == losses(whole)
    name = "states/000040/training.safetensors"
    assert (cut / name).read_bytes() == (whole / name).read_bytes()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[str]:
    """A file that has two processes on this machine find each other, as mlx.launch writes it."""
    with ring_file(tmp_path, 2) as file:
        yield str(file)


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(
    short: list[object], tmp_path: Path, hosts: str
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    options = ("--steps", 10, "--lr", 1e-2, "--canvases", 2, "--grad-accum", 2)
    with started(*short, one, *options, "--batch", 4) as process:
        assert process.wait(timeout=SECONDS) == 0
    both = [started(*short, two, *options, MLX_RANK=rank, MLX_HOSTFILE=hosts) for rank in "01"]
    ended = [process.communicate(timeout=SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert ended[1] == ("", "")
    expected, found = losses(one), losses(two)
    assert [step for step, _ in found] == list(range(1, 11))
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_other(
    short: list[object], tmp_path: Path, hosts: str, victim: int
) -> None:
    out = tmp_path / "out"
    options = ("--steps", 50_000, "--json")
    both = [started(*short, out, *options, MLX_RANK=rank, MLX_HOSTFILE=hosts) for rank in "01"]
    try:
        assert both[0].stdout
        both[0].stdout.readline()
        both[victim].kill()
        _, said = both[1 - victim].communicate(timeout=SECONDS)
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert both[1 - victim].returncode == 1
    assert_says(said.strip().splitlines()[-1], "process ... lost another one ... --resume")
