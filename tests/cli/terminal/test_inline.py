"""Images between the lines: the escapes byte by byte, and the terminals that get them."""

import base64
import re

import pytest

from mlx_diffgemma.cli.terminal.inline import Protocol, _box, escapes, protocol

KITTY, ITERM = Protocol.KITTY, Protocol.ITERM


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm-kitty"}, KITTY),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, ITERM),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, ITERM),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, ITERM),  # over ssh
        ({"TERM": "xterm-kitty", "TERM_PROGRAM": "iTerm.app"}, KITTY),  # kitty opened from iTerm2
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app", "TMUX": "/tmp/x"}, None),
        ({"TERM": "tmux-256color", "LC_TERMINAL": "iTerm2"}, None),
        ({"TERM": "screen", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "STY": "1.x"}, None),
        ({"TERM": "xterm-kitty", "ZELLIJ": "0"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": ""}, KITTY),
        ({}, None),
    ],
)
def test_terminals_that_are_sure(environ: dict[str, str], expected: Protocol | None) -> None:
    assert protocol(environ) is expected


@pytest.mark.parametrize("size", [1, 3 * 1024, 3 * 1024 + 1, 10_000])
def test_kitty_gets_chunks_and_never_answers(size: int) -> None:
    png = bytes(n % 251 for n in range(size))
    parts = list(escapes(png, KITTY, "height", 12))
    contents = [re.fullmatch(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", part) for part in parts]
    keys = [found[1] for found in contents if found]
    data = [found[2] for found in contents if found]
    assert len(data) == len(parts)
    assert base64.b64decode("".join(data), validate=True) == png
    assert [len(part) for part in data[:-1]] == [4096] * (len(data) - 1)
    assert 0 < len(data[-1]) <= 4096
    last = len(keys) - 1
    assert keys[0] == f"a=T,f=100,r=12,q=2,m={int(last > 0)}"
    assert keys[1:] == [f"q=2,m={int(number < last)}" for number in range(1, last + 1)]


def test_iterm_gets_one_escape() -> None:
    assert list(escapes(b"picture", ITERM, "height", 12)) == [
        "\x1b]1337;File=inline=1;height=12;preserveAspectRatio=1:cGljdHVyZQ==\x07"
    ]


@pytest.mark.parametrize(
    ("ratio", "columns", "rows", "expected"),
    [
        (1.0, 79, 12, ("height", 12)),
        (0.01, 79, 12, ("height", 12)),
        (5.0, 79, 12, ("width", 79)),
        (1.0, 9, 12, ("width", 9)),
        (1.0, 79, 1, ("height", 1)),
        (1.0, 0, 12, None),
        (1.0, 79, 0, None),
    ],
)
def test_an_image_fits_into_the_window(
    ratio: float, columns: int, rows: int, expected: tuple[str, int] | None
) -> None:
    assert _box(ratio, columns, rows) == expected


def test_a_wide_image_is_bounded_by_its_width() -> None:
    (part,) = escapes(b"x", KITTY, "width", 79)
    assert part.startswith("\x1b_Ga=T,f=100,c=79,q=2,m=0;")
