"""The vision tower: against the reference's numbers, in blocks, and in bounded memory."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from checkpoints import (
    EXPERTS,
    Packing,
    Sizes,
    dequantised_folder,
    fingerprint,
    load_tensors,
    random_image,
    random_tensors,
    write_checkpoint,
    write_folder,
)
from compare import assert_close
from facts import raises
from held import taken_by
from safetensors.numpy import load_file

import mlx_diffgemma as dg
from mlx_diffgemma.errors import ImageError
from mlx_diffgemma.images.pixels import Pixels, Source
from mlx_diffgemma.model import scores
from mlx_diffgemma.model.matrices import DenseMatrix, PackedMatrix
from mlx_diffgemma.model.vision import VisionTower

GOLDEN = Path(__file__).parents[1] / "golden"
TOWERS: dict[str, Any] = json.loads((GOLDEN / "towers.json").read_text(encoding="utf-8"))


def pixels(width: int, height: int, key: int = 0) -> Pixels:
    """Noise of width x height soft tokens, as given."""
    return Pixels(random_image(width, height, key), 48 * width, 48 * height, Source(None, ""))


def load_tower(folder: Path, dtype: mx.Dtype = mx.float32, **tower: Any) -> VisionTower:
    """The tower of a random checkpoint; `tower` is what vision_config has otherwise."""
    write_checkpoint(folder, Sizes("f", vision=True, tower=tower))
    made = dg.load_model(folder, dtype=dtype).vision
    assert made is not None
    return made


@pytest.mark.parametrize("name", TOWERS)
def test_soft_tokens_are_the_references(name: str, tmp_path: Path) -> None:
    """Before and after the projection; the reference took all images of a case as one batch."""
    entry = TOWERS[name]
    sizes = Sizes(**entry["sizes"])
    tensors = random_tensors(sizes)
    assert fingerprint(tensors) == entry["sha256"], "other weights than the file was made of"
    model = dg.load_model(write_checkpoint(tmp_path, sizes, tensors=tensors), dtype=mx.float32)
    assert model.vision is not None
    arrays, tolerances = load_file(GOLDEN / f"tower_{name}.safetensors"), entry["tolerances"]
    for number, size in enumerate(entry["images"]):
        image, what = pixels(*size, number), f"{name}, {size[0]} x {size[1]}"
        before = model.vision.soft_tokens(image)
        assert_close(before, arrays[f"before.{number}"], tolerances["before"], f"{what}: before")
        (after,) = model.image_features([image])
        assert_close(after, arrays[f"after.{number}"], tolerances["after"], f"{what}: after")


# --- many images


def test_images_do_not_touch_one_another(tmp_path: Path) -> None:
    """Each has its own sides; together, in any order, they are what each is alone."""
    write_checkpoint(tmp_path, Sizes("f", vision=True))
    model = dg.load_model(tmp_path, dtype=mx.float32)
    images = [pixels(2, 1, 1), pixels(1, 3, 2), pixels(2, 2, 3)]
    alone = [model.image_features([image])[0] for image in images]
    for order in ([0, 1, 2], [2, 0, 1]):
        together = model.image_features([images[number] for number in order])
        for number, features in zip(order, together, strict=True):
            assert features.shape == (images[number].soft_tokens, 32)
            assert mx.array_equal(features, alone[number])


def test_the_place_of_a_patch_counts(tmp_path: Path) -> None:
    """The same patches, laid 3 x 2 and 2 x 3 in soft tokens, are other images."""
    made = load_tower(tmp_path)
    wide, tall = pixels(3, 2), pixels(2, 3)
    tall.rgb[:] = wide.rgb.reshape(tall.rgb.shape)
    assert float(mx.abs(made(wide) - made(tall)).max()) > 0.1


@pytest.mark.parametrize(("width", "height"), [(33, 1), (1, 33)])
def test_a_patch_beyond_the_position_tables(tmp_path: Path, width: int, height: int) -> None:
    """Bug: MLX checks no bounds, and the lookup took what lies behind the table."""
    made, sides = load_tower(tmp_path), f"{3 * width} x {3 * height} patches"
    given = f"{48 * width} x {48 * height} pixels"
    with raises(ImageError, given, sides, "at most 96", "image_tokens"):
        made(pixels(width, height))
    assert made(pixels(min(width, 32), min(height, 32))).shape == (32, 32)


# --- blocks, memory


@pytest.mark.parametrize("most", [1, 5_000, 40_000])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_attention_in_blocks_is_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, dtype: mx.Dtype
) -> None:
    """54 patches, two heads: 5,832 scores; a row of one head, about all of one, a block of rows."""
    made, image = load_tower(tmp_path, dtype), pixels(3, 2)
    whole = made(image)
    monkeypatch.setattr(scores, "MOST_SCORES", most)
    assert mx.array_equal(made(image), whole)


def test_blocks_at_the_published_width() -> None:
    """All 16 heads in one block of 416 queries, 25 blocks a layer, behind 10,080 patches."""
    assert scores.block_sizes(16, 10_080, 10_080) == (16, 416)
    assert -(-10_080 // 416) == 25
    assert scores.MOST_SCORES >= 16 * 416 * 10_080
    assert scores.block_sizes(16, 2_520, 2_520) == (16, 1_280)


def test_memory_is_flat_over_layers_and_given_back(tmp_path: Path) -> None:
    """Eight layers take what one takes: each is evaluated before the next is begun.

    But for the scores of the layer before, which MLX's thread may let go of late.
    """
    peaks = []
    for layers in (1, 8):
        made = load_tower(tmp_path / str(layers), num_hidden_layers=layers)
        image = pixels(4, 3)
        taken = taken_by(partial(made, image))
        peaks.append(taken.peak)
        assert taken.left <= taken.result.nbytes + 1_000
        assert taken.cached < 10_000
    assert peaks[1] < peaks[0] + 1.5 * (4 * 2 * image.patches.shape[0] ** 2), peaks


# --- packed


@pytest.mark.parametrize("mode", ["affine", "mxfp8"])
def test_packed_matrices_wherever_they_are(tmp_path: Path, mode: str) -> None:
    """By `.scales` alone: the projections, the layers' matrices, and that of the patches."""
    sizes = Sizes("f", hidden_size=32, vision=True, tower={"hidden_size": 64, "head_dim": 32})
    dense = write_checkpoint(tmp_path / "dense", sizes)
    packing = Packing(mode, 8, 32)
    packed = packed_tower(dense, tmp_path / "packed", packing)
    tower = dg.load_model(packed, dtype=mx.float32).vision
    assert tower is not None
    parts = [tower.patch, tower.projection]
    for layer in tower.layers:
        parts += [layer.attention.qkv, layer.attention.out, layer.mlp.gate_up, layer.mlp.down]
    kinds = [type(part) for part in parts]
    assert kinds.count(DenseMatrix) == 2  # 24 numbers are no multiple of 32: down, in each layer
    assert kinds.count(PackedMatrix) == len(kinds) - 2
    unpacked = dg.load_model(dequantised_folder(packed, tmp_path / "unpacked"), dtype=mx.float32)
    (want,) = unpacked.image_features([pixels(2, 1)])
    assert_close(tower(pixels(2, 1)), want, 1e-4, f"packed as {mode}")


def packed_tower(folder: Path, out: Path, packing: Packing) -> Path:
    """An MLX folder in which every matrix of the tower that can be packed is; the text is not."""
    config = json.loads((folder / "config.json").read_text())
    arrays: dict[str, mx.array] = {}
    for name, weight in load_tensors(folder).items():
        module = name.removesuffix(".weight")
        fits = weight.ndim == 2 and weight.shape[-1] % packing.group_size == 0
        if "vision" in name and module != name and fits:
            arrays |= {f"{module}.{kind}": part for kind, part in packing.pack(weight).items()}
        else:
            arrays[f"{name}.weight" if EXPERTS.search(name) else name] = weight
    quantization = {"mode": packing.mode, **packing.entry()}
    both = dict.fromkeys(("quantization", "quantization_config"), quantization)
    return write_folder(out, config | both, arrays)
