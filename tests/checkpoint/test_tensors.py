"""Tensors as headers promise them: numbers counted, and arrays that take no memory."""

from pathlib import Path

import mlx.core as mx
import pytest
from checkpoints import Packing, Sizes, quantise_folder, write_checkpoint
from held import settled

from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.quantization import MODES, QuantizationConfig
from mlx_diffgemma.checkpoint.tensors import PromisedTensors, Tensors

WIDTHS = [(mode, bits) for mode, (widths, _) in MODES.items() for bits in widths]


@pytest.mark.parametrize(("mode", "bits"), WIDTHS)
def test_words_hold_as_many_numbers_as_mlx_packs(mode: str, bits: int) -> None:
    group = MODES[mode][1][-1]
    packing, numbers = QuantizationConfig(mode, bits, group), 4 * 128
    words = mx.quantize(mx.zeros((2, numbers)), group, bits, mode)[0]
    assert words.shape == (2, packing.words(numbers))
    assert packing.numbers(words.size) == 2 * numbers


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = write_checkpoint(tmp_path_factory.mktemp("source"), Sizes("sf"), dtype="bfloat16")
    four = Packing("affine", 4, 32)
    return quantise_folder(source, tmp_path_factory.mktemp("packed"), four, lambda _: four)


def test_numbers_of_packed_dense_and_auxiliary_tensors(packed: Path) -> None:
    tensors = PromisedTensors(packed, read_config(packed), mx.bfloat16)
    table = "model.decoder.embed_tokens"
    assert tensors.numbers(f"{table}.weight") == 131 * 32
    assert tensors.numbers(f"{table}.scales") == tensors.numbers(f"{table}.biases") == 0
    assert tensors.numbers("model.decoder.norm.weight") == 32
    assert tensors.numbers("model.decoder.layers.0.layer_scalar") == 1


def test_promised_arrays_are_like_those_that_are_read(packed: Path) -> None:
    config, table = read_config(packed), "model.decoder.embed_tokens"
    before = settled()
    promised = PromisedTensors(packed, config, mx.float32).weight(table, 131, 32)
    assert settled() - before < 100
    read = Tensors(packed, config, mx.float32).weight(table, 131, 32)
    for name in ("weight", "scales", "biases"):
        mine, theirs = getattr(promised, name), getattr(read, name)
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
