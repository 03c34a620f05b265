"""Keys that nobody reads yet, on a pseudo-terminal of the test's own."""

import fcntl
import os
import pty
import select
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest
from waiting import SECONDS, wait_for

from mlx_diffgemma.cli.terminal import keys
from mlx_diffgemma.cli.terminal.keys import Keys, typed_ahead


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """The person's end and the program's end of a terminal."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def shown(ours: int, seconds: float) -> bytes:
    """What the terminal shows within so long: the system passes keys on in its own time."""
    return os.read(ours, 4096) if select.select([ours], [], [], seconds)[0] else b""


def arrived(theirs: int) -> int:
    """Bytes that a read would get."""
    return int.from_bytes(fcntl.ioctl(theirs, termios.FIONREAD, bytes(4)), sys.byteorder)


def take_typed(theirs: int) -> bytes:
    """Bytes that have been typed so far."""
    with typed_ahead(theirs) as typed:
        return typed


def taken(theirs: int, count: int) -> bytes:
    """So many typed bytes, however late they come; all there are if they never do."""
    typed = take_typed(theirs)
    end = time.monotonic() + SECONDS
    while len(typed) < count and time.monotonic() < end:
        time.sleep(0.01)
        typed += take_typed(theirs)
    return typed


def test_hushed_keys_do_not_show_and_are_kept_as_typed(ends: tuple[int, int]) -> None:
    """Ctrl-D and half a line among them."""
    ours, theirs = ends
    before = termios.tcgetattr(theirs)
    keyboard = Keys(theirs)
    assert keyboard.hush()
    assert not keyboard.hush()  # hushed already
    os.write(ours, b"abc\x04\rd")
    assert shown(ours, 0.2) == b""
    keyboard.restore()
    keyboard.restore()
    assert termios.tcgetattr(theirs) == before
    assert taken(theirs, 6) == b"abc\x04\rd"
    assert take_typed(theirs) == b""
    assert termios.tcgetattr(theirs) == before
    os.write(ours, b"e")
    assert shown(ours, SECONDS) == b"e"


def test_keys_of_a_line_buffer_are_those_that_were_typed(ends: tuple[int, int]) -> None:
    """Enter and Ctrl-D, which the kernel keeps as a line feed and, on Linux, as a NUL."""
    os.write(ends[0], b"abc\rd\x04\x04")
    assert taken(ends[1], 7) == b"abc\rd\x04\x04"


def test_keys_stay_what_they_are_until_the_taking_ends(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    before = termios.tcgetattr(theirs)
    with typed_ahead(theirs):
        os.write(ours, b"a\r\x04")
        wait_for(lambda: arrived(theirs) == 3)
        assert os.read(theirs, 10) == b"a\r\x04"
    assert termios.tcgetattr(theirs) == before


def test_forgotten_keys_are_nobodys(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    keyboard = Keys(theirs)
    keyboard.hush()
    os.write(ours, b"rm -r .\r")
    wait_for(lambda: arrived(theirs) == 8)
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
