"""Shards by name: those that an index or their own numbers ask for, and none elsewhere."""

import json
from pathlib import Path

import pytest
from facts import raises

from mlx_diffgemma.checkpoint.shards import named_shards, shard_files
from mlx_diffgemma.errors import CheckpointError

INDEX = "model.safetensors.index.json"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def write_index(folder: Path, *names: object) -> None:
    weight_map = {str(number): name for number, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (("model-00001-of-00003.safetensors",), "model-00002-of-00003.safetensors"),
        (("model-00003-of-00003.safetensors",), "model-00001-of-00003.safetensors"),
        (("a-1-of-2.safetensors", "b-2-of-2.safetensors"), "a-2-of-2.safetensors"),
    ],
)
def test_a_numbered_shard_asks_for_the_others(
    tmp_path: Path, there: tuple[str, ...], missing: str
) -> None:
    """Bug: without an index, one of three shards was the whole checkpoint."""
    touch(tmp_path, *there)
    with raises(CheckpointError, tmp_path / missing, "not found", there[0], "names it"):
        shard_files(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        ("model.safetensors", "more.safetensors"),
        ("model-00003-of-00002.safetensors",),
        ("model-1-of-99999999.safetensors",),
    ],
)
def test_shards_that_ask_for_no_other(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names, "._model-00001-of-00009.safetensors")
    assert [file.name for file in shard_files(tmp_path)] == list(names)
    assert named_shards(tmp_path)[0] == shard_files(tmp_path)


@pytest.mark.parametrize(
    "name", [7, None, "", "/etc/passwd", "../model.safetensors", "a\0b", ["x"]]
)
def test_an_index_names_files_of_its_folder(tmp_path: Path, name: object) -> None:
    touch(tmp_path, "model.safetensors")
    write_index(tmp_path, "model.safetensors", name)
    with raises(CheckpointError, tmp_path / INDEX, "no name of a file in here"):
        shard_files(tmp_path)


def test_a_name_without_end_is_cut(tmp_path: Path) -> None:
    write_index(tmp_path, "x" * 100_000)
    with raises(CheckpointError, "not found", INDEX, "names it", most=500):
        shard_files(tmp_path)


def test_the_side_file_comes_last_and_once(tmp_path: Path) -> None:
    """OptiQ's vision tower lies in a folder of its own, which no pattern of shards finds."""
    side = "optiq/optiq_vision.safetensors"
    (tmp_path / "optiq").mkdir()
    touch(tmp_path, "model.safetensors", side, "optiq/other.safetensors")
    expected = [tmp_path / "model.safetensors", tmp_path / side]
    assert shard_files(tmp_path) == expected
    write_index(tmp_path, "model.safetensors", side)
    assert shard_files(tmp_path) == expected
    write_index(tmp_path, "model.safetensors")
    assert shard_files(tmp_path) == expected


def test_a_lost_side_file_is_told_from_none(tmp_path: Path) -> None:
    touch(tmp_path, "model.safetensors")
    (tmp_path / "optiq").mkdir()
    side = tmp_path / "optiq/optiq_vision.safetensors"
    side.symlink_to(tmp_path / "gone")
    with raises(CheckpointError, side, "link to nothing"):
        shard_files(tmp_path)


def test_a_lost_shard_is_told_from_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    with raises(CheckpointError, tmp_path / "model.safetensors", "not found ... link to nothing"):
        shard_files(tmp_path)
