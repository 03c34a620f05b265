"""The rows that a screen writes: those that have changed, on either surface."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pyte
import pytest
from own_terminal import OwnTerminal, own_terminal
from rich.segment import Segment
from waiting import wait_for

from mlx_diffgemma.cli.terminal.keys import given_back, typed_ahead
from mlx_diffgemma.cli.terminal.picture import Picture
from mlx_diffgemma.cli.terminal.screen import Screen
from mlx_diffgemma.cli.terminal.streams import say
from mlx_diffgemma.cli.terminal.surface import MOST_ROWS, Below, OtherScreen, Surface

ERASED_ROW = b"\x1b[2K"


def picture(*lines: str) -> Picture:
    return Picture(tuple((Segment(line),) if line else () for line in lines))


Opened = Callable[..., tuple[OwnTerminal, Screen]]
SURFACES = pytest.mark.parametrize("surface", [OtherScreen, Below])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Opens a terminal and a screen on it, in the test itself: pytest exchanges sys.stderr."""
    with ExitStack() as stack:

        def open_both(surface: type[Surface] = OtherScreen, **options: Any) -> Any:
            terminal = stack.enter_context(own_terminal(monkeypatch))
            screen = Screen(surface=surface(), **options)
            stack.callback(screen.close)
            return terminal, screen

        yield open_both


def written(terminal: OwnTerminal, screen: Screen, *lines: str) -> bytes:
    """The bytes that a further picture costs."""
    before = len(terminal.since(0))
    screen.draw(picture(*lines))
    return terminal.since(before)


@SURFACES
def test_a_step_that_changes_two_rows_writes_two_rows(
    surface: type[Surface], opened: Opened
) -> None:
    """Bug: every row was erased and written, which flickers without synchronised updates."""
    terminal, screen = opened(surface)
    rows = [f"row {n} " + "x" * 60 for n in range(8)]
    whole = written(terminal, screen, *rows)
    assert whole.count(ERASED_ROW) == 8
    changed = written(terminal, screen, *rows[:3], "here", *rows[4:7], "and here")
    assert changed.count(ERASED_ROW) == 2
    assert re.findall(rb"[a-z ]*here", changed) == [b"here", b"and here"]
    assert len(changed) < 80
    assert written(terminal, screen, *rows[:3], "here", *rows[4:7], "and here") == b""


@SURFACES
def test_what_stands_is_the_picture(surface: type[Surface], opened: Opened) -> None:
    """Rows that come, change and go; what the shell has shown stays above those below it."""
    terminal, screen = opened(surface)
    above = b"one\r\ntwo\r\n"
    shown = ["one", "two"] if surface is Below else []
    for lines in (["a", "b"], ["a", "c", "d", "e"], ["", "c"], ["f"], ["f", "g", "h"]):
        screen.draw(picture(*lines))
        text = terminal.since(0).replace(b"\x1b[?1049h", b"\x1b[2J\x1b[H")
        assert lines_of(above + text) == [*shown, *lines]


def lines_of(content: bytes, columns: int = 80, rows: int = 24) -> list[str]:
    screen = pyte.HistoryScreen(columns, rows, history=100)
    pyte.ByteStream(screen).feed(content)
    gone = ["".join(row[x].data for x in range(columns)) for row in screen.history.top]
    return "\n".join(line.rstrip() for line in [*gone, *screen.display]).rstrip().split("\n")


def test_rows_below_the_prompt_scroll_the_shell_and_stay(opened: Opened) -> None:
    """At the lowest row of a window there is room only where the terminal scrolls."""
    terminal, below = opened(Below)
    above = b"".join(b"%d\r\n" % n for n in range(23)) + b"$ run\r\n"
    below.draw(picture("a"))
    below.draw(picture("a", "b", "c"))
    below.draw(picture("a", "changed", "c"))
    below.close()
    os.write(terminal.theirs, b"answer\r\n")
    expected = [*map(str, range(23)), "$ run", "a", "changed", "c", "answer"]
    assert lines_of(above + terminal.since(0)) == expected


def test_rows_below_are_few_and_leave_the_shell_one(opened: Opened) -> None:
    terminal, below = opened(Below)
    for rows, fit in ((50, MOST_ROWS), (10, 9), (2, 1), (1, 1)):
        terminal.resize(80, rows)
        assert below.measure().rows == fit


@SURFACES
@pytest.mark.parametrize("how", ["size", "signal", "stop"])
def test_another_size_or_a_stop_draws_all(how: str, surface: type[Surface], opened: Opened) -> None:
    """A window that came back to its size between two steps had lost what stood in it."""
    terminal, screen = opened(surface)
    screen.draw(picture("a", "b", "c"))
    before = len(terminal.since(0))
    if how == "size":
        terminal.resize(70, 20)
        screen.measure()
    elif how == "signal":
        signal.raise_signal(signal.SIGWINCH)
    else:
        screen._go_out()  # as Ctrl-Z does
        screen._go_in()
    screen.draw(picture("a", "b", "c"))
    assert terminal.since(before).count(ERASED_ROW) == 3


def test_handlers_are_those_from_before_again(opened: Opened) -> None:
    _, screen = opened()
    before = [signal.getsignal(n) for n in (signal.SIGWINCH, signal.SIGTSTP)]
    screen.draw(picture("a"))
    screen.leave()
    assert [signal.getsignal(n) for n in (signal.SIGWINCH, signal.SIGTSTP)] == before


def test_a_line_that_is_said_waits_for_the_view(opened: Opened) -> None:
    """Bug: a warning was drawn over, and gone with the other screen."""
    terminal, screen = opened()
    screen.draw(picture("a"))
    say("warning: odd.")
    assert b"odd" not in terminal.since(0)
    screen.leave()
    assert terminal.since(0).endswith(b"\x1b[?1049lwarning: odd.\r\n")


# --- the legend's key


@pytest.mark.parametrize(
    ("keys", "pressed", "left"),
    [
        (b"?", 1, b""),
        (b"??", 2, b""),
        (b"What?", 0, b"What?"),
        (b"?!", 0, b"?!"),
        (b"\x1b[D", 0, b"\x1b[D"),
    ],
)
def test_a_chat_keeps_all_but_a_question_mark_in_front(
    keys: bytes, pressed: int, left: bytes, opened: Opened
) -> None:
    """In a question that is typed ahead it is the question's."""
    terminal, screen = opened(keeps_typed=True)
    screen.draw(picture("a"))
    terminal.type(keys)
    assert screen.pressed() == pressed
    terminal.type(b"?")
    assert screen.pressed() == (0 if left else 1)
    screen.close()
    with typed_ahead(terminal.theirs) as typed:
        assert typed == (left + b"?" if left else b"")


def test_elsewhere_other_keys_are_forgotten(opened: Opened) -> None:
    terminal, screen = opened()
    screen.draw(picture("a"))
    terminal.type(b"no?no\r")
    assert screen.pressed() == 1
    terminal.type(b"rm\r")
    screen.close()
    assert given_back() == b""
    with typed_ahead(terminal.theirs) as typed:
        assert typed == b""


def test_a_key_before_the_view_counts(opened: Opened) -> None:
    """It waits in the terminal while the model is loaded."""
    terminal, screen = opened()
    os.write(terminal.ours, b"?")
    screen.draw(picture("a"))
    wait_for(lambda: screen.pressed() == 1)


def test_outside_the_view_nothing_is_read(opened: Opened) -> None:
    terminal, screen = opened()
    terminal.type(b"?\r")
    assert screen.pressed() == 0
    with typed_ahead(terminal.theirs) as typed:
        assert typed == b"?\r"
