"""The file of what was tuned: kept, found again by its place alone, and never half there."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says, raises

from mlx_diffgemma.errors import ProfileError
from mlx_diffgemma.machine import tuning
from mlx_diffgemma.machine.choices import Choices
from mlx_diffgemma.machine.tuning import recall, require_storable, store, unreadable_entries

FOUND = Choices(prefill_chunk=512, dense_weights="16-bit", experts_kernels="off")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "mlx-diffgemma" / "tune.json"


def test_what_is_stored_is_recalled(file: Path) -> None:
    assert recall(lambda: "here") is None
    assert require_storable() == file
    assert not file.exists()
    store(file, "here", FOUND)
    store(file, "there", Choices(head_chunk_logits=2**20))
    assert recall(lambda: "here") == FOUND
    assert list(file.parent.iterdir()) == [file]


def test_nothing_better_takes_an_earlier_entry_away(file: Path) -> None:
    store(file, "here", Choices())
    assert not file.exists()
    store(file, "here", FOUND)
    store(file, "here", Choices())
    assert recall(lambda: "here") is None


def test_a_relative_or_missing_config_folder_is_the_homes(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Path.home() / ".config" / "mlx-diffgemma" / "tune.json"
    for base in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", base)
        assert tuning.tuning_file() == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "schema None, expected 1"),
        ('{"schema": 2, "tuned": {}}', "schema 2, expected 1"),
        ('{"schema": 1, "tuned": []}', "schema 1"),
        ("[" * 200_000, "nested"),
        ('{"schema": 1, "tuned": {}, "tuned": {}}', "tuned ... twice"),
        ("\udcff", "is not JSON"),
    ],
)
def test_a_broken_file_is_one_line(file: Path, content: str, said: str) -> None:
    file.parent.mkdir()
    file.write_text(content, errors="surrogateescape")
    for ask in (
        lambda: recall(lambda: "here"),
        require_storable,
        lambda: store(file, "here", FOUND),
    ):
        with raises(ProfileError, file, said, "profile --tune"):
            ask()


WHOLE = asdict(FOUND)
BAD_ENTRIES: dict[str, tuple[Any, str]] = {
    "a field more": ({**WHOLE, "extra": 1}, "extra"),
    "a field less": ({k: v for k, v in WHOLE.items() if k != "dtype"}, "dtype"),
    "another value": ({**WHOLE, "dense_weights": "8-bit"}, "dense_weights ... 8-bit"),
    "two that exclude each other": (
        {**WHOLE, "soft_product": "slices"},
        "soft_product ... slices ... dense_weights",
    ),
    "a fraction": ({**WHOLE, "prefill_chunk": 512.0}, "prefill_chunk ... 512.0"),
    "a list": ([WHOLE], "expected an object"),
    "nothing": (None, "None"),
}


@pytest.mark.parametrize(("entry", "said"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_a_bad_entry_costs_only_itself(file: Path, entry: Any, said: str) -> None:
    """Bug: one with an extra field disabled all of them, and was warned about at every start."""
    store(file, "here", FOUND)
    content = json.loads(file.read_text())
    content["tuned"]["there"] = entry
    file.write_text(json.dumps(content))
    assert recall(lambda: "here") == FOUND
    assert recall(lambda: "there") is None
    (line,) = unreadable_entries(file)
    assert_says(line, "there", said)


@pytest.mark.parametrize("entry", [entry for entry, _ in BAD_ENTRIES.values()], ids=BAD_ENTRIES)
def test_a_bad_entry_stays_until_its_place_is_tuned(file: Path, entry: Any) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"schema": 1, "tuned": {"there": entry}, "more": 1}))
    store(file, "here", FOUND)
    kept = json.loads(file.read_text())
    assert kept == {"schema": 1, "tuned": {"there": entry, "here": WHOLE}, "more": 1}
    store(file, "there", Choices())
    assert unreadable_entries(file) == []
    assert json.loads(file.read_text())["tuned"] == {"here": WHOLE}


def test_a_folder_that_cannot_be_written_is_found_before(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("mlx-diffgemma").write_text("a file where the folder should be")
    with pytest.raises(ProfileError, match="cannot be written"):
        require_storable()
    with pytest.raises(ProfileError, match="cannot be written"):
        store(file, "here", FOUND)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_one_line(file: Path) -> None:
    file.parent.mkdir()
    file.parent.chmod(0o500)
    with pytest.raises(ProfileError, match=r"cannot be written: Permission denied"):
        require_storable()
    file.parent.chmod(0o700)


def test_an_interrupted_replacement_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(file, "here", FOUND)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(ProfileError, match="No space left"):
        store(file, "here", Choices(prefill_chunk=1024))
    assert recall(lambda: "here") == FOUND
    assert list(file.parent.iterdir()) == [file]
