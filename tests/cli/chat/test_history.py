"""Lines of earlier chats: kept side by side, bounded, and never in a chat's way."""

import os
import shutil
import stat
from pathlib import Path

import pytest
from facts import assert_says

from mlx_diffgemma.cli.chat import history
from mlx_diffgemma.cli.chat.history import KeptHistory, history_file
from mlx_diffgemma.machine.files import json_bytes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.jsonl"


def lines(file: Path) -> list[str]:
    return KeptHistory(file).entries


def test_two_chats_keep_the_lines_of_both(file: Path) -> None:
    one, other = KeptHistory(file), KeptHistory(file)
    for number, chat in enumerate((one, other, one)):
        chat.append_string(f"line {number}\nGrüße \\ \U0001f600")
    assert [entry.partition("\n")[0] for entry in lines(file)] == ["line 0", "line 1", "line 2"]
    assert next(iter(KeptHistory(file).load_history_strings())) == "line 2\nGrüße \\ \U0001f600"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert one.note == other.note == ""


def test_others_may_not_read_it_any_more(file: Path) -> None:
    KeptHistory(file)
    file.chmod(0o644)
    KeptHistory(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_it_is_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_ENTRIES", 5)
    monkeypatch.setattr(history, "SLACK", 2)
    kept = KeptHistory(file)
    for number in range(8):
        kept.append_string(str(number))
    kept.append_string("x" * history.MOST_ENTRY_BYTES)
    assert file.read_bytes().count(b"\n") == 8
    assert lines(file) == ["3", "4", "5", "6", "7"]
    assert file.read_bytes() == b'"3"\n"4"\n"5"\n"6"\n"7"\n'
    kept.append_string("8")  # by a chat that has it open since before
    assert lines(file) == ["4", "5", "6", "7", "8"]


def test_broken_lines_are_left_out_and_said_once(file: Path) -> None:
    KeptHistory(file)
    file.write_bytes(b'"one"\n\xff\xfe\n{"a": 1}\n"tw\n' + json_bytes("three"))
    kept = KeptHistory(file)
    assert kept.entries == ["one", "three"]
    assert_says(kept.note, f"note: {file} ... 3 lines ... no history")


def test_what_cannot_be_written_costs_the_history_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for file in (Path("/dev/null/x"), tmp_path, pipe):
        kept = KeptHistory(file)
        assert_says(kept.note, "note: ... not kept ... --no-history")
        kept.note = ""
        kept.append_string("one")
        assert kept.get_strings() == ["one"]
        assert kept.note == ""
    kept = KeptHistory(tmp_path / "folder" / "history")
    shutil.rmtree(kept.file.parent)
    kept.file.parent.touch()
    kept.append_string("one")
    assert_says(kept.note, "note: ... not kept")


def test_it_lies_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "mlx-diffgemma" / "chat-history.jsonl"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(history_file()).startswith("/home/me/.local/state/mlx-diffgemma/")
