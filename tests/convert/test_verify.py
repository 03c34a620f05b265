"""The check of a folder: what it finds, and what it must not let pass."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import (
    Packing,
    Sizes,
    load_tensors,
    published,
    quantise_folder,
    save_tensors,
    vision_aside,
    write_checkpoint,
)
from converting import SIZES, converted
from held import peak_of

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.convert.compare import largest_error
from mlx_diffgemma.convert.passes import (
    distance,
    first_step_log_probabilities,
    image_features,
)
from mlx_diffgemma.convert.verify import ImageCheck, verify
from mlx_diffgemma.errors import CheckpointError, ConvertError
from mlx_diffgemma.images.pixels import Pixels, Source

FILE = "model.safetensors"
EXPERTS = "model.decoder.layers.0.experts.gate_up_proj"


@pytest.fixture
def out(tmp_path: Path, source: Path) -> Path:
    converted(source, tmp_path / "out")
    return tmp_path / "out"


def edit_tensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    arrays = load_tensors(folder)
    mx.eval(arrays)
    change(arrays)
    save_tensors(folder / FILE, arrays)
    return folder


def without_manifest(folder: Path) -> Path:
    (folder / "conversion.json").unlink()
    return folder


# --- what it finds


def test_a_whole_folder(out: Path, source: Path) -> None:
    checked = verify(out, source)
    assert checked.hashed_files == len(list(out.iterdir())) - 1
    errors = {(part.part, part.packing.partition(" ")[0]): part for part in checked.parts}
    assert 0.04 < errors["experts", "4-bit"].relative_rms < 0.1
    for part in ("embedding", "attention", "dense MLP", "router"):
        assert 0.003 < errors[part, "8-bit"].relative_rms < 0.008
    assert errors["norms", "none"].relative_rms == 0
    assert errors["vision", "none"].relative_rms == 0
    assert checked.decoder is not None
    assert 0 < checked.decoder.mean_kl <= checked.decoder.largest_kl < 0.5
    assert checked.decoder.positions == SIZES.canvas_length


def test_an_image_through_both_towers(tmp_path: Path) -> None:
    """The tower is copied, its projection packed to 4 bits: only that moves the features."""
    sizes = replace(SIZES, tower={"hidden_size": 64})
    source = write_checkpoint(tmp_path / "source", sizes, dtype="bfloat16")
    converted(source, tmp_path / "out")
    image = verify(tmp_path / "out", source).image
    assert image is not None
    assert image.soft_tokens == 6
    assert image.relative_rms is not None
    assert 0.02 < image.relative_rms < 0.15


def test_a_tower_that_is_copied_whole_gives_the_same_features(tmp_path: Path, source: Path) -> None:
    converted(source, tmp_path / "kept", embed_vision=False)
    assert verify(tmp_path / "kept", source).image == ImageCheck(6, 0.0)
    assert verify(tmp_path / "kept").image == ImageCheck(6, None)


def test_a_text_only_folder_has_no_image_to_check(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "text", replace(SIZES, vision=False), dtype="bfloat16")
    converted(source, tmp_path / "out")
    assert verify(tmp_path / "out", source).image is None


def test_the_image_pass_is_the_towers_own(tmp_path: Path) -> None:
    """A layer at a time gives what the loaded tower gives."""
    folder = write_checkpoint(tmp_path, SIZES)
    rgb = (np.arange(96 * 144 * 3) * 7919 % 251).astype(np.uint8).reshape(96, 144, 3)
    image = Pixels(rgb, 144, 96, Source(None, ""))
    (expected,) = dg.load_model(folder, mx.float32).image_features([image])
    assert np.array_equal(image_features(folder), np.array(expected))


def test_the_tower_is_read_a_layer_at_a_time(tmp_path: Path) -> None:
    """Of eight layers of 1.6 MB, in float32 12.9 MB, no more than two are there at once."""
    tower = {"hidden_size": 64, "intermediate_size": 2048, "num_hidden_layers": 8}
    folder = write_checkpoint(tmp_path, replace(SIZES, tower=tower))
    assert peak_of(lambda: image_features(folder)) < 8_000_000


def test_a_source_with_its_tower_in_a_side_file(tmp_path: Path, source: Path) -> None:
    """OptiQ's: the converted folder carries the tower in its shards."""
    converted(source, tmp_path / "beside", "none")
    aside = vision_aside(source)
    result = converted(aside, tmp_path / "out", "none")
    assert result.tensor_count == len(load_tensors(tmp_path / "beside"))
    assert not (tmp_path / "out/optiq").exists()
    assert verify(tmp_path / "out", aside).image == ImageCheck(6, 0.0)
    listed = json.loads((tmp_path / "out/conversion.json").read_text())["source"]["files"]
    assert "optiq_vision.safetensors" in [entry["name"] for entry in listed]


def test_numbers_counted(out: Path, source: Path) -> None:
    parts = verify(out, source).parts
    expected = sum(array.size for array in load_tensors(source).values())
    assert sum(part.parameters for part in parts) == expected


def test_alone(out: Path) -> None:
    checked = verify(out)
    assert (checked.parts, checked.decoder) == ((), None)
    assert 0 < checked.mean_entropy < np.log(SIZES.vocab_size)


def test_a_folder_without_a_manifest(tmp_path: Path, source: Path) -> None:
    """As others write it: all but the hashes is checked."""
    four = Packing("affine", 4, 64)
    theirs = quantise_folder(source, tmp_path / "theirs", four, published(four))
    checked = verify(theirs, source)
    assert checked.hashed_files is None
    assert checked.decoder is not None


def test_the_decoder_pass_is_the_networks_own(tmp_path: Path) -> None:
    """A layer at a time gives what the loaded network gives."""
    folder = write_checkpoint(tmp_path, SIZES)
    rows = first_step_log_probabilities(folder)
    model = dg.load_model(folder, mx.float32)
    ids = (np.arange(8 + SIZES.canvas_length) * 7919 + 2) % SIZES.vocab_size
    prefix = model.encode(ids[:8].tolist())
    logits = np.array(model.logits(model.decode(mx.array(ids[8:]), prefix))[0]).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    assert np.abs(rows - expected).max() < 1e-5


def test_the_table_and_a_layer_are_not_held_together(tmp_path: Path) -> None:
    """Both are 3 GB in float32 at the real width; here 10.2 and 12.6 MB, and a layer's work."""
    sizes = Sizes(
        "sf",
        vocab_size=40_000,
        hidden_size=64,
        num_experts=32,
        moe_intermediate_size=512,
        head_dim=16,
    )
    folder = write_checkpoint(tmp_path, sizes)
    assert peak_of(lambda: first_step_log_probabilities(folder)) < 31e6


def test_distance_is_kl() -> None:
    p, q = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    got = distance(p, q)
    kl = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert got.mean_kl == pytest.approx(kl / 2)
    assert got.largest_kl == pytest.approx(kl)
    assert (got.same_choice, got.positions) == (1, 2)


# --- what it must not let pass


def failing(folder: Path, against: Path | None, kind: type[Exception], *words: str) -> None:
    with pytest.raises(kind) as caught:
        verify(folder, against)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"


@pytest.mark.parametrize("name", [FILE, "config.json", "tokenizer.json"])
def test_a_changed_file(out: Path, name: str) -> None:
    content = bytearray((out / name).read_bytes())
    content[-2] ^= 1
    (out / name).write_bytes(content)
    failing(out, None, ConvertError, name, "sha256", "has changed")


def test_a_file_that_is_gone(out: Path) -> None:
    (out / "tokenizer.json").unlink()
    failing(out, None, ConvertError, "tokenizer.json", "missing")


@pytest.mark.parametrize(
    "files", [["model.safetensors"], [{"name": 1, "bytes": "x", "sha256": 2}], None]
)
def test_a_manifest_that_lists_nothing(out: Path, files: object) -> None:
    (out / "conversion.json").write_text(json.dumps({"files": files}))
    failing(out, None, ConvertError, "conversion.json", "lists no files")


def test_a_missing_tensor(out: Path) -> None:
    edit_tensors(without_manifest(out), lambda t: t.pop(f"{EXPERTS}.scales"))
    failing(out, None, CheckpointError, EXPERTS)


def test_halves_of_the_experts_swapped(out: Path, source: Path) -> None:
    """The same shapes, the same hashes' absence: only the numbers tell."""

    def swap(tensors: dict[str, Any]) -> None:
        for kind in ("weight", "scales", "biases"):
            gate, up = mx.split(tensors[f"{EXPERTS}.{kind}"], 2, axis=1)
            tensors[f"{EXPERTS}.{kind}"] = mx.concatenate([up, gate], axis=1)

    edit_tensors(without_manifest(out), swap)
    failing(out, source, ConvertError, "experts: relative RMS error")


@pytest.mark.slow
def test_one_wrong_tensor_among_many(tmp_path: Path) -> None:
    """In the mean over 21 layers of experts it would be small enough."""
    sizes = replace(SIZES, layers="s" * 20 + "f", vision=False)
    source = write_checkpoint(tmp_path / "deep", sizes, dtype="bfloat16")
    converted(source, tmp_path / "out")

    def swap(tensors: dict[str, Any]) -> None:
        for kind in ("weight", "scales", "biases"):
            gate, up = mx.split(tensors[f"{EXPERTS}.{kind}"], 2, axis=1)
            tensors[f"{EXPERTS}.{kind}"] = mx.concatenate([up, gate], axis=1)

    verify(tmp_path / "out", source)
    edit_tensors(without_manifest(tmp_path / "out"), swap)
    failing(tmp_path / "out", source, ConvertError, f"of {EXPERTS}.weight")


def test_zeros_are_zeros_packed(tmp_path: Path, source: Path) -> None:
    def clear(tensors: dict[str, Any]) -> None:
        tensors[EXPERTS] = mx.zeros_like(tensors[EXPERTS])

    edit_tensors(source, clear)
    for quantize in ("4bit", "mxfp4", "mxfp8", "nvfp4"):
        converted(source, tmp_path / quantize, quantize)
        verify(tmp_path / quantize, source)


def test_a_norm_that_is_not_the_sources(out: Path, source: Path) -> None:
    name = "model.decoder.layers.1.input_layernorm.weight"
    edit_tensors(without_manifest(out), lambda t: t.update({name: t[name] * 1.5}))
    failing(out, source, ConvertError, "norms: relative RMS error")


def test_scales_that_are_not_finite(out: Path) -> None:
    def spoil(tensors: dict[str, Any]) -> None:
        tensors[f"{EXPERTS}.scales"][1, 2, 0] = float("inf")

    edit_tensors(without_manifest(out), spoil)
    failing(out, None, ConvertError, "not finite")


def test_a_part_that_is_gone(out: Path, source: Path) -> None:
    """A folder loads without its vision tower; it is not what the source was."""

    def strip(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if "vision" in name]:
            del tensors[name]

    edit_tensors(without_manifest(out), strip)
    failing(out, source, ConvertError, "vision", "but not in")


@pytest.mark.parametrize(
    "sizes",
    [
        replace(SIZES, hidden_size=128),
        replace(SIZES, vocab_size=512),
        replace(SIZES, num_experts=8),
        replace(SIZES, layers="ssf"),
        replace(SIZES, layers="f"),
    ],
)
def test_a_source_of_another_size(tmp_path: Path, out: Path, sizes: Sizes) -> None:
    other = write_checkpoint(tmp_path / "other", sizes, dtype="bfloat16")
    failing(out, other, ConvertError, "was one made from the other?")


def test_another_source(tmp_path: Path, out: Path) -> None:
    other = write_checkpoint(tmp_path / "other", replace(SIZES, seed=5), dtype="bfloat16")
    failing(out, other, ConvertError, "relative RMS error", "was it made from")


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_normal_numbers_pass_and_twice_the_limit_does_not(bits: int) -> None:
    """The limits are for rounding: normal numbers keep a third of them."""
    packing = QuantizationConfig("affine", bits, 64)
    numbers = mx.random.normal((512, 256), key=mx.random.key(1))
    packed = mx.quantize(numbers, 64, bits)
    back = mx.dequantize(*packed, group_size=64, bits=bits)
    error = float(mx.linalg.norm(back - numbers) / mx.linalg.norm(numbers))  # type: ignore[arg-type]
    assert 0.25 < error / largest_error(packing) < 0.5 or bits == 2
    assert error < largest_error(packing)


@pytest.mark.parametrize(
    ("mode", "bits", "group"), [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
)
def test_the_same_for_floating_point_modes(mode: str, bits: int, group: int) -> None:
    packing = QuantizationConfig(mode, bits, group)
    numbers = mx.random.normal((512, 256), key=mx.random.key(1))
    weight, scales = mx.quantize(numbers, group, bits, mode)
    back = mx.dequantize(weight, scales, None, group, bits, mode, dtype=mx.float32)
    error = float(mx.linalg.norm(back - numbers) / mx.linalg.norm(numbers))  # type: ignore[arg-type]
    assert 0.2 < error / largest_error(packing) < 0.5
