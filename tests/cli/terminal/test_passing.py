"""Lines that stay for a while: work that takes long, numbers while an answer goes elsewhere."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_terminal import own_terminal
from paced import go_on, paced_job, paused
from pseudo_terminal import PROGRAM, Tty
from puzzle import SOLUTION, SOLVE
from waiting import SECONDS, wait_for

from mlx_diffgemma.cli.answer.loading import trials_line
from mlx_diffgemma.cli.terminal import passing, steps
from mlx_diffgemma.cli.terminal.passing import Announced, PassingLine
from mlx_diffgemma.cli.terminal.scene import Scene
from mlx_diffgemma.cli.terminal.steps import PassingNumbers
from mlx_diffgemma.cli.terminal.streams import say
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.text.pieces import Parts

FRAME = Frame(0, 0, np.zeros(4, np.int32), np.zeros(4, np.float32), np.ones(4, np.bool_))
COMMITTED = Frame(
    0, 1, np.zeros(4, np.int32), np.zeros(4, np.float32), np.ones(4, np.bool_), committed=True
)
ERASED = b"\r\x1b[2K"


def rest(content: bytes) -> bytes:
    """What is left of lines that were erased."""
    return b"\n".join(line.rpartition(ERASED)[2] for line in content.split(b"\r\n"))


def numbers(*, till_text: bool) -> PassingNumbers:
    return PassingNumbers(Scene(lambda _: Parts((), ""), 48), till_text=till_text)


def test_work_that_takes_long_is_announced_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passing, "LEAST", 0.03)
    monkeypatch.setattr(passing, "SOON", 0.0)
    with own_terminal(monkeypatch) as terminal:
        with Announced("loading the\x1b model"):
            wait_for(lambda: b"model" in terminal.written)
            assert terminal.since(0) == ERASED + b"loading the? model"
        assert terminal.since(0).endswith(ERASED)


def test_work_that_is_done_before_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And waits for no clock."""
    monkeypatch.setattr(passing, "LEAST", SECONDS)
    with own_terminal(monkeypatch) as terminal:
        began = time.monotonic()
        with Announced("loading"):
            pass
        assert time.monotonic() - began < SECONDS
        assert terminal.since(0) == b""


def test_the_first_report_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "LEAST", 0.0)
    monkeypatch.setattr(passing, "SOON", 0.0)
    reports = []
    with own_terminal(monkeypatch) as terminal, Announced("loading") as announced:
        wait_for(lambda: b"loading" in terminal.written)
        progress: Callable[[int, int], None] = announced.until(lambda *at: reports.append(at))
        progress(1, 2)
        assert terminal.since(0) == ERASED + b"loading" + ERASED
    assert reports == [(1, 2)]


def test_what_is_said_stands_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_terminal(monkeypatch) as terminal:
        line = PassingLine()
        line.show("numbers")
        say("note: said.")
        assert rest(terminal.since(0)) == b"note: said.\nnumbers"
        line.erase()
        say("more")
        assert rest(terminal.since(0)) == b"note: said.\nmore\n"


def test_the_numbers_stay_while_a_file_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "REDRAW_SECONDS", -1.0)
    with own_terminal(monkeypatch) as terminal, numbers(till_text=False) as view:
        view.step(FRAME)
        assert b"canvas 1  step  1 of 48" in terminal.since(0)
        view.step(COMMITTED)
        view.step(FRAME)
        assert terminal.since(0).count(b"canvas 1") == 2
        view.close()
        assert terminal.since(0).endswith(ERASED)


def test_the_numbers_make_room_for_whoever_reads_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """`generate | tee file` writes on the same terminal."""
    monkeypatch.setattr(steps, "REDRAW_SECONDS", -1.0)
    with own_terminal(monkeypatch) as terminal, numbers(till_text=True) as view:
        view.step(FRAME)
        view.step(COMMITTED)
        view.step(FRAME)
        assert terminal.since(0).count(b"canvas 1") == 1
        assert terminal.written.endswith(ERASED)


def test_trials_are_said_once_and_to_people_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trials_line()()
    assert capsys.readouterr().err == ""
    with own_terminal(monkeypatch) as terminal:
        told = trials_line()
        told()
        told()
        assert terminal.since(0).count(b"trying the Metal kernels") == 1


@pytest.mark.parametrize("options", [(), pytest.param(("--json",), marks=pytest.mark.slow)])
def test_an_answer_that_goes_into_a_file_is_waited_for_in_a_line(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """Bug: `generate > file` was silent for minutes."""
    out = tmp_path / "answer"
    log = tmp_path / "log"
    with open(out, "wb") as file, paused(log, *SOLVE, *options, stdout=file) as tty:
        tty.until("canvas 1  step ")
        go_on(log)
        assert tty.wait() == 0
        tty.assert_given_back()
        assert (tty.entered, tty.scrollback()) == (0, "")
    assert out.read_bytes().count(b"\n") == (1 if options else 9)


@pytest.mark.slow
def test_an_answer_that_is_piped_is_waited_for_in_a_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with paused(log, *SOLVE, stdout=subprocess.PIPE) as tty:
        tty.until("canvas 1  step ")
        go_on(log)
        assert tty.wait() == 0
        assert (tty.entered, tty.scrollback()) == (0, "")
        assert tty.process.stdout is not None
        with tty.process.stdout as piped:
            assert piped.read().decode() == SOLUTION


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "env"),
    [(["--no-visual"], {}), ([], {"TERM": "dumb"}), (["--trace", "-"], {})],
)
def test_who_wants_no_steps_or_cannot_see_them_gets_no_line(
    options: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "answer"
    with open(out, "wb") as file, Tty(*PROGRAM, *SOLVE, *options, stdout=file, env=env) as tty:
        assert tty.wait() == 0
        assert b"canvas" not in tty.bytes


@pytest.mark.slow
def test_the_background_gets_no_line(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with paced_job(0.05, tmp_path / "log", notes, *SOLVE, "--json") as tty:
        assert tty.wait() == 0
        assert not re.search(rb"canvas 1  step|\x1b", tty.bytes)
    assert not notes.exists()
