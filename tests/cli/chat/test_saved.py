"""A conversation as a file."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from facts import raises

from mlx_diffgemma.cli.chat.saved import SavedConversation, load, save
from mlx_diffgemma.cli.errors import ArgumentError, FileError
from mlx_diffgemma.machine import files
from mlx_diffgemma.text.chat import Message

SAID = (Message("user", "空は?\n"), Message("assistant", 'blue "ish"'))
WHOLE = {
    "kind": "mlx-diffgemma conversation",
    "version": 1,
    "model": "m",
    "system": None,
    "messages": [],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "talk.json"


def test_what_is_saved_is_loaded(file: Path) -> None:
    for system in (None, "Be brief."):
        save(file, SavedConversation("owner/model", system, SAID))
        assert load(file) == SavedConversation("owner/model", system, SAID)
    assert [path.name for path in file.parent.iterdir()] == ["talk.json"]


@pytest.mark.parametrize(
    "content", [b"[" * 200_000, json.dumps(WHOLE | {"system": "\ud800"}).encode()]
)
def test_what_could_not_be_used_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(FileError, match="save it again"):
        load(file)


def test_a_byte_order_mark_is_dropped(file: Path) -> None:
    save(file, SavedConversation("m", None, SAID))
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load(file).messages == SAID


def test_a_models_name_may_be_no_utf8(file: Path) -> None:
    """Bug: a folder's name of other bytes ended /save in a traceback."""
    save(file, SavedConversation("a\udcff", None, SAID))
    assert load(file).model == r"a\udcff"


def test_a_pipe_is_not_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(file)
    monkeypatch.setattr(files, "PATIENCE", 0)
    with raises(FileError, "cannot be written", file, "nobody reads this pipe"):
        save(file, SavedConversation("m", None, SAID))


def test_other_files_are_not_replaced(file: Path) -> None:
    file.write_text('{"precious": 1}')
    with pytest.raises(FileError, match="exists and is no saved conversation"):
        save(file, SavedConversation("m", None, SAID))
    assert file.read_text() == '{"precious": 1}'


def test_neither_standard_output_nor_the_models_folder_takes_it(tmp_path: Path) -> None:
    said = SavedConversation("m", None, SAID)
    with raises(ArgumentError, "/save ... standard output"):
        save(Path("-"), said)
    with raises(ArgumentError, "/save", tmp_path / "talk.json", "the model's folder", tmp_path):
        save(tmp_path / "talk.json", said, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_no_name_is_one_line(name: str) -> None:
    with raises(FileError, repr(name), "choose another"):
        save(Path(name), SavedConversation("m", None, SAID))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "none" / "talk.json"
    with raises(FileError, "cannot be written", file, "No such file or directory"):
        save(file, SavedConversation("m", None, SAID))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        ([], "is no saved conversation"),
        ({"kind": "other"}, "is no saved conversation"),
        ({**WHOLE, "version": 3}, "has version 3, expected 1 or 2"),
        ({**WHOLE, "version": True}, "has version True, expected 1 or 2"),
        ({**WHOLE, "messages": [{"role": "user", "content": "x", "media": []}]}, "message 1"),
        ({**WHOLE, "extra": 1}, "missing or unknown keys: extra"),
        ({k: v for k, v in WHOLE.items() if k != "system"}, "missing or unknown keys: system"),
        ({**WHOLE, "messages": {}}, "no list of messages"),
        ({**WHOLE, "messages": [{"role": "system", "content": "x"}]}, "message 1"),
        ({**WHOLE, "messages": [{"role": "user", "content": 1}]}, "message 1"),
        ({**WHOLE, "messages": [{"role": ["user"], "content": ""}]}, "message 1"),
        ({**WHOLE, "messages": ["x"]}, "message 1"),
        ({**WHOLE, "system": 1}, "no text"),
    ],
)
def test_other_files_are_one_line(file: Path, content: Any, part: str) -> None:
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(FileError, match=part) as error:
        load(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_no_file_is_one_line(file: Path) -> None:
    with raises(FileError, "cannot be read", file, "No such file or directory"):
        load(file)
