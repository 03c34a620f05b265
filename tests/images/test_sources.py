"""Paths, bytes and streams: read, or refused in one line."""

import os
import threading
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from facts import raises
from pictures import file_of, picture

from mlx_diffgemma.errors import ImageError
from mlx_diffgemma.images.sources import read
from mlx_diffgemma.machine import files

DATA = file_of(picture((9, 7)), "PNG")


def test_a_leading_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(DATA)
    monkeypatch.setenv("HOME", str(tmp_path))
    content = read("~/a.png")
    assert (content.data, content.source.path) == (DATA, str(tmp_path / "a.png"))


def test_a_name_may_have_spaces_and_be_no_ascii(tmp_path: Path) -> None:
    file = tmp_path / "Bildschirmfoto 2026 um 9.41\u202fPM – ä.png"
    file.write_bytes(DATA)
    assert read(file).data == DATA


def test_a_link_keeps_its_own_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(DATA)
    (tmp_path / "link.png").symlink_to("a.png")
    assert read(tmp_path / "link.png").source.path == str(tmp_path / "link.png")


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("absent.png", "absent.png ... No such file"),
        (".", ". ... directory"),
        ("", "path ... empty"),
        ("a\0b.png", r"a\x00b.png ... null"),
        ("x" * 5000, "File name too long"),
        ("~no-such-user-here/a.png", "~no-such-user-here/a.png"),
        ("a.png/b.png", "a.png/b.png ... Not a directory"),
    ],
)
def test_a_path_that_leads_nowhere_is_one_line(
    path: str, facts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(DATA)
    with raises(ImageError, facts):
        read(path)


def test_a_path_that_may_not_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "a.png")

    monkeypatch.setattr(Path, "open", refuse)
    with raises(ImageError, "a.png ... Permission denied"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize(
    "url", ["https://example.org/a.png", "HTTP://x/a.png", "data:image/png;base64,aa", "file:///a"]
)
def test_nothing_is_fetched(url: str) -> None:
    with raises(ImageError, url, "fetched"):
        read(url)


def test_a_url_that_became_a_path_is_one_still() -> None:
    with raises(ImageError, "https:/example.org/a.png", "fetched"):
        read(Path("https://example.org/a.png"))


def test_a_file_may_be_called_like_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data:1.png").write_bytes(DATA)
    assert read("data:1.png").data == DATA


# --- streams


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[DATA])
    writer.start()
    assert read(pipe).data == DATA
    writer.join()


def test_a_stream_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_UNSIZED_BYTES", 1 << 20)
    with raises(ImageError, "/dev/zero ... 1 MiB"):
        read("/dev/zero")


def test_a_file_that_is_too_large_is_refused_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(1 << 40)
    with raises(ImageError, "large.png ... 1 MiB"):
        read(tmp_path / "large.png")


def test_standard_input_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(BytesIO):
        name = "<stdin>"

        def read(self, *_: object) -> bytes:
            raise OSError(5, "Input/output error")

    with raises(ImageError, "standard input ... Input/output error"):
        read(Closed())


def test_a_stream_of_text_is_refused() -> None:
    with raises(ImageError, "the image ... text ... bytes"):
        read(StringIO("PNG"))


def test_a_closed_stream_is_one_line() -> None:
    stream = BytesIO(DATA)
    stream.close()
    with raises(ImageError, "the image ... closed"):
        read(stream)
