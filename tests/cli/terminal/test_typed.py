"""Keys by name, however their bytes come."""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from mlx_diffgemma.cli.terminal.typed import Typed

Type = Callable[[bytes], None]


@pytest.fixture
def keyboard() -> Iterator[tuple[Typed, Type]]:
    """What is typed goes through a pipe."""
    ours, theirs = os.pipe()
    yield Typed(ours), lambda content: (os.write(theirs, content), None)[1]
    for descriptor in (ours, theirs):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b" ", [" "]),
        (b"Q", ["q"]),
        (b"\x1b[C\x1b[D", ["right", "left"]),
        (b"\x1bOC\x1bOD", ["right", "left"]),  # where the keypad is in application mode
        (b"\x1b", ["escape"]),
        (b"\x1b[C", ["right"]),
        (b" q\x1b[Dq", [" ", "q", "left", "q"]),
        ("é".encode(), ["é"]),
        (b"\xff", ["\ufffd"]),
    ],
)
def test_keys_have_names(keyboard: tuple[Typed, Type], content: bytes, keys: list[str]) -> None:
    typed, press = keyboard
    press(content)
    assert [typed.next(1.0) for _ in keys] == keys
    assert typed.next(0.0) is None


def test_nothing_typed_takes_its_time(keyboard: tuple[Typed, Type]) -> None:
    began = time.monotonic()
    assert keyboard[0].next(0.05) is None
    assert time.monotonic() - began >= 0.05


def test_keys_of_the_shell_are_left_alone(
    keyboard: tuple[Typed, Type], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the terminal in the background stops a process."""
    typed, press = keyboard
    press(b"q")
    monkeypatch.setattr("mlx_diffgemma.cli.terminal.typed.in_foreground", lambda _: False)
    assert typed.next(0.01) is None
    monkeypatch.undo()
    assert typed.next(0.01) == "q"


def test_a_terminal_that_is_gone_types_nothing() -> None:
    ours, theirs = os.pipe()
    os.close(theirs)
    typed = Typed(ours)
    assert typed.next(0.01) is None
    began = time.monotonic()
    assert typed.next(0.05) is None  # and does not spin
    assert time.monotonic() - began >= 0.05
    os.close(ours)
