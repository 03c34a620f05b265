"""scripts/make_tiny_sudoku.py: rounds a float32 folder to float16, or says why it will not."""

import importlib.util
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.errors import CheckpointError

FOLDER = embedded_folder("tiny-sudoku")


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "scripts" / "make_tiny_sudoku.py"
    spec = importlib.util.spec_from_file_location("make_tiny_sudoku", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path):
    """The embedded checkpoint in float32 again: rounding it once more must change nothing."""
    folder = tmp_path / "source"
    folder.mkdir()
    tensors = load_file(FOLDER / "model.safetensors")
    write_weights(folder, {name: tensor.astype(np.float32) for name, tensor in tensors.items()})
    for name in (
        "config.json",
        "generation_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        (folder / name).write_bytes((FOLDER / name).read_bytes())
    return folder


def write_weights(folder, tensors):
    (folder / "model.safetensors").write_bytes(save(tensors, {"format": "pt"}))


def test_it_makes_the_embedded_folder_byte_for_byte(script, source, tmp_path):
    out = tmp_path / "out"
    summary = script.make(source, out)
    assert summary.startswith(f"{out}: 172 tensors, 2,188,700 numbers, ")
    names = {path.name for path in FOLDER.iterdir()} - {"MODEL.md"}
    assert {path.name for path in out.iterdir()} == names
    for name in names:
        assert (out / name).read_bytes() == (FOLDER / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_it_says_what_the_checkpoint_was_trained_for(script, source, tmp_path):
    """Nothing else in config.json moves: its other bytes are the trained folder's."""
    trained = (source / "config.json").read_text(encoding="utf-8")
    config = json.loads(trained)
    own = config.pop("mlx_diffgemma")
    (source / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    script.make(source, tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_text(encoding="utf-8") == trained
    assert own == {"task": "sudoku", "modes": ["diffusion"]}


def test_others_may_read_what_it_writes(script, source, tmp_path):
    """Once model.safetensors came out as readable by its owner only: save_file does that."""
    out = tmp_path / "out"
    before = os.umask(0o022)
    try:
        script.make(source, out)
    finally:
        os.umask(before)
    for path in [out, *out.iterdir()]:
        assert path.stat().st_mode & stat.S_IROTH, path


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (np.full(4, 1e5, np.float32), "magnitude 1e+05, float16 ends at 65504"),
        (np.array([1, np.nan], np.float32), "magnitude nan"),
        (np.full(4, 1e-6, np.float32), "float16 moves it by"),
        (np.full(4, 1e-9, np.float32), "float16 moves it by"),
        (np.ones(4, np.float16), "dtype float16, expected float32"),
    ],
)
def test_a_tensor_that_float16_cannot_hold_is_refused(script, source, tmp_path, tensor, said):
    write_weights(source, {"fine": np.ones(2, np.float32), "layer.weight": tensor})
    with pytest.raises(CheckpointError, match=r"layer\.weight: ") as refused:
        script.make(source, tmp_path / "out")
    assert said in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_values_near_zero_beside_larger_ones_are_rounding(script):
    half, error = script.to_half("w", np.array([0.5, 1e-9, -3e-6, 0], np.float32))
    assert half.dtype == np.float16
    assert 0 < error < 1e-7


def test_it_overwrites_nothing(script, source, tmp_path):
    with pytest.raises(CheckpointError, match="there already"):
        script.make(source, source)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "processor_config.json", "tokenizer.json"]
)
def test_a_missing_file_is_named(script, source, tmp_path, name):
    (source / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: no such file"):
        script.make(source, tmp_path / "out")


def test_the_command_prints_one_line(script, source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["make_tiny_sudoku.py", str(source), str(tmp_path / "out")])
    assert script.main() == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert script.main() == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
