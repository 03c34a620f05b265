"""All weights of a checkpoint: read as float32 from every kind of folder, and written again."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import (
    Packing,
    Sizes,
    dequantised_folder,
    edit_config,
    load_tensors,
    published,
    quantise_folder,
    random_tensors,
    write_checkpoint,
)

from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.tensors import mlx_name
from mlx_diffgemma.finetune.whole import read_weights
from mlx_diffgemma.finetune.whole import write_checkpoint as write_whole
from mlx_diffgemma.model.weights import load_network

SIZES = Sizes("sf", hidden_size=64, intermediate_size=64, moe_intermediate_size=64, vision=True)
PACKED = Packing("affine", 4, 64)


def plain(folder: Path) -> Path:
    return write_checkpoint(folder, SIZES)


def one_by_one(folder: Path) -> Path:
    return write_checkpoint(folder, SIZES, per_expert=True, strays=True, shards=2)


def packed(folder: Path) -> Path:
    source = write_checkpoint(folder.with_name("source"), SIZES)
    return quantise_folder(source, folder, PACKED, published(PACKED))


def expected(folder: Path, kind: Callable[[Path], Path]) -> dict[str, mx.array]:
    if kind is packed:
        return load_tensors(dequantised_folder(folder, folder.with_name("dense")))
    return {name: mx.array(array) for name, array in random_tensors(SIZES).items()}


@pytest.mark.parametrize("kind", [plain, one_by_one, packed])
def test_every_number_is_read_and_written(tmp_path: Path, kind: Callable[[Path], Path]) -> None:
    folder = kind(tmp_path / "folder")
    numbers = {mlx_name(n): array for n, array in expected(folder, kind).items()}
    values = read_weights(folder)
    text = {name for name in numbers if "vision" not in name}
    assert set(values) == text
    for name, value in values.items():
        assert value.dtype == mx.float32
        assert np.array_equal(np.asarray(value), np.asarray(numbers[name])), name
    write_whole(folder, tmp_path / "out", {name: 2 * value for name, value in values.items()})
    written = load_tensors(tmp_path / "out")
    assert set(written) == set(numbers)
    for name, array in written.items():
        factor = 2 if name in text else 1
        assert np.array_equal(np.asarray(array), factor * np.asarray(numbers[name])), name
    config = read_config(tmp_path / "out")
    assert (config.quantization, config.dtype) == (None, "float32")
    assert load_network(tmp_path / "out").dropped == ()


def test_settings_and_tokenizer_come_along(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "folder", SIZES, generation={"max_denoising_steps": 3})
    edit_config(folder, lambda config: config.update(torch_dtype="bfloat16"))
    (folder / "tokenizer.json").write_text("{}")
    write_whole(folder, tmp_path / "out", read_weights(folder))
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert (tmp_path / "out" / "generation_config.json").exists()
    assert read_config(tmp_path / "out").dtype == "float32"
