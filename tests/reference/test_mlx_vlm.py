"""Interchange with mlx-vlm: folders of ours load there, folders of theirs load here, bit for bit.

Their side is their own code: `load_model`, and the steps of their `convert` in its order. Logits
are compared with float32 activations on one prompt and one canvas.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Sizes, load_tensors, random_image, write_checkpoint
from compare import assert_close

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.convert.plan import make_plan
from mlx_diffgemma.convert.quantize import RecipeOptions, make_recipe
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.convert.run import convert
from mlx_diffgemma.convert.verify import verify
from mlx_diffgemma.images.pixels import Pixels, Source

mlx_vlm = pytest.importorskip("mlx_vlm", reason="mlx-vlm is not installed: interchange not checked")

pytestmark = [
    pytest.mark.reference,
    # their imports, and the libraries those import
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
]

TOLERANCE = 1e-4
FEATURES = 1e-4  # values to 4
PROMPT, CANVAS = [2, 17, 5, 90, 33], [7, 8, 9, 10, 77, 12, 3, 101]
SIZES = Sizes(
    "ssf",
    vocab_size=128,
    hidden_size=128,
    intermediate_size=64,
    moe_intermediate_size=64,
    head_dim=32,
    global_head_dim=64,
    sliding_window=16,
    eos_token_id=1,
)
# Their quantize_model's arguments: group size, bits and mode.
RECIPES: Mapping[str, tuple[int, int, str]] = {
    "4bit": (64, 4, "affine"),
    "5bit": (64, 5, "affine"),
    "6bit": (64, 6, "affine"),
    "8bit": (64, 8, "affine"),
    "mxfp4": (32, 4, "mxfp4"),
    "mxfp8": (32, 8, "mxfp8"),
    "nvfp4": (16, 4, "nvfp4"),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    generation = {"eos_token_id": [1, 106, 50], "max_denoising_steps": 3}
    return write_checkpoint(tmp_path / "source", SIZES, dtype="bfloat16", generation=generation)


def theirs(source: Path, out: Path, quantize: str) -> Path:
    """What `mlx_vlm.convert` does between loading the model and its processor, and saving them."""
    from mlx_vlm.quant_utils import quantize_model
    from mlx_vlm.utils import (
        load_config,
        load_model,
        save_config,
        save_weights,
        skip_multimodal_module,
    )

    model = load_model(source, lazy=True)
    config: dict[str, Any] = load_config(source)

    def predicate(path: str, module: Any) -> Any:
        return False if skip_multimodal_module(path) else model.quant_predicate(path, module)

    group_size, bits, mode = RECIPES[quantize]
    model, config = quantize_model(
        model, config, group_size, bits, mode=mode, quant_predicate=predicate
    )
    save_weights(out, model, donate_weights=True)
    save_config(config, config_path=out / "config.json")
    return out


def ours(source: Path, out: Path, quantize: str, **options: Any) -> Path:
    recipe = make_recipe(RecipeOptions(quantize, **options))
    convert(make_plan(open_checkpoint(source), recipe), out)
    return out


def their_model(folder: Path) -> Any:
    """mlx-vlm's model with float32 activations."""
    from mlx.utils import tree_map
    from mlx_vlm.utils import load_model

    model = load_model(folder)
    widened = tree_map(
        lambda p: p.astype(mx.float32) if mx.issubdtype(p.dtype, mx.floating) else p,
        model.parameters(),
    )
    model.update(widened)
    return model


def their_logits(folder: Path) -> np.ndarray[Any, Any]:
    """[1, C, V] from mlx-vlm's model."""
    model = their_model(folder)
    output = model(
        input_ids=mx.array([PROMPT]), cache=model.make_cache(), canvas_ids=mx.array([CANVAS])
    )
    return np.array(output.logits.astype(mx.float32))


def their_features(folder: Path, rgb: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[N, H] from mlx-vlm's tower, which takes pixels [1, 3, h, w] and cuts them itself."""
    pixels = (rgb * (1 / 255)).astype(np.float32).transpose(2, 0, 1)[None]
    features = their_model(folder).model.encoder.get_image_features(mx.array(pixels))
    return np.array(features.astype(mx.float32))[0]


def our_features(folder: Path, rgb: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    image = Pixels(rgb, rgb.shape[1], rgb.shape[0], Source(None, ""))
    return np.array(dg.load_model(folder, mx.float32).image_features([image])[0])


def our_logits(folder: Path) -> np.ndarray[Any, Any]:
    model = dg.load_model(folder, mx.float32)
    prefix = model.encode(PROMPT)
    return np.array(model.logits(model.decode(mx.array(CANVAS), prefix)))


def assert_same_tensors(a: Path, b: Path) -> None:
    first, second = load_tensors(a), load_tensors(b)
    assert sorted(first) == sorted(second)
    for name, array in first.items():
        assert array.dtype == second[name].dtype, name
        assert bool(mx.array_equal(array, second[name])), name


@pytest.mark.parametrize("quantize", RECIPES)
def test_the_same_bits(tmp_path: Path, source: Path, quantize: str) -> None:
    """Names, dtypes, packed weights, scales and biases; and the same quantization object."""
    a, b = theirs(source, tmp_path / "a", quantize), ours(source, tmp_path / "b", quantize)
    assert_same_tensors(a, b)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (a, b)]
    assert configs[0]["quantization"] == configs[1]["quantization"]


@pytest.mark.parametrize("quantize", [*RECIPES, "none"])
def test_ours_loads_there(tmp_path: Path, source: Path, quantize: str) -> None:
    folder = ours(source, tmp_path / "out", quantize)
    assert_close(our_logits(folder), their_logits(folder), TOLERANCE, f"{quantize}, ours there")


def test_the_embedded_checkpoint_loads_there() -> None:
    """With the packing named once in config.json, and modules known by their scales."""
    folder = embedded_folder("tiny-chat")
    assert folder
    assert_close(our_logits(folder), their_logits(folder), TOLERANCE, "tiny-chat there")


@pytest.mark.parametrize("quantize", RECIPES)
def test_theirs_loads_here(tmp_path: Path, source: Path, quantize: str) -> None:
    folder = theirs(source, tmp_path / "out", quantize)
    assert_close(our_logits(folder), their_logits(folder), TOLERANCE, f"{quantize}, theirs here")
    assert verify(folder, source).hashed_files is None


@pytest.mark.parametrize(
    "options",
    [{"experts_bits": 3}, {"embed_bits": 4, "attention_bits": 6}, {"group_size": 32}],
)
def test_ours_with_other_bits_loads_there(
    tmp_path: Path, source: Path, options: dict[str, int]
) -> None:
    folder = ours(source, tmp_path / "out", "4bit", **options)
    assert_close(our_logits(folder), their_logits(folder), TOLERANCE, f"{options}, ours there")


def test_ours_of_the_resaved_spelling_loads_there(tmp_path: Path) -> None:
    """Which mlx-vlm itself reads with the wrong head sizes: its defaults."""
    sizes = replace(SIZES, spelling="per_layer")
    source = write_checkpoint(tmp_path / "source", sizes, dtype="bfloat16")
    folder = ours(source, tmp_path / "out", "4bit")
    assert_close(our_logits(folder), their_logits(folder), TOLERANCE, "re-saved, ours there")


def test_a_matrix_left_unpacked_loads_there(tmp_path: Path) -> None:
    """Its width is no multiple of the group size, so config.json must not name it."""
    sizes = replace(SIZES, moe_intermediate_size=48)
    source = write_checkpoint(tmp_path / "source", sizes, dtype="bfloat16")
    folder = ours(source, tmp_path / "out", "4bit")
    assert_close(our_logits(folder), their_logits(folder), TOLERANCE, "unpacked down_proj")


@pytest.mark.parametrize("embed_vision", [True, False])
def test_vision_is_interchanged_too(tmp_path: Path, embed_vision: bool) -> None:
    """Either choice for its projection; a current mlx-vlm would leave it in bfloat16."""
    sizes = replace(SIZES, vision=True)
    source = write_checkpoint(tmp_path / "source", sizes, dtype="bfloat16")
    folder = ours(source, tmp_path / "out", "nvfp4", embed_vision=embed_vision)
    assert_close(our_logits(folder), their_logits(folder), TOLERANCE, "vision, ours there")
    if not embed_vision:
        assert_same_tensors(folder, theirs(source, tmp_path / "theirs", "nvfp4"))


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("quantize", ["none", "4bit"])
def test_features_of_our_folder_there(tmp_path: Path, quantize: str, standardize: bool) -> None:
    """Their tower on what we wrote, in float32: in 16 bits it scales and standardises in those.

    The projection is packed to 4 bits in one of both folders, and so it is in both engines.
    """
    tower = {"hidden_size": 64, "head_dim": 32, "standardize": standardize}
    sizes = replace(SIZES, vision=True, tower=tower)
    source = write_checkpoint(tmp_path / "source", sizes, dtype="bfloat16")
    folder = source if quantize == "none" else ours(source, tmp_path / "out", quantize)
    rgb = random_image(3, 2, 5)
    what = f"{quantize}: features, ours there"
    assert_close(our_features(folder, rgb), their_features(folder, rgb), FEATURES, what)


def test_features_of_their_folder_here(tmp_path: Path) -> None:
    """It leaves the whole of vision in bfloat16."""
    sizes = replace(SIZES, vision=True, tower={"hidden_size": 64, "head_dim": 32})
    source = write_checkpoint(tmp_path / "source", sizes, dtype="bfloat16")
    folder = theirs(source, tmp_path / "out", "4bit")
    rgb = random_image(2, 3, 6)
    assert_close(our_features(folder, rgb), their_features(folder, rgb), FEATURES, "theirs here")
    assert np.array_equal(our_features(folder, rgb), our_features(source, rgb))
