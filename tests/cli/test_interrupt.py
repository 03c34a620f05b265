"""Ctrl-C and SIGTERM: what is finished is printed, and nothing else is lost or added."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from puzzle import SOLUTION, SOLVE
from waiting import SECONDS

# Runs the command line with a model that, once it has come to `canvas` and `step`, says so on
# standard error and never gets over it.
SLOW = """
import sys, time
import mlx_diffgemma.conversation.turn as turn
canvas, step, fast = int(sys.argv[1]), int(sys.argv[2]), turn.generate

def slow(*arguments, **options):
    for frame in fast(*arguments, **options):
        if (frame.canvas, frame.step) == (canvas, step) and not frame.committed:
            print("SLOW", file=sys.stderr, flush=True)
            while True:  # a signal right before a sleep is seen when the sleep is over
                time.sleep(0.01)
        yield frame

turn.generate = slow
sys.argv = ["mlx-diffgemma", *sys.argv[3:]]
from mlx_diffgemma.cli.app import main
main()
"""
LOADING = """
import sys, time
from mlx_diffgemma.conversation import loading

def load(*arguments, **options):
    print("SLOW", file=sys.stderr, flush=True)
    while True:
        time.sleep(0.01)

loading.load_source = load
from mlx_diffgemma.cli.app import main
main()
"""


def stopped(
    code: str, *arguments: object, sent: signal.Signals = signal.SIGINT, asked: str = ""
) -> tuple[int, str, list[str]]:
    """Exit code, standard output and lines on standard error of a process stopped when slow."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(asked)
        process.stdin.flush()
        assert process.stderr.readline() == "SLOW\n"
        process.send_signal(sent)
        out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err.splitlines()


@pytest.fixture
def long_answer(random_folder: Path) -> list[object]:
    return ["generate", "Hi", "--model", random_folder, "--max-tokens", 40, "--seed", 3]


@pytest.fixture
def first_canvas(run: Any, long_answer: list[object]) -> str:
    text = json.loads(run(*long_answer, "--max-tokens", 8, "--json").stdout)["text"]
    assert text.strip()
    return str(text)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_finished_canvases_are_printed(
    long_answer: list[object], first_canvas: str, sent: signal.Signals, code: int
) -> None:
    got, out, err = stopped(SLOW, 1, 1, *long_answer, sent=sent)
    assert (got, out, err[-1]) == (code, first_canvas + "\n", "interrupted: 1 canvas finished.")


def test_json_holds_finished_canvases(
    long_answer: list[object], first_canvas: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    code, out, err = stopped(SLOW, 1, 1, *long_answer, "--json", "--trace", trace)
    reply = json.loads(out)
    assert (code, err) == (130, ["interrupted: 1 canvas finished."])
    assert (reply["text"], reply["finish_reason"]) == (first_canvas, "interrupted")
    assert (reply["canvases"], reply["generated_tokens"]) == (1, 8)
    last = json.loads(trace.read_text().splitlines()[-1])
    assert (last["type"], last["canvas"], last["step"]) == ("step", 1, 0)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory"),
        MemoryError(),
        OSError(5, "Input/output error"),
    ],
)
def test_what_was_finished_before_an_error_is_printed(
    run: Any, random_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import mlx_diffgemma.conversation.turn as turn

    usual = turn.generate

    def broken(*arguments: Any, **options: Any) -> Any:
        for frame in usual(*arguments, **options):
            if frame.canvas == 1:
                raise error
            yield frame

    command = ("generate", "Hi", "--model", random_folder, "--seed", 3, "--json")
    whole = json.loads(run(*command, "--max-tokens", 8).stdout)
    monkeypatch.setattr(turn, "generate", broken)
    done = run(*command, "--max-tokens", 16)
    assert done.exit_code == 1
    assert json.loads(done.stdout)["text"] == whole["text"]
    assert done.stderr.startswith("error: ")


def test_before_the_first_step_there_is_nothing(long_answer: list[object]) -> None:
    line = ["interrupted: no canvases finished."]
    assert stopped(SLOW, 0, 0, *long_answer) == (130, "", line)
    code, out, err = stopped(SLOW, 0, 1, *long_answer, "--json")
    reply = json.loads(out)
    assert (code, reply["text"], reply["finish_reason"], err) == (130, "", "interrupted", line)
    assert (reply["steps"], reply["token_ids"]) == ([], [])


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_the_canvas_in_work_is_left_as_a_draft(sent: signal.Signals, code: int) -> None:
    """A solved grid that was in view was thrown away: "no canvases finished"."""
    got, out, err = stopped(SLOW, 0, 3, *SOLVE, sent=sent)
    assert (got, out) == (code, "")
    label, *draft, last = err
    assert_says(label, "draft, canvas 1 after step 3 of 48")
    assert "".join(f"{row}\n" for row in draft) == SOLUTION
    assert last == "interrupted: no canvases finished."


def test_a_draft_that_is_kept_goes_to_standard_output() -> None:
    code, out, err = stopped(SLOW, 0, 3, *SOLVE, "--keep-draft")
    assert (code, out) == (130, SOLUTION)
    assert_says(err[0], "draft: canvas 1 after step 3 of 48")
    assert err[1:] == ["interrupted: no canvases finished."]


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_every_token_of_mode_ar_is_kept(
    run: Any, long_answer: list[object], sent: signal.Signals, code: int
) -> None:
    """It is final when it is shown: with --keep-draft and without."""
    options = ("--keep-draft",) if sent == signal.SIGTERM else ()
    whole = run(*long_answer, "--mode", "ar", "--max-tokens", 10).stdout
    got, out, err = stopped(SLOW, 1, 2, *long_answer, "--mode", "ar", *options, sent=sent)
    assert (got, out, err) == (code, whole, ["interrupted: 10 tokens kept."])


def test_json_holds_every_token_of_mode_ar(long_answer: list[object], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    given = (*long_answer, "--mode", "ar", "--json", "--trace", trace)
    code, out, err = stopped(SLOW, 0, 3, *given)
    reply = json.loads(out)
    assert (code, err, reply["finish_reason"]) == (
        130,
        ["interrupted: 3 tokens kept."],
        "interrupted",
    )
    tokens = [json.loads(line).get("token") for line in trace.read_text().splitlines()]
    assert (reply["generated_tokens"], reply["token_ids"]) == (3, tokens[2:])
    assert [segment["tokens"] for segment in reply["segments"]] == [3]


def test_before_the_first_token_there_is_nothing(long_answer: list[object]) -> None:
    line = ["interrupted: no tokens kept."]
    assert stopped(SLOW, 0, 0, *long_answer, "--mode", "ar") == (130, "", line)


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_loading_can_be_interrupted(
    long_answer: list[object], tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    trace = tmp_path / "trace"
    got = stopped(LOADING, *long_answer, "--trace", trace, sent=sent)
    assert got == (code, "", ["interrupted."])
    assert not trace.exists()


@pytest.mark.parametrize(
    ("sent", "code", "more"), [(signal.SIGINT, 130, []), (signal.SIGTERM, 143, ["interrupted."])]
)
def test_a_chat_through_a_pipe_ends(
    long_answer: list[object],
    first_canvas: str,
    sent: signal.Signals,
    code: int,
    more: list[str],
) -> None:
    """Nobody sits there who could ask on."""
    _, question, *options = long_answer
    got, out, err = stopped(
        SLOW, 1, 1, "chat", *options, sent=sent, asked=f"{question}\nAnd then?\n"
    )
    assert (got, out) == (code, first_canvas + "\n")
    assert err[-1 - len(more) :] == ["interrupted: 1 canvas finished.", *more]


def test_canvases_are_printed_when_they_are_finished(
    long_answer: list[object], first_canvas: str
) -> None:
    command = [sys.executable, "-c", SLOW, "1", "0", *map(str, long_answer)]
    with subprocess.Popen(command, stdin=-3, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert process.stdout.read(len(first_canvas.encode())) == first_canvas.encode()
        assert process.poll() is None
        process.kill()


def test_tokens_are_printed_when_they_are_written(run: Any, long_answer: list[object]) -> None:
    """Over a pipe, too; a character here is a token."""
    given = (*long_answer, "--mode", "ar")
    first = run(*given, "--max-tokens", 3).stdout[:3].encode()
    command = [sys.executable, "-c", SLOW, "0", "3", *map(str, given)]
    with subprocess.Popen(command, stdin=-3, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == first
        assert process.poll() is None
        process.kill()


def test_a_reader_that_has_seen_enough_ends_mode_ar(long_answer: list[object]) -> None:
    """As `| head -c 1` does."""
    command = [sys.executable, "-m", "mlx_diffgemma", *map(str, long_answer), "--mode", "ar"]
    with subprocess.Popen(
        [*command, "--max-tokens", "400"], stdin=-3, stdout=-1, stderr=-1
    ) as process:
        assert process.stdout is not None
        assert len(process.stdout.read(1)) == 1
        process.stdout.close()
        assert process.wait(SECONDS) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
