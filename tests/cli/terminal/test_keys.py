"""Keys that nobody reads yet, on a pseudo-terminal of the test's own."""

import os
import pty
import termios
from collections.abc import Iterator
from typing import Any

import pytest

from mlx_diffgemma.cli.terminal import keys
from mlx_diffgemma.cli.terminal.keys import Keys, take_typed


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """The person's end and the program's end of a terminal."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def shown(ours: int) -> bytes:
    """What the terminal has shown so far."""
    os.set_blocking(ours, False)
    try:
        return os.read(ours, 4096)
    except BlockingIOError:
        return b""


def test_hushed_keys_do_not_show_and_are_kept_as_typed(ends: tuple[int, int]) -> None:
    """Ctrl-D and half a line among them."""
    ours, theirs = ends
    before = termios.tcgetattr(theirs)
    keyboard = Keys(theirs)
    assert keyboard.hush()
    assert not keyboard.hush()  # hushed already
    os.write(ours, b"abc\x04\rd")
    assert shown(ours) == b""
    keyboard.restore()
    keyboard.restore()
    assert termios.tcgetattr(theirs) == before
    assert take_typed(theirs) == b"abc\x04\nd"
    assert take_typed(theirs) == b""
    assert termios.tcgetattr(theirs) == before
    os.write(ours, b"e")
    assert shown(ours) == b"e"


def test_forgotten_keys_are_nobodys(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    keyboard = Keys(theirs)
    keyboard.hush()
    os.write(ours, b"rm -r .\r")
    keyboard.forget()
    keyboard.restore()
    assert take_typed(theirs) == b""


def test_a_terminal_without_echo_stays_so(ends: tuple[int, int]) -> None:
    state: list[Any] = termios.tcgetattr(ends[1])
    state[3] &= ~termios.ECHO
    termios.tcsetattr(ends[1], termios.TCSANOW, state)
    keyboard = Keys(ends[1])
    assert not keyboard.hush()
    keyboard.restore()
    assert termios.tcgetattr(ends[1]) == state


def test_the_background_leaves_the_keyboard_alone(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system would stop the process."""
    before = termios.tcgetattr(ends[1])
    monkeypatch.setattr(keys, "in_foreground", lambda descriptor: False)
    keyboard = Keys(ends[1])
    assert not keyboard.hush()
    keyboard.forget()
    assert termios.tcgetattr(ends[1]) == before


def test_a_terminal_that_is_gone_is_left() -> None:
    ours, theirs = pty.openpty()
    keyboard = Keys(theirs)
    keyboard.hush()
    os.close(ours)
    os.close(theirs)
    keyboard.restore()
    keyboard.forget()
