"""The live view under a real terminal: what shows, what stays, and that it is given back."""

import fcntl
import os
import random
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paced import go_on, paced, paced_job, paused
from pseudo_terminal import GRID_TOP, PROGRAM, Tty, ended_by_signals
from puzzle import PUZZLE, SOLUTION, SOLVE
from waiting import SECONDS

import mlx_diffgemma as dg
from mlx_diffgemma.cli.terminal.keys import typed_ahead
from mlx_diffgemma.cli.terminal.screen import encoded

COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])[0-9;]*m")
NO_END = ("--steps", 4000, "--confidence", 1e-30)
ENDLESS = ("generate", "." * 81, "--model", "tiny-sudoku", *NO_END)

STORY = ("generate", "Tell me a story about a bear", "--model", "tiny-chat", "--seed", 1)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "steps"


def text_of(run: Any, *command: object) -> str:
    """The answer as it is without a terminal."""
    return str(run(*command).stdout)


def test_the_view_goes_and_the_text_stays() -> None:
    with Tty(*PROGRAM, *SOLVE) as tty:
        tty.until(lambda tty: tty.alternate and "canvas 1  step  1 of 48" in tty.text())
        assert tty.text().splitlines()[0] == GRID_TOP
        assert tty.text().splitlines()[1] == "│ 5 3 4 │ 6 7 8 │ 9 1 4 │"
        assert tty.wait() == 0
        tty.assert_given_back()
        *grid, summary = tty.scrollback().splitlines()
    assert "\n".join(grid) + "\n" == SOLUTION
    assert summary.startswith("90 tokens in ")
    assert summary.endswith("4 steps, seed 1")


def test_the_first_frame_shows_before_the_second_step_begins(log: Path) -> None:
    with paused(log, *SOLVE, "--steps", 3) as tty:
        tty.until(lambda tty: tty.alternate and "step 1 of 3" in tty.text())
        assert log.read_text() == "0 0\n"
        assert "step 2 of 3" not in tty.text()


def seed_of_a_printable_answer(folder: Path) -> int:
    """The first seed with which random weights say nothing that a terminal shows otherwise."""
    session = dg.load(folder)
    for seed in range(50):
        session.reset()
        settings = dg.Settings(max_tokens=16, seed=seed)
        if session.ask("Hi", settings=settings).text.isprintable():
            return seed
    raise AssertionError("no seed below 50")


@pytest.mark.slow
def test_text_is_drawn_canvas_by_canvas(run: Any, random_folder: Path, log: Path) -> None:
    seed = seed_of_a_printable_answer(random_folder)
    command = ("generate", "Hi", "--model", random_folder, "--max-tokens", 16, "--seed", seed)
    expected = text_of(run, *command)
    with paced(0.2, log, *command) as tty:
        tty.until(lambda tty: tty.alternate and "canvas 2  step" in tty.text())
        first = tty.text()
        assert tty.wait() == 0
        tty.assert_given_back()
        shown = tty.scrollback()
    assert first.splitlines()[-1].startswith("canvas 2  step ")  # which, the load decides
    assert first[:4] == expected[:4]
    assert shown.split("\ncut at 16 tokens")[0].rstrip() == expected.rstrip()


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "rows"), [(40, 24), (20, 24), (1, 1)])
def test_small_windows(columns: int, rows: int, log: Path) -> None:
    with paced(0.1, log, *SOLVE, columns=columns, rows=rows) as tty:
        tty.until(lambda tty: tty.alternate and tty.text() != "")
        if columns == 20 and rows == 24:
            assert tty.text().splitlines()[0] == "534678914"
        if columns == 40:
            assert tty.text().splitlines()[0] == GRID_TOP
        assert tty.wait() == 0
        tty.assert_given_back()


@pytest.mark.slow
def test_the_environment_may_make_the_window_smaller(log: Path) -> None:
    with paced(0.1, log, *SOLVE, env={"COLUMNS": "20", "LINES": "4"}) as tty:
        tty.until(lambda tty: tty.alternate and " of 48" in tty.text())
        assert len(tty.text().splitlines()) <= 4
        assert tty.wait() == 0


@pytest.mark.slow
def test_the_seed_is_there_in_forty_columns() -> None:
    """The summary was cut to the window's width."""
    with Tty(*PROGRAM, *SOLVE, columns=40) as tty:
        assert tty.wait() == 0
        rows = tty.scrollback().removeprefix(SOLUTION).splitlines()
    assert all(len(row) <= 40 for row in rows)
    assert re.fullmatch(r"90 tokens in .* 4 steps, seed 1", " ".join(rows))


@pytest.mark.slow
def test_keys_that_are_typed_meanwhile_do_not_show_and_reach_no_shell(log: Path) -> None:
    with paused(log, *SOLVE) as tty:
        tty.until(lambda tty: tty.alternate and "step  1 of 48" in tty.text())
        tty.type("echo typed\rmore")
        go_on(log)
        assert tty.wait() == 0
        tty.assert_given_back()
        assert b"typed" not in tty.bytes
        with typed_ahead(tty.theirs) as typed:
            assert typed == b""


@pytest.mark.slow
def test_a_resized_window_is_drawn_anew(log: Path) -> None:
    with paced(0.05, log, *SOLVE, *NO_END) as tty:
        tty.until(lambda tty: tty.alternate and " of 4000" in tty.text())
        tty.resize(18, 8)
        tty.until(lambda tty: tty.text().startswith("534") and " of 4000" in tty.text())
        assert GRID_TOP[:5] not in tty.text()
        tty.resize(60, 30)
        tty.until(lambda tty: tty.text().startswith(GRID_TOP) and " of 4000" in tty.text())
        assert len(tty.text().splitlines()) == 14
        tty.type("\x03")
        assert tty.wait() == 130


@pytest.mark.slow
def test_other_encodings_get_ascii(log: Path) -> None:
    with paced(0.1, log, *SOLVE, env={"PYTHONIOENCODING": "latin-1"}) as tty:
        tty.until(lambda tty: tty.alternate and "step  1 of 48" in tty.text())
        assert tty.text().splitlines()[:2] == [
            "+-------+-------+-------+",
            "| 5 3 4 | 6 7 8 | 9 1 4 |",
        ]
        assert tty.wait() == 0
        tty.assert_given_back()


@pytest.mark.slow
def test_the_c_locale_gets_the_answer() -> None:
    with Tty(*PROGRAM, *SOLVE, env={"LC_ALL": "C", "LANG": "C"}) as tty:
        assert tty.wait() == 0
        tty.assert_given_back()
        assert tty.scrollback().startswith(SOLUTION)


def test_characters_an_encoding_lacks_are_question_marks() -> None:
    assert encoded("│ é 空", "latin-1") == b"| \xe9 ?"
    assert encoded("│ é 空", "utf-8") == "│ é 空".encode()


@pytest.mark.slow
def test_no_colour_keeps_bold_and_underline() -> None:
    with Tty(*PROGRAM, *SOLVE, env={"NO_COLOR": "1"}) as tty:
        assert tty.wait() == 0
        assert b"\x1b[1;4m" in tty.bytes
        assert COLOUR.search(tty.bytes) is None
    with Tty(*PROGRAM, *SOLVE) as tty:
        assert tty.wait() == 0
        assert COLOUR.search(tty.bytes)


@pytest.mark.slow
def test_a_dumb_terminal_gets_the_text_alone() -> None:
    with Tty(*PROGRAM, *SOLVE, env={"TERM": "dumb"}) as tty:
        assert tty.wait() == 0
        assert tty.bytes.decode().replace("\r", "") == SOLUTION


def test_a_dumb_terminal_may_have_a_line_a_step() -> None:
    with Tty(*PROGRAM, *SOLVE, "--visual", env={"TERM": "dumb"}) as tty:
        assert tty.wait() == 0
        assert b"\x1b" not in tty.bytes
        assert tty.scrollback().startswith("canvas 1 step  1/48  accepted  50 of 90")


@pytest.mark.slow
def test_a_redirected_answer_is_clean_below_a_view_that_was_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "answer"
    with open(out, "wb") as file, Tty(*PROGRAM, *SOLVE, "--visual", stdout=file) as tty:
        tty.until(lambda tty: tty.alternate)
        assert tty.wait() == 0
        tty.assert_given_back()
        assert tty.scrollback().startswith("90 tokens in ")
    assert out.read_text() == SOLUTION


def test_a_redirected_answer_has_no_view_of_itself(tmp_path: Path) -> None:
    out = tmp_path / "answer"
    with open(out, "wb") as file, Tty(*PROGRAM, *SOLVE, stdout=file) as tty:
        assert tty.wait() == 0
        assert tty.entered == 0
    assert out.read_text() == SOLUTION


def test_head_ends_it(tmp_path: Path, random_folder: Path) -> None:
    """`generate | head -c 10`: ten bytes, and the shell's exit code for a closed pipe."""
    command = [sys.executable, *PROGRAM, "generate", "Hi", "--model", str(random_folder)]
    command += ["--seed", "3", "--max-tokens", "400"]
    line = '"$@" | head -c 10; echo " ${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", line, "bash", *command], capture_output=True, check=True, stdin=-3
    )
    assert len(done.stdout.rpartition(b" ")[0].decode()) >= 9
    assert done.stdout.endswith(b" 141\n")
    assert done.stderr == b""


# --- below the prompt


def test_below_the_prompt_the_last_canvas_stays() -> None:
    with Tty(*PROGRAM, *SOLVE, "--no-alt-screen") as tty:
        assert tty.wait() == 0
        tty.assert_given_back()
        shown = tty.scrollback()
    assert tty.entered == 0
    grid, status, answer = shown.splitlines()[:13], shown.splitlines()[13], shown.splitlines()[14:]
    assert (grid[0], grid[1]) == (GRID_TOP, "│ 5 3 4 │ 6 7 8 │ 9 1 2 │")
    assert status.startswith("canvas 1  step  4 of 48 ")
    assert "\n".join(answer).startswith(SOLUTION)


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["key", signal.SIGTERM, signal.SIGKILL, signal.SIGTSTP])
def test_below_the_prompt_the_terminal_is_given_back(sent: Any, log: Path) -> None:
    with paused(log, *SOLVE, "--no-alt-screen") as tty:
        tty.until("step  1 of 48")
        if sent == "key":
            tty.type("\x03")
        else:
            tty.send(sent)
        if sent == signal.SIGTSTP:
            go_on(log)
        assert tty.wait() == {"key": 130, signal.SIGTERM: 143, signal.SIGKILL: -9}.get(sent, 0)
        tty.assert_given_back()
        assert tty.entered == 0
        assert ("step  1 of 48" in tty.scrollback()) == (sent != signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "rows"), [(40, 24), (20, 5), (4, 2), (1, 1)])
def test_below_the_prompt_small_windows_scroll_no_more_than_they_must(
    columns: int, rows: int, log: Path
) -> None:
    with paced(0.1, log, *SOLVE, "--no-alt-screen", columns=columns, rows=rows) as tty:
        assert tty.wait() == 0
        tty.assert_given_back()
        if columns >= 20:
            assert tty.scrollback().count("of 48") == 1


@pytest.mark.slow
def test_below_the_prompt_another_size_leaves_one_picture(log: Path) -> None:
    with paused(log, *SOLVE, "--no-alt-screen", rows=30) as tty:
        tty.until("step  1 of 48")
        tty.resize(60, 20)
        go_on(log)
        assert tty.wait() == 0
        assert tty.scrollback().count(GRID_TOP) == 1
        assert tty.scrollback().count("of 48") == 1


# --- signals


@pytest.mark.slow
def test_ctrl_c_at_a_token_keeps_what_was_shown(log: Path) -> None:
    """Text grows, in mode ar, and none of it is a draft."""
    with paused(log, *STORY, "--mode", "ar", at="0 2", seconds=0.3) as tty:
        tty.until(lambda tty: tty.alternate and " 3 of at most 1024 tokens " in tty.text())
        text, status = tty.text().splitlines()
        assert (text, status.startswith("ar     3 of at most 1024 tokens  ")) == ("Onc", True)
        tty.type("\x03")
        assert tty.wait() == 130
        tty.assert_given_back()
        shown, line = tty.scrollback().splitlines()
    kept = re.fullmatch(r"interrupted: (\d+) tokens kept\.", line)
    assert kept
    assert shown == "Once there was"[: int(kept[1])]


@pytest.mark.slow
def test_tokens_are_printed_on_a_terminal_without_the_view(log: Path) -> None:
    story = (*STORY, "--mode", "ar", "--no-visual", "--max-tokens", 8)
    with paused(log, *story, at="0 2") as tty:
        tty.until("Onc")
        assert tty.process.poll() is None
        go_on(log)
        assert tty.wait() == 0
        assert tty.scrollback().splitlines()[0] == "Once the"
        assert tty.entered == 0


@pytest.mark.parametrize(
    ("sent", "code", "line"),
    [
        ("key", 130, "interrupted: no canvases finished."),
        (signal.SIGTERM, 143, "interrupted: no canvases finished."),
        pytest.param(signal.SIGKILL, -9, "", marks=pytest.mark.slow),
        pytest.param(signal.SIGABRT, -6, "", marks=pytest.mark.slow),
        pytest.param(signal.SIGQUIT, -3, "", marks=pytest.mark.slow),
    ],
)
def test_the_terminal_is_given_back(sent: Any, code: int, line: str, log: Path) -> None:
    """Even by a process that is killed outright: the guard does it."""
    with paused(log, *SOLVE) as tty:
        tty.until(lambda tty: tty.alternate and "step  1 of 48" in tty.text())
        if sent == "key":
            tty.type("\x03")
        else:
            tty.send(sent)
        assert tty.wait() == code
        tty.assert_given_back()
        assert tty.scrollback().split("\n")[-1] == line
        assert "^C" not in tty.scrollback()


@pytest.mark.slow
def test_stopped_and_continued(log: Path) -> None:
    """Ctrl-Z gives the terminal back, and going on takes it again."""
    with paused(log, *SOLVE) as tty:
        tty.until(lambda tty: tty.alternate and " of 48" in tty.text())
        tty.send(signal.SIGTSTP)
        # A process without a shell above it goes on at once.
        tty.until(lambda tty: tty.entered == 2 and " of 48" in tty.text())
        go_on(log)
        assert tty.wait() == 0
        tty.assert_given_back()
        assert tty.scrollback().startswith(SOLUTION)


@pytest.mark.slow
def test_the_background_has_no_view_and_the_foreground_has(log: Path) -> None:
    """`generate ... &` took the terminal from the shell, and so did `bg` after Ctrl-Z."""
    notes = log.with_name("notes")
    with paced_job(0.05, log, notes, *ENDLESS) as tty:

        def steps_from_now(count: int) -> Callable[[Tty], bool]:
            before = num_lines(log)
            return lambda tty: num_lines(log) >= before + count

        tty.until(steps_from_now(4))
        assert (tty.bytes, tty.entered) == (b"", 0)
        tty.send(signal.SIGUSR1)  # fg
        tty.until(lambda tty: tty.alternate and " of 4000" in tty.text())
        tty.type("\x1a")
        tty.until(lambda tty: num_lines(notes) == 1 and not tty.alternate)
        tty.assert_given_back()
        tty.send(signal.SIGUSR2)  # bg
        tty.until(steps_from_now(4))
        tty.assert_given_back()
        assert tty.entered == 1
        tty.send(signal.SIGUSR1)
        tty.until(lambda tty: tty.entered == 2 and " of 4000" in tty.text())
        tty.type("\x03")
        assert tty.wait() == 130
        tty.assert_given_back()
    assert notes.read_text() == "SIGTSTP\n"


@pytest.mark.slow
def test_an_answer_from_the_background_is_the_text_alone(log: Path) -> None:
    notes = log.with_name("notes")
    with paced_job(0.01, log, notes, *SOLVE) as tty:
        assert tty.wait() == 0
        assert tty.entered == 0
        assert b"\x1b" not in tty.bytes  # no bar either
        assert tty.scrollback().startswith(SOLUTION)
    assert not notes.exists()


@pytest.mark.slow
def test_a_chat_waits_for_the_foreground(log: Path) -> None:
    """To set the terminal would have stopped it, and to set it back at the end."""
    notes = log.with_name("notes")
    command = (0.01, log, notes, "chat", "--model", "tiny-sudoku", "--seed", 1)
    with paced_job(*command) as tty:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            tty.pump()
        assert tty.bytes == b""
        tty.send(signal.SIGUSR1)
        tty.until("0% >")
        tty.type("/quit\r")
        assert tty.wait() == 0
        tty.assert_given_back()
    assert not notes.exists()


def num_lines(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_terminal_that_closes_ends_it(log: Path) -> None:
    with paused(log, *SOLVE) as tty:
        tty.until(lambda tty: tty.alternate)
        os.close(tty.theirs)
        tty.theirs = os.open(os.devnull, os.O_RDONLY)
        os.close(tty.ours)
        tty.ours = os.open(os.devnull, os.O_RDONLY)
        assert tty.process.wait(SECONDS) == -signal.SIGHUP


@pytest.mark.slow
def test_a_terminal_that_nobody_reads_keeps_no_process(log: Path) -> None:
    """Ctrl-S has stopped it; a second signal ends the process, and the guard gives it back."""
    with paced(0.05, log, *ENDLESS) as tty:
        tty.until(lambda tty: tty.alternate and " of 4000" in tty.text())
        termios.tcflow(tty.theirs, termios.TCOOFF)
        time.sleep(1)
        assert ended_by_signals(tty) in (143, -signal.SIGTERM)
        termios.tcflow(tty.theirs, termios.TCOON)
        tty.wait()
        tty.assert_given_back()


@pytest.mark.slow
def test_a_terminal_that_does_not_block_is_waited_for(log: Path) -> None:
    """Other programs leave it so; what it does not take at once is still written."""
    with paced(0.01, log, *ENDLESS) as tty:
        tty.until(lambda tty: tty.alternate and " of 4000" in tty.text())
        flags = fcntl.fcntl(tty.theirs, fcntl.F_GETFL)
        fcntl.fcntl(tty.theirs, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        termios.tcflow(tty.theirs, termios.TCOOFF)
        time.sleep(0.5)
        tty.send(signal.SIGTERM)
        time.sleep(0.5)
        termios.tcflow(tty.theirs, termios.TCOON)
        assert tty.wait() == 143
        tty.assert_given_back()


def interrupted_at(moment: float, signals: list[signal.Signals], log: Path) -> None:
    """Signals in quick succession, `moment` seconds after the start."""
    with paced(0.02, log, "generate", "." * 81, "--model", "tiny-sudoku") as tty:
        end = time.monotonic() + moment
        while time.monotonic() < end:
            tty.pump(0.005)
        for sent in signals:
            if tty.process.poll() is None:
                tty.send(sent)
            tty.pump(0.001)
        tty.wait()
        assert not tty.alternate, moment
        if log.exists():  # before, Python itself is still being loaded
            tty.assert_given_back()


def random_interrupts(seed: int, count: int, log: Path) -> None:
    chance = random.Random(seed)
    kinds = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    for _ in range(count):
        signals = chance.choices(kinds, weights=[5, 3, 1], k=chance.randrange(1, 4))
        log.unlink(missing_ok=True)
        interrupted_at(chance.uniform(0.3, 1.6), signals, log)


@pytest.mark.slow
def test_random_moments(log: Path) -> None:
    random_interrupts(1, 3, log)


@pytest.mark.slow
def test_many_random_moments(log: Path) -> None:
    random_interrupts(2, 30, log)


def test_a_puzzle_is_the_same_everywhere(run: Any) -> None:
    assert text_of(run, "generate", PUZZLE, "--model", "tiny-sudoku", "--seed", 1) == SOLUTION
