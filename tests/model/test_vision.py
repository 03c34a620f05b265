"""The vision tower: against the reference's numbers, in blocks, and in bounded memory."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from checkpoints import Sizes, fingerprint, random_image, random_tensors, write_checkpoint
from compare import assert_close
from safetensors.numpy import load_file

import mlx_diffgemma as dg
from mlx_diffgemma.images.pixels import Pixels, Source
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
