"""Paths in a typed line, as terminals and Finder spell them."""

import os
import unicodedata
from pathlib import Path

import pytest

from mlx_diffgemma.cli.chat.dropped import Dropped, named_files, read_dropped

SCREENSHOT = "Screenshot 2026-11-28 at 9.41.00\u202fAM.png"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home and the current folder, with files whose names are awkward."""
    folder = tmp_path / "home of me"
    folder.mkdir()
    names = (
        "a b.png",
        "c.JPG",
        "it's (1) [x] & y.png",
        'a"q".png',
        "film.mov",
        "note.txt",
        "x.gif",
    )
    for name in (SCREENSHOT, *names, unicodedata.normalize("NFD", "Café.png")):
        (folder / name).write_bytes(b"")
    (folder / "folder.png").mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


def backslashed(path: Path) -> str:
    """As macOS Terminal types it."""
    return "".join(f"\\{c}" if c in " ()[]&'\"" else c for c in str(path))


def quoted(path: Path) -> str:
    """As GNOME Terminal does, and a shell would."""
    return "'" + str(path).replace("'", "'\\''") + "'"


def double_quoted(path: Path) -> str:
    return '"' + str(path).replace('"', '\\"') + '"'


def url(path: Path) -> str:
    return path.as_uri()


def as_it_is(path: Path) -> str:
    """As Finder copies it."""
    return str(path)


@pytest.mark.parametrize("spelling", [backslashed, quoted, double_quoted, url, as_it_is])
@pytest.mark.parametrize(
    "name", [SCREENSHOT, "a b.png", "c.JPG", "it's (1) [x] & y.png", 'a"q".png', "x.gif"]
)
def test_every_spelling_of_every_name(folder: Path, spelling, name: str) -> None:
    path = folder / name
    expected = Dropped((path,), (), "")
    assert read_dropped(spelling(path)) == expected
    assert read_dropped(f"{spelling(path)} ") == expected  # terminals add a blank
    assert read_dropped(f"what is this? {spelling(path)} ") == Dropped((path,), (), "what is this?")
    if spelling is not as_it_is:
        both = f"{spelling(path)} {spelling(folder / 'c.JPG')}"
        assert read_dropped(both) == Dropped((path, folder / "c.JPG"), (), "")
        lines = f"{spelling(path)}\n{spelling(folder / 'c.JPG')}\n"
        assert read_dropped(lines) == read_dropped(both)
        assert read_dropped(f"{spelling(path)} what's it?") == Dropped((path,), (), "what's it?")


def test_the_home_and_other_urls(folder: Path) -> None:
    expected = Dropped((folder / "c.JPG",), (), "")
    place = str(folder).replace(" ", "%20")
    for line in ("~/c.JPG", f"file:{place}/c.JPG", f"FILE://localhost{place}/c.JPG"):
        assert read_dropped(line) == expected


def test_a_path_within_a_sentence_leaves_its_name(folder: Path) -> None:
    one, other = folder / "a b.png", folder / "c.JPG"
    line = f"compare {backslashed(one)} and {backslashed(other)}, please"
    assert read_dropped(line) == Dropped((one, other), (), "compare a b.png and c.JPG, please")
    line = f"{quoted(other)} with {quoted(one)} {quoted(other)}"
    assert read_dropped(line) == Dropped((other, one, other), (), "with")


def test_a_sentence_may_end_behind_a_path(folder: Path) -> None:
    path = folder / "a b.png"
    assert read_dropped(f"what is in {backslashed(path)}?") == Dropped(
        (path,), (), "what is in a b.png?"
    )


def test_videos_are_told_apart(folder: Path) -> None:
    assert read_dropped(f"{backslashed(folder / 'film.mov')} {backslashed(folder / 'c.JPG')}") == (
        Dropped((folder / "c.JPG",), (folder / "film.mov",), "")
    )


def test_blanks_and_accents_that_a_clipboard_has_changed(folder: Path) -> None:
    assert read_dropped(backslashed(folder / SCREENSHOT.replace("\u202f", " "))) == Dropped(
        (folder / SCREENSHOT,), (), ""
    )
    found = read_dropped(str(folder / "Caf\u00e9.png"))
    assert found is not None
    assert unicodedata.normalize("NFC", found.images[0].name) == "Caf\u00e9.png"


@pytest.mark.parametrize(
    "line",
    [
        "what is this?",
        "/help",
        "~/none.png",
        "~/note.txt",
        "~/folder.png",
        " ~/c.JPG",  # a blank in front: a question
        "c.JPG",  # a word, not a path that was dropped
        "a/c.JPG",
        "file:c.JPG",
        "http://example.com/c.JPG",
        "~nobody-of-this-name/c.JPG",
        "'~/c.JPG",
        "/\0.png",
        "/" + "x" * 5000 + ".png",
        "~/c.JPG\\",
        "",
    ],
)
def test_all_else_is_left_alone(folder: Path, line: str) -> None:
    assert read_dropped(line) is None


def test_a_pipe_is_no_dropped_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    assert read_dropped(str(folder / "pipe.png")) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("c.JPG", ["c.JPG"]),
        ("a b.png", ["a b.png"]),
        ("c.JPG x.gif", ["c.JPG", "x.gif"]),
        ("a\\ b.png 'c.JPG'  \"x.gif\"", ["a b.png", "c.JPG", "x.gif"]),
        (f"'{SCREENSHOT}' none", [SCREENSHOT, "none"]),
        (SCREENSHOT.replace("\u202f", " "), [SCREENSHOT]),
        ("it's (1) [x] & y.png", ["it's (1) [x] & y.png"]),
        ("it's none", ["it's none"]),
        ("none.png also", ["none.png", "also"]),
        ("note.txt", ["note.txt"]),
    ],
)
def test_files_behind_a_command(folder: Path, text: str, names: list[str]) -> None:
    assert named_files(text) == [Path(name) for name in names]
    home = named_files("~/c.JPG")
    assert home == [folder / "c.JPG"]
