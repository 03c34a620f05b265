"""Text to the clipboard: which way, and what is written."""

import base64
import sys
from pathlib import Path

import pytest
from facts import assert_says, raises

from mlx_diffgemma.cli.chat import clipboard
from mlx_diffgemma.cli.errors import FileError


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, the only one in $PATH; each writes what it is given to NAME.got."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "TMUX", "SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("pbcopy", "wl-copy", "xclip", "tmux"):
        tool = tmp_path / name
        tool.write_text(f'#!/bin/sh\nexec /bin/cat > "{tool}.got"\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "environ", "names"),
    [
        ("darwin", {}, ["pbcopy"]),
        ("darwin", {"TMUX": "x"}, ["pbcopy", "tmux"]),
        ("darwin", {"SSH_TTY": "/dev/pts/1", "TMUX": "x"}, ["tmux"]),
        ("linux", {"WAYLAND_DISPLAY": "w", "DISPLAY": ":0"}, ["wl-copy", "xclip"]),
        ("linux", {"DISPLAY": ":0", "SSH_CONNECTION": "a b"}, []),
        ("linux", {}, []),
    ],
)
def test_programs_of_this_screen(
    tools: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    environ: dict[str, str],
    names: list[str],
) -> None:
    """Over ssh a program would fill the clipboard of the far machine."""
    monkeypatch.setattr(sys, "platform", platform)
    assert list(clipboard.programs(environ)) == names


def test_the_first_program_that_works_has_the_text(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYLAND_DISPLAY", "w")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys, "platform", "linux")
    assert_says(clipboard.copy("Grüße\n"), "6 characters ... wl-copy")
    assert (tools / "wl-copy.got").read_text() == "Grüße\n"
    (tools / "wl-copy").write_text("#!/bin/sh\nexit 1\n")
    assert_says(clipboard.copy("two"), "3 characters ... xclip")
    assert (tools / "xclip.got").read_text() == "two"


def test_else_the_terminal_is_asked(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clipboard, "can_draw", lambda stream: True)
    assert_says(clipboard.copy("Grüße"), "5 characters ... terminal ... OSC 52")
    written = capsys.readouterr().err
    assert written == f"\x1b]52;c;{base64.b64encode('Grüße'.encode()).decode()}\x07"
    (tools / "tmux").write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("TMUX", "x")
    clipboard.copy("Grüße")
    assert capsys.readouterr().err == f"\x1bPtmux;\x1b{written}\x1b\\"
    with raises(FileError, "100,000 characters ... terminals"):
        clipboard.copy("x" * 100_000)


def test_without_any_of_them_it_is_one_line(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipboard, "can_draw", lambda stream: False)
    with raises(FileError, "no terminal ... pbcopy ... /save FILE"):
        clipboard.copy("x")
