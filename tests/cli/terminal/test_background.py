"""The question for the background: its answer is read, and is never left as typed text."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from own_terminal import OwnTerminal, own_terminal
from paced import go_on, paused
from pseudo_terminal import ATTRIBUTES, QUESTION, Tty
from puzzle import SOLVE
from rich.segment import Segment
from rich.style import Style
from waiting import SECONDS, wait_for

from mlx_diffgemma.cli.terminal import screen as module
from mlx_diffgemma.cli.terminal.background import PATIENCE, answered, may_ask, of_environment
from mlx_diffgemma.cli.terminal.colours import LEVELS, Theme
from mlx_diffgemma.cli.terminal.keys import Keys, typed_ahead
from mlx_diffgemma.cli.terminal.picture import Picture
from mlx_diffgemma.cli.terminal.replies import Sieve
from mlx_diffgemma.cli.terminal.screen import Screen

DARK, LIGHT = b"\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\", b"\x1b]11;rgb:ffff/ffff/ffff\x07"
SURE = Picture(((Segment("sure", Style(color=LEVELS[0].on_both)),),))
DARK_GREEN, LIGHT_GREEN, BOTH_GREEN = b"38;5;42m", b"38;5;22m", b"38;5;29m"


@contextmanager
def drawn(
    monkeypatch: pytest.MonkeyPatch,
    *answer: tuple[float, bytes],
    seconds: tuple[float, float] = (SECONDS, SECONDS),
    **options: object,
) -> Iterator[tuple[Screen, OwnTerminal]]:
    """A screen that has drawn one coloured word; left and ended behind it.

    seconds: that it waits for an answer before the first picture, and before it is left.
    """
    with own_terminal(monkeypatch, answer) as terminal:
        for name, value in zip(("PATIENCE", "LATE"), seconds, strict=True):
            monkeypatch.setattr(module, name, value)
        screen = Screen(**options)  # type: ignore[arg-type]
        try:
            screen.draw(SURE)
            yield screen, terminal
        finally:
            screen.close()


def typed(terminal: OwnTerminal | Tty) -> bytes:
    """What the next reader finds."""
    with typed_ahead(terminal.theirs) as found:
        return found


@pytest.mark.parametrize(
    ("answer", "green"),
    [
        (DARK + ATTRIBUTES, DARK_GREEN),
        (LIGHT + ATTRIBUTES, LIGHT_GREEN),
        (ATTRIBUTES, BOTH_GREEN),
        (b"\x1b]11;rgb:zz/ff/ff\x07" + ATTRIBUTES, BOTH_GREEN),
        (b"\x1b]11;?\x07\x1b]11;\x1b\\" + ATTRIBUTES, BOTH_GREEN),
    ],
)
def test_the_answer_chooses_the_colours(
    answer: bytes, green: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with drawn(monkeypatch, (0.0, answer), keeps_typed=True) as (screen, terminal):
        assert green in terminal.since(0)
        screen.close()
        assert typed(terminal) == b""
        assert terminal.written.count(QUESTION) == 1


def test_it_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one screen, however often it is entered."""
    with drawn(monkeypatch, (0.0, DARK + ATTRIBUTES)) as (screen, terminal):
        screen.leave()
        screen.draw(SURE)
        assert terminal.since(0).count(QUESTION) == 1


def test_an_answer_in_pieces_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [(0.02, DARK[:9]), (0.04, DARK[9:] + ATTRIBUTES[:4]), (0.06, ATTRIBUTES[4:])]
    with drawn(monkeypatch, *parts) as (_, terminal):
        assert DARK_GREEN in terminal.since(0)


def test_keys_between_are_the_next_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, between and behind the answers, an arrow and a line's end among them."""
    answer = b"a\x1b[D" + DARK + b"b" + ATTRIBUTES + b"c\r"
    with drawn(monkeypatch, (0.0, answer), keeps_typed=True) as (screen, terminal):
        screen.close()
        assert typed(terminal) == b"a\x1b[Dbc\r"


def test_a_terminal_that_says_nothing_costs_a_fifth_of_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert PATIENCE == 0.2
    waits: list[float] = []
    monkeypatch.setattr(Keys, "take", lambda keys, seconds=0.0: waits.append(seconds) or b"")
    with drawn(monkeypatch, seconds=(0.01, 0.02)) as (screen, terminal):
        assert waits
        assert max(waits) <= 0.01
        waits.clear()
        screen.draw(Picture(((Segment("more"),),)))
        assert not waits
        assert BOTH_GREEN in terminal.since(0)


def test_a_late_answer_still_counts_and_is_not_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow line: all is drawn anew in the right colours."""
    with drawn(monkeypatch, seconds=(0.01, SECONDS), keeps_typed=True) as (screen, terminal):
        assert BOTH_GREEN in terminal.since(0)
        terminal.type(LIGHT + ATTRIBUTES)
        wait_for(lambda: screen.pressed() == 0 and screen.asked_at is None)
        screen.draw(SURE)
        assert LIGHT_GREEN in terminal.since(0)
        screen.close()
        assert typed(terminal) == b""


@pytest.mark.parametrize("keeps_typed", [True, False])
def test_an_answer_behind_the_view_is_waited_for(
    keeps_typed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell, or the next question, would get it as typed text."""
    answer = (0.4, DARK + ATTRIBUTES)
    with drawn(monkeypatch, answer, seconds=(0.01, SECONDS), keeps_typed=keeps_typed) as (
        screen,
        terminal,
    ):
        screen.close()
        assert terminal.replied.wait(SECONDS)
        assert typed(terminal) == b""


@pytest.mark.parametrize(
    "change",
    [
        {"TERM": "linux"},
        {"TERM": "screen-256color"},
        {"STY": "1.pts"},
        {"ZELLIJ": "0"},
        {"NO_COLOR": "1"},
        {"TERM": "xterm"},  # 16 colours, whose names count
    ],
)
def test_who_would_answer_badly_or_for_nothing_is_not_asked(
    change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_terminal(monkeypatch) as terminal:
        for name, value in change.items():
            monkeypatch.setenv(name, value)
        screen = Screen()
        screen.draw(SURE)
        screen.close()
        assert QUESTION not in terminal.since(0)


def test_a_theme_that_is_given_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with drawn(monkeypatch, theme=Theme.LIGHT) as (_, terminal):
        assert QUESTION not in terminal.since(0)
        assert LIGHT_GREEN in terminal.written


def test_a_pager_behind_a_pipe_keeps_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """`generate --visual | less`: less reads the terminal, and would read the answer."""
    read, write = os.pipe()
    with own_terminal(monkeypatch) as terminal, open(write, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        screen = Screen()
        screen.draw(SURE)
        terminal.type(b"?q")
        assert screen.pressed() == 0
        assert QUESTION not in terminal.since(0)
        screen.close()
    os.close(read)


def test_tmux_is_asked_under_any_name() -> None:
    assert may_ask({"TERM": "screen-256color", "TMUX": "/tmp/x"})
    assert may_ask({"TERM": "tmux-256color"})
    assert not may_ask({"TERM": "tmux-256color", "STY": "1"})


@pytest.mark.parametrize(
    ("value", "theme"),
    [
        ("15;0", Theme.DARK),
        ("0;15", Theme.LIGHT),
        ("0;default;7", Theme.LIGHT),
        ("15;8", Theme.DARK),
        ("0;default", None),
        ("0;16", None),
        ("", None),
    ],
)
def test_the_environment_may_tell(value: str, theme: Theme | None) -> None:
    assert of_environment({"COLORFGBG": value}) is theme


def test_the_terminal_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, green in ((LIGHT + ATTRIBUTES, LIGHT_GREEN), (ATTRIBUTES, DARK_GREEN)):
        with own_terminal(monkeypatch, [(0.0, answer)]) as terminal:
            monkeypatch.setenv("COLORFGBG", "15;0")
            screen = Screen()
            screen.draw(SURE)
            screen.close()
            assert green in terminal.since(0)


@pytest.mark.parametrize(
    ("reply", "theme"),
    [
        (b"11;rgb:0000/2b2b/3636", Theme.DARK),
        (b"11;rgb:fd/f6/e3", Theme.LIGHT),
        (b"11;rgba:f/f/f/8", Theme.LIGHT),
        (b"11;#002b36", Theme.DARK),
        (b"11;#fff", Theme.LIGHT),
        (b"11;rgb:ffff/ffff", None),
        (b"?62;22c", None),
    ],
)
def test_a_colour_is_read_in_every_spelling(reply: bytes, theme: Theme | None) -> None:
    assert answered([reply]) is theme


def test_what_a_key_sends_is_no_reply() -> None:
    """Alt-] and other keys pass, and so does an Escape alone."""
    sieve = Sieve()
    for keys in (b"\x1b]x", b"\x1b", b"\x1b[D", b"\x1bOP", b"\x1b[1;5C", b"\x1b]12;x", b"?"):
        assert sieve.sift(keys) == keys
    assert (sieve.sift(b"\x1b]"), sieve.sift(b"x")) == (b"", b"\x1b]x")
    assert sieve.replies == []


@pytest.mark.slow
def test_an_answer_reaches_a_command(tmp_path: Path) -> None:
    """Asked of a terminal of its own, while the model works; the shell gets no part of it."""
    log = tmp_path / "log"
    with paused(log, *SOLVE, answer=LIGHT + ATTRIBUTES) as tty:
        tty.until(lambda tty: tty.alternate and LIGHT_GREEN in tty.bytes)
        go_on(log)
        assert tty.wait() == 0
        tty.assert_given_back()
        assert tty.questions == 1
        assert typed(tty) == b""
