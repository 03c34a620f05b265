"""`profile --tune`, and what generate and chat make of it."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from puzzle import PUZZLE, SOLVE, assert_one_line

from mlx_diffgemma.cli.profile.tune import lines
from mlx_diffgemma.cli.terminal import output
from mlx_diffgemma.machine import tuning
from mlx_diffgemma.machine.choices import Choices, ModeTimes
from mlx_diffgemma.profile import tune as tuning_run
from mlx_diffgemma.profile.tune import Row, Tuned

FOUND = Choices(prefill_chunk=64, head_chunk_logits=128 * 16)
CHOSEN = {"prefill_chunk": 64, "head_chunk_logits": 2048, "dense_weights": "packed"}
TUNE = ("profile", "--tune", "--model", "tiny-sudoku")


def config_file() -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"]) / "mlx-diffgemma" / "tune.json"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A tuning that is over at once, and what it was asked."""
    asked: list[dict[str, Any]] = []

    def tune(session: Any, **options: Any) -> Tuned:
        asked.append(options)
        row = Row("prefill_chunk", 64, "faster", "", 500.0, 0.01, 0.5)
        absent = Row("dtype", "float16", "absent", "why")
        return Tuned((row, absent), FOUND, True, None, None)

    monkeypatch.setattr(tuning_run, "tune", tune)
    return asked


@pytest.mark.usefixtures("found")
def test_the_winner_is_shown_kept_and_used(run: Any) -> None:
    plain = json.loads(run(*SOLVE, "--seed", 3, "--json").stdout)
    assert plain["tuned"] is None
    done = run(*TUNE)
    assert done.exit_code == 0
    assert "prefill_chunk                     64        500     1.0%   0.500  faster" in done.stdout
    assert "absent: why" in done.stdout
    assert "kept: prefill_chunk 64, head_chunk_logits 2048" in done.stdout
    assert "--tune-dtype keeps it" in done.stdout
    assert str(config_file()) in done.stdout
    tuned = json.loads(run(*SOLVE, "--seed", 3, "--json").stdout)
    assert tuned["tuned"].items() >= CHOSEN.items()
    for key in ("text", "token_ids", "steps"):
        assert tuned[key] == plain[key], key
    untuned = json.loads(run(*SOLVE, "--seed", 3, "--json", "--no-tune").stdout)
    assert untuned["tuned"] is None


@pytest.mark.usefixtures("found")
def test_entries_that_cannot_be_read_are_told_where_they_can_be_mended(run: Any) -> None:
    """Bug: one of them disabled all, and was warned about at every start."""
    file = config_file()
    file.parent.mkdir()
    file.write_text(json.dumps({"schema": 1, "tuned": {"a place": {"extra": 1}, "another": []}}))
    assert run(*SOLVE).stderr == ""
    done = run(*TUNE)
    assert done.exit_code == 0
    assert_says(done.stderr[:-1], "warning:", file, "not used ... 2, the first a place: ... extra")
    assert json.loads(file.read_text())["tuned"].keys() >= {"a place", "another"}
    assert run(*SOLVE).stderr == ""


@pytest.mark.usefixtures("found")
def test_the_winner_is_kept_though_nobody_reads_the_table(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(output, "write_out", gone)
    assert run(*TUNE).exit_code == 141
    assert "prefill_chunk" in config_file().read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("found")
def test_chat_uses_it_too(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlx_diffgemma.conversation import loading

    seen: list[Choices | None] = []
    plain = loading.load_source

    def load(*arguments: Any, **options: Any) -> Any:
        seen.append(options["choices"])
        return plain(*arguments, **options)

    assert run(*TUNE).exit_code == 0
    monkeypatch.setattr(loading, "load_source", load)
    chat = ("chat", "--model", "tiny-sudoku", "--max-tokens", 90, "--steps", 2)
    for options, expected in (([], FOUND), (["--no-tune"], None)):
        run(*chat, *options, input=f"{PUZZLE}\n")  # two steps solve nothing
        assert seen.pop() == expected
    assert run("profile", "--model", "tiny-sudoku", "--steps", 1).exit_code == 0
    assert seen == [None]  # a profile measures the engine's own choices


@pytest.mark.usefixtures("found")
def test_another_model_or_dtype_or_machine_does_not_use_it(
    run: Any, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*TUNE).exit_code == 0
    other = ("generate", "Hi", "--model", random_folder, "--max-tokens", 1, "--json")
    assert json.loads(run(*other).stdout)["tuned"] is None
    short = (*SOLVE, "--steps", 1, "--json")
    assert json.loads(run(*short, "--dtype", "bfloat16").stdout)["tuned"] is None
    assert json.loads(run(*short).stdout)["tuned"] is not None
    monkeypatch.setattr(
        "mlx_diffgemma.conversation.loading.this_identity", lambda: "another machine"
    )
    assert json.loads(run(*short).stdout)["tuned"] is None


def test_a_dtype_that_is_asked_for_is_not_the_tuned_one(run: Any) -> None:
    from small import SUDOKU

    from mlx_diffgemma.conversation.loading import place_of

    place = place_of(SUDOKU, None, None)
    tuning.store(config_file(), place, Choices(dtype="float16", prefill_chunk=64))
    short = (*SOLVE, "--steps", 1, "--json")
    assert json.loads(run(*short).stdout)["tuned"]["dtype"] == "float16"
    asked = json.loads(run(*short, "--dtype", "float32").stdout)["tuned"]
    assert (asked["dtype"], asked["prefill_chunk"]) == (None, 64)


def test_a_broken_file_is_said_and_left_out(run: Any) -> None:
    config_file().parent.mkdir()
    config_file().write_text("{")
    done = run(*SOLVE, "--steps", 1, "--json")
    assert json.loads(done.stdout)["tuned"] is None
    line, *rest = done.stderr.splitlines()
    assert line.startswith(f"warning: {config_file()} is not JSON")
    assert run(*SOLVE, "--steps", 1, "--no-tune", "--json").stderr.splitlines() == rest
    assert_one_line(run(*TUNE), 1, "is not JSON", "remove it")


def test_a_file_that_cannot_be_written_is_found_before_anything_is_loaded(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mlx_diffgemma.conversation.loading.load_source", lambda *_, **__: pytest.fail("loaded")
    )
    config_file().parent.write_text("a file where the folder should be")
    assert_one_line(run(*TUNE), 1, "cannot be written")


@pytest.mark.usefixtures("found")
def test_an_interrupt_writes_nothing(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning_run, "tune", interrupt)
    assert run(*TUNE).exit_code == 130
    assert not config_file().exists()


def test_options_reach_the_tuning(run: Any, found: list[dict[str, Any]]) -> None:
    assert run(*TUNE, "--tune-dtype", "--force", "--dtype", "float32").exit_code == 0
    (asked,) = found
    assert (asked["tune_dtype"], asked["force"], asked["dtype_given"]) == (True, True, True)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--tune", "--steps", "4"], "--steps and --tune measure apart"),
        (["--tune", "--gentle"], "--gentle and --tune measure apart"),
        (["--tune", "--json", "x"], "--json and --tune"),
        (["--tune", "--components"], "--components and --tune"),
        (["--tune-dtype"], "--tune-dtype goes with --tune"),
        (["--tune", "compare", "a", "b"], "--tune before compare means nothing"),
    ],
)
def test_what_does_not_go_together_is_one_line(run: Any, options: list[str], part: str) -> None:
    assert_one_line(run("profile", *options), 2, part)


@pytest.mark.slow
def test_in_earnest_it_ends_well(run: Any) -> None:
    done = run(*TUNE)
    assert done.exit_code == 0
    assert "no Metal device" in done.stdout or "experts_kernels" in done.stdout
    assert "dtype" in done.stdout


# --- times of both modes

TIMES = ModeTimes(60.0, 15.0, 40.0, ((1, 15.0), (8, 30.0)))


def test_times_are_kept_where_nothing_else_is(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = Tuned((), Choices(), False, TIMES, 15.0)
    monkeypatch.setattr(tuning_run, "tune", lambda session, **_: tuned)
    done = run(*TUNE)
    assert done.exit_code == 0
    for part in ("a step 60 ms, a token of mode ar 15 ms, a commit 40 ms", "1: 15 ms, 8: 30 ms"):
        assert part in done.stdout
    assert "kept: the times of both modes" in done.stdout
    (entry,) = json.loads(config_file().read_text())["tuned"].values()
    assert ModeTimes.from_json(entry["times"]) == TIMES


def test_what_makes_tokens_slower_is_told() -> None:
    slower = Tuned((), Choices(dense_weights="16-bit"), False, TIMES, 9.0)
    (line,) = [line for line in lines(slower, Path("x")) if line.startswith("warning")]
    assert_says(line, "15 ms, untuned 9 ms ... --no-tune")
    as_fast = replace(slower, untuned_token_ms=14.9)
    assert not any(line.startswith("warning") for line in lines(as_fast, Path("x")))
