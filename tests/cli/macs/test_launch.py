"""Several processes, one answer, through the real command line and mlx.launch on loopback."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from forks import polite
from loopback import Ranks, children, command, hostfile
from puzzle import PUZZLE, SOLUTION, SOLVE
from waiting import SECONDS, wait_for

from mlx_diffgemma.cli.macs.launcher import LAUNCHER, PATIENCE

SUDOKU = ("--model", "tiny-sudoku", "--seed", "1")
STORY = ("generate", "Tell a story about bread.", "--model", "tiny-chat", "--max-tokens", "1024")
MANY_STEPS = ("--steps", "48", "--stability", "47", "--trace", "-")


def one_line(said: str, *facts: str) -> None:
    """A rank's only line has these facts; what the system's libraries add is left out."""
    assert said.count("\n") == 0, said
    for fact in facts:
        assert fact in said, said


def test_two_solve_a_puzzle_by_rows(spawn: Any, hosts: Path) -> None:
    """From anywhere: neither mlx.launch nor python has to be in the PATH."""
    done = spawn(*SOLVE, "--macs", hosts, "--json", env={"PATH": "/usr/bin:/bin"}, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, b"")
    reply = json.loads(done.stdout)
    assert reply["text"] == SOLUTION.strip()
    assert reply["share"] == {"mode": "rows", "size": 2}


@pytest.mark.slow
@pytest.mark.parametrize(("share", "count"), [("rows", 3), ("layers", 2), ("tensor", 2)])
def test_an_answer_is_that_of_one_process(
    run: Any, spawn: Any, tmp_path: Path, share: str, count: int
) -> None:
    given = ("generate", PUZZLE, *SUDOKU, "--json")
    alone = json.loads(run(*given).stdout)
    hosts = hostfile(tmp_path, count)
    argv = (*given, "--macs", hosts, "--share", share)
    done = spawn(*argv, env=polite(), timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, b"")
    together = json.loads(done.stdout)
    assert (alone["share"], together["share"]) == (None, {"mode": share, "size": count})
    for key in ("text", "token_ids", "steps", "finish_reason", "sampler"):
        assert together[key] == alone[key], key


@pytest.mark.slow
def test_tokens_one_by_one_are_shared_by_layers(run: Any, spawn: Any, hosts: Path) -> None:
    given = ("generate", "Spell bread.", "--model", "tiny-chat", "--mode", "ar", "--seed", "3")
    alone = json.loads(run(*given, "--json").stdout)
    done = spawn(*given, "--macs", hosts, "--json", timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, b"")
    together = json.loads(done.stdout)
    assert together["token_ids"] == alone["token_ids"]
    assert together["share"] == {"mode": "layers", "size": 2}


@pytest.mark.slow
def test_a_form_holds_for_several(run: Any, spawn: Any, hosts: Path) -> None:
    given = ("generate", "Is 12 bigger than 5?", "--model", "tiny-chat", "--choices", "Yes.,No.")
    alone = json.loads(run(*given, "--seed", "3", "--json").stdout)
    done = spawn(*given, "--seed", "3", "--macs", hosts, "--json", timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["token_ids"] == alone["token_ids"]


@pytest.mark.slow
def test_a_template_is_filled_together(run: Any, spawn: Any, hosts: Path) -> None:
    given = ("fill", "17 + 25 = [[4]].", "--model", "tiny-chat", "--seed", "3")
    argv = (*given, "--macs", hosts, "--share", "layers")
    done = spawn(*argv, env=polite(), timeout=SECONDS)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, run(*given).stdout, b"")


@pytest.mark.slow
def test_a_prompt_in_a_file_is_read_by_rank_0(spawn: Any, tmp_path: Path, hosts: Path) -> None:
    """A file that is absent is its error alone."""
    file = tmp_path / "puzzle.txt"
    file.write_text(PUZZLE)
    given = ("generate", *SUDOKU, "--macs", hosts, "--prompt-file")
    done = spawn(*given, file, timeout=SECONDS)
    assert (done.returncode, done.stdout.decode()) == (0, SOLUTION)
    done = spawn(*given, tmp_path / "absent", timeout=SECONDS)
    assert (done.returncode, done.stdout) == (1, b"")
    one_line(done.stderr.decode().strip(), "error: the prompt cannot be read", "absent")


@pytest.mark.slow
def test_the_hostfile_is_not_written_over(spawn: Any, hosts: Path) -> None:
    before = hosts.read_text()
    given = ("--macs", hosts, "--trace", hosts, "--overwrite")
    done = spawn(*SOLVE, *given, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (2, b"")
    one_line(done.stderr.decode().strip(), "--macs", "--trace", "hosts.json")
    assert hosts.read_text() == before


@pytest.mark.slow
def test_the_exit_code_is_rank_0s(spawn: Any, hosts: Path) -> None:
    """mlx.launch's own is always 0."""
    done = spawn("generate", "x", *SUDOKU, "--macs", hosts, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith("error: ")
    done = spawn(*SOLVE, "--macs", hosts, "--t-min", "2", timeout=SECONDS)
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.slow
def test_a_fresh_seed_is_one_for_all(run: Any, spawn: Any, hosts: Path) -> None:
    given = ("generate", "Name a colour.", "--model", "tiny-chat", "--json")
    done = spawn(*given, "--macs", hosts, env=polite(), timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, b"")
    alone = run(*given, "--seed", json.loads(done.stdout)["seed"])
    assert json.loads(alone.stdout)["text"] == json.loads(done.stdout)["text"]


@pytest.mark.slow
def test_too_many_for_the_layers(ranks: Ranks) -> None:
    ranks.start(*[[*SOLVE, "--share", "layers"]] * 7)
    code, out, said = ranks.ended(0)
    assert (code, out) == (2, "")
    one_line(said, "7 Macs", "6 layers")
    assert all(ranks.ended(rank) == (0, "", "") for rank in range(1, 7))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_of_them(hosts: Path, number: signal.Signals, code: int) -> None:
    """In the midst of several canvases: one may be over before a busy machine passes it on."""
    process = command(*STORY, "--seed", "1", "--macs", str(hosts), *MANY_STEPS)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # a step was computed: all of them are there
        (launcher,) = children(process.pid)
        started = children(launcher)
        assert len(started) >= 2
        process.send_signal(number)
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == code
        assert "interrupted" in said
        assert "Traceback" not in said
        wait_for(lambda: not children(launcher))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("share", ["rows", "layers"])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_rank_ends_the_other(ranks: Ranks, share: str, lost: int) -> None:
    argv = [*SOLVE, "--share", share, *MANY_STEPS]
    ranks.start(argv, argv, wait=60)
    assert json.loads(ranks.first_line())["type"] == "header"
    ranks.processes[lost].kill()
    code, out, said = ranks.ended(1 - lost)
    assert code == 5
    one_line(said, f"rank {lost}")
    assert '"commit"' not in out


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_rank_ends_the_other(ranks: Ranks, stopped: int) -> None:
    argv = [*SOLVE, "--share", "rows", *MANY_STEPS]
    ranks.start(argv, argv, wait=15)
    assert json.loads(ranks.first_line())["type"] == "header"
    ranks.processes[stopped].send_signal(signal.SIGSTOP)
    code, _, said = ranks.ended(1 - stopped)
    assert code == 5
    one_line(said, f"rank {stopped}", "15 s")


@pytest.mark.slow
def test_a_rank_that_never_comes_ends_the_first(ranks: Ranks) -> None:
    ranks.start([*SOLVE, "--share", "rows"], wait=3, absent=1)
    code, out, said = ranks.ended(0)
    assert (code, out) == (5, "")
    one_line(said, "rank 1", "3 s")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "fact"),
    [
        (["--seed", "2"], "--seed"),
        (["--steps", "7"], "the settings"),
        (["--model", "tiny-chat"], "config.json"),
        (["--dtype", "bfloat16"], "the dtype"),
        (["--system", "Be brief."], "options"),
        (["--adapter", "/absent"], "/absent"),
    ],
)
def test_what_differs_is_named(ranks: Ranks, other: list[str], fact: str) -> None:
    """By rank 0, which mlx.launch would end before it has said so if rank 1 left another code."""
    argv = [*SOLVE, "--share", "rows"]
    ranks.start(argv, [*argv, *other])
    code, out, said = ranks.ended(0)
    assert (code, out) == (1, "")
    one_line(said, "error: rank 1 (127.0.0.1)", fact)
    assert ranks.ended(1) == (0, "", "")


@pytest.mark.slow
def test_only_rank_0_prints(ranks: Ranks, tmp_path: Path) -> None:
    """Nor does another one write a file: on loopback it would be the same."""
    argv = [*SOLVE, "--share", "layers", "--trace", str(tmp_path / "steps.jsonl")]
    ranks.start(argv, argv)
    assert ranks.ended(0) == (0, SOLUTION, "")
    assert ranks.ended(1) == (0, "", "")
    assert (tmp_path / "steps.jsonl").read_text().startswith('{"type": "header"')


def launched(program: str) -> "subprocess.Popen[str]":
    """mlx.launch, mended, with one process that runs a program; in a session of its own.

    It kills who has been asked to end after half a second.
    """
    script = LAUNCHER.replace(f"PATIENCE = {PATIENCE}", "PATIENCE = 0.5")
    return subprocess.Popen(
        [sys.executable, "-c", script, "-n", "1", "--", sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
STOPPED = "import os; os.kill(os.getpid(), signal.SIGSTOP);"


@pytest.mark.parametrize("begins", ["", DEAF, STOPPED], ids=["ready", "deaf", "stopped"])
def test_ranks_end_with_who_has_started_them(begins: str) -> None:
    """A closed window, or a kill, runs no handler: all that is left is the end of a pipe."""
    program = f"import signal, time; print('here', flush=True); {begins} time.sleep(600)"
    waiting = launched(program)
    assert waiting.stdin is not None
    assert waiting.stdout is not None
    try:
        assert waiting.stdout.readline() == "here\n"
        assert len(children(waiting.pid)) == 2
        waiting.stdin.close()
        waiting.wait(SECONDS)
        wait_for(lambda: not children(waiting.pid))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(waiting.pid, signal.SIGKILL)
        waiting.wait(SECONDS)
        waiting.stdout.close()


def test_no_character_is_lost_on_its_way_through_the_launcher(tmp_path: Path) -> None:
    """It reads 8,192 bytes at a time; characters of two and three bytes lie across two pieces."""
    said = "x" + "ä" * 9000 + "€" * 9000
    program = f"import sys; sys.stdout.buffer.write({said!r}.encode())"
    waiting = launched(program)
    assert waiting.stdout is not None
    try:
        assert waiting.stdout.read() == said
    finally:
        waiting.kill()
        waiting.communicate()


@pytest.mark.slow
def test_a_link_is_measured(spawn: Any, hosts: Path) -> None:
    done = spawn("selftest", "--link", "--macs", hosts, "--json", timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["backend"], found["equal_bits"], len(found["macs"])) == ("ring", True, 2)
    assert [each["bytes"] for each in found["sums"]][::5] == [4, 16_777_216]
    assert all(each["median_us"] > 0 for each in found["sums"])
    assert found["step"]["source"] == "arithmetic"
    assert found["step"]["rows"]["link_ms"] > 0
    said = done.stderr.decode().splitlines()
    assert said == [f"warning: {warning}." for warning in found["warnings"]]
