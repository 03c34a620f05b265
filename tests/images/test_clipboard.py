"""The clipboard, with programs in place of those that read it."""

import stat
from pathlib import Path

import pytest
from facts import raises
from PIL import Image

from mlx_diffgemma.errors import ImageError
from mlx_diffgemma.images.clipboard import clipboard_images
from mlx_diffgemma.images.prepare import open_image


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder on the path, for programs to be put in; the screen is X11's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    return folder


def put(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def picture(folder: Path) -> Path:
    file = folder / "picture.png"
    Image.new("RGBA", (3, 2), (10, 20, 30, 255)).save(file)
    return file


def test_a_picture_is_an_image(programs: Path, tmp_path: Path) -> None:
    put(programs, "xclip", f"cat '{picture(tmp_path)}'")
    (found,) = clipboard_images()
    assert (found.size, found.getpixel((2, 1))) == ((3, 2), (10, 20, 30, 255))
    opened = open_image(found)
    assert (opened.width, opened.height, opened.source.path) == (3, 2, None)


@pytest.mark.parametrize(
    ("script", "facts"),
    [
        ("echo 'Error: target image/png not available' >&2; exit 1", "clipboard ... no picture"),
        ("echo 'xclip: no display' >&2; exit 1", "clipboard ... no display ... name a file"),
        ("echo not a picture", "clipboard ... name a file"),
        ("head -c 40 '{picture}'", "clipboard ... name a file"),
    ],
)
def test_no_picture_is_one_line(programs: Path, tmp_path: Path, script: str, facts: str) -> None:
    put(programs, "xclip", script.format(picture=picture(tmp_path)))
    with raises(ImageError, facts):
        clipboard_images()


def test_no_program_is_one_line(programs: Path) -> None:
    with raises(ImageError, "wl-paste ... xclip ... name a file"):
        clipboard_images()


def test_files_copied_in_finder(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go before the picture, which would be a file's icon."""
    monkeypatch.setattr("sys.platform", "darwin")
    put(programs, "osascript", "printf '/Users/me/a b.png\\n/Users/me/caf\\303\\251.png\\n'")
    assert clipboard_images() == [Path("/Users/me/a b.png"), Path("/Users/me/café.png")]


def test_a_picture_on_macos(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """osascript prints a picture as «data PNGf...»; no files are there, or it cannot say."""
    monkeypatch.setattr("sys.platform", "darwin")
    written = picture(tmp_path).read_bytes().hex().upper()
    for files in ("echo", "echo error >&2; exit 1"):
        case = f'if [ "$1" = -l ]; then {files}; else printf "«data PNGf%s»\\n" {written}; fi'
        put(programs, "osascript", case)
        (found,) = clipboard_images()
        assert found.size == (3, 2)
    put(programs, "osascript", 'test "$1" = -l')
    with raises(ImageError, "clipboard ... no picture"):
        clipboard_images()
