"""The published folders: every tensor of their tables is asked for, with its shape, and no other.

data/published.json.gz holds config.json and the names, dtypes and shapes of
google/diffusiongemma-26B-A4B-it and of mlx-community/diffusiongemma-26B-A4B-it-4bit. The other MLX
folders differ from the second in widths, which are worked out here. No weight is allocated.
"""

import copy
import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from checkpoints import EXPERTS, KEPT, Packing, Recipe, published

from mlx_diffgemma.checkpoint import tensors
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.shards import TensorInfo
from mlx_diffgemma.errors import CheckpointError
from mlx_diffgemma.machine.dtypes import ITEM_BYTES
from mlx_diffgemma.model import matrices, slices
from mlx_diffgemma.model.arrays import distinct_arrays
from mlx_diffgemma.model.weights import Loaded, build, load_network
from mlx_diffgemma.share.part import Part
from mlx_diffgemma.share.share import Share

TABLES = json.loads(
    gzip.decompress((Path(__file__).parent / "data/published.json.gz").read_bytes())
)
GOOGLE, MLX = TABLES["google"], TABLES["mlx-4bit"]
Table = dict[str, Any]
Load = Callable[[dict[str, Any]], Loaded]

EIGHT = Packing("affine", 8, 64)
FOLDERS = {
    "4bit": Packing("affine", 4, 64),
    "5bit": Packing("affine", 5, 64),
    "6bit": Packing("affine", 6, 64),
    "8bit": EIGHT,
    "mxfp4": Packing("mxfp4", 4, 32),
    "mxfp8": Packing("mxfp8", 8, 32),
    "nvfp4": Packing("nvfp4", 4, 16),
}


def write_table(folder: Path, source: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    """A folder that has a table for tensors, and no file that holds any."""
    (folder / "config.json").write_text(json.dumps(source["config"]))
    if "generation_config" in source:
        generation = json.dumps(source["generation_config"])
        (folder / "generation_config.json").write_text(generation)
    info = {
        name: TensorInfo(
            name, folder / "x", dtype, tuple(shape), ITEM_BYTES[dtype] * math.prod(shape)
        )
        for name, (dtype, shape) in source["tensors"].items()
    }
    patch.setattr(tensors, "read_headers", lambda folder, shape_only: info)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Binds a folder that has a table for tensors; each array handed out has a single number."""

    def take(self: tensors.Tensors, name: str) -> mx.array:
        self.used.add(name)
        info = self.headers[name]
        return mx.zeros([1] * len(info.shape), mx.uint32 if info.dtype == "U32" else mx.bfloat16)

    def run(source: dict[str, Any]) -> Loaded:
        write_table(tmp_path, source, monkeypatch)
        return load_network(tmp_path)

    monkeypatch.setattr(tensors.Tensors, "_take", take)
    return run


def vision_names(table: Table) -> set[str]:
    return {name for name in table if ".vision_tower." in name or ".embed_vision." in name}


def text_numbers(table: Table) -> int:
    return sum(
        math.prod(shape) for name, (_, shape) in table.items() if name not in vision_names(table)
    )


def quantised(default: Packing, recipe: Recipe | None = None) -> dict[str, Any]:
    """Google's table as an MLX folder with this default: config and tensors."""
    recipe = recipe or published(default)
    table: Table = {}
    quantization: dict[str, Any] = {"mode": default.mode, **default.entry()}
    for source, (dtype, shape) in GOOGLE["tensors"].items():
        name = f"{source}.weight" if EXPERTS.search(source) else source
        module = name.removesuffix(".weight")
        matrix = name.endswith(".weight") and len(shape) > 1 and "vision_tower" not in name
        packing = recipe(module) if matrix else None
        if packing is None:
            table[name] = [dtype, shape]
            continue
        *rows, width = shape
        groups = width // packing.group_size
        table[name] = ["U32", [*rows, width * packing.bits // 32]]
        affine = packing.mode == "affine"
        table[f"{module}.scales"] = ["BF16" if affine else "U8", [*rows, groups]]
        if affine:
            table[f"{module}.biases"] = ["BF16", [*rows, groups]]
        if packing != default:
            quantization[module] = packing.entry()
    config = {**GOOGLE["config"], "quantization": quantization}
    return {**GOOGLE, "config": config, "tensors": table}


def test_google(load: Load) -> None:
    loaded, table = load(GOOGLE), GOOGLE["tensors"]
    assert len(table) == 1047
    assert loaded.dropped == ()
    assert loaded.num_parameters == text_numbers(table) == 25_250_986_812
    assert len(vision_names(table)) == 356
    assert loaded.model.vision is not None
    assert len(list(loaded.model.vision.layers)) == 27


def test_google_sizes(load: Load) -> None:
    config = load(GOOGLE).model.config
    layers = config.text.layers
    assert [i for i, layer in enumerate(layers) if not layer.sliding] == [5, 11, 17, 23, 29]
    full, sliding = layers[5], layers[0]
    assert (sliding.head_dim, sliding.num_key_value_heads, sliding.rope_theta) == (256, 8, 1e4)
    assert (full.head_dim, full.num_key_value_heads, full.rope_theta) == (512, 2, 1e6)
    assert (sliding.rotary_fraction, full.rotary_fraction) == (1.0, 0.25)
    assert config.text.sliding_window == 1024
    assert config.canvas_length == 256
    assert config.stop_ids == (1, 106, 50)  # of generation_config.json, not config.json's two


def test_the_resaved_spelling_says_the_same(load: Load) -> None:
    """As transformers 5.23 saves it: no global sizes, no softcap, entries a layer, padded keys."""
    resaved = copy.deepcopy(GOOGLE)
    text = resaved["config"]["text_config"]
    for key in ("global_head_dim", "num_global_key_value_heads", "final_logit_softcapping"):
        del text[key]
    for width in (1, 2):
        text["per_layer_config"] = {
            f"{layer:0{width}}": {"head_dim": 512, "num_key_value_heads": 2}
            for layer in (5, 11, 17, 23, 29)
        }
        assert load(resaved).model.config == load(GOOGLE).model.config


def test_mlx_community_4bit(load: Load) -> None:
    loaded, table = load(MLX), MLX["tensors"]
    assert len(table) == 1647
    assert loaded.dropped == ()
    assert loaded.model.vision is not None
    assert loaded.num_parameters == text_numbers(GOOGLE["tensors"])
    assert loaded.model.config.stop_ids == (1, 106, 50)  # inlined in config.json


def test_the_published_recipe() -> None:
    """What is worked out here for 4 bits is what was published; 236 modules stay at 8."""
    made = quantised(FOLDERS["4bit"])
    assert made["tensors"] == MLX["tensors"]
    quantization = MLX["config"]["quantization"]
    assert made["config"]["quantization"] == quantization
    overrides = [key for key, value in quantization.items() if isinstance(value, dict)]
    assert len(overrides) == 236
    assert all(KEPT.search(module) for module in overrides)


@pytest.mark.parametrize("name", FOLDERS)
def test_other_mlx_folders(load: Load, name: str) -> None:
    source = quantised(FOLDERS[name])
    loaded = load(source)
    assert loaded.dropped == ()
    assert loaded.num_parameters == text_numbers(GOOGLE["tensors"])


def test_embed_vision_in_bf16(load: Load) -> None:
    """A newer converter leaves it unpacked: packing is decided by what is there."""
    source = copy.deepcopy(MLX)
    at = "model.encoder.embed_vision.embedding_projection"
    for kind in ("scales", "biases"):
        del source["tensors"][f"{at}.{kind}"]
    source["tensors"][f"{at}.weight"] = GOOGLE["tensors"][f"{at}.weight"]
    assert load(source).num_parameters == text_numbers(GOOGLE["tensors"])


def test_vision_kept_elsewhere(load: Load) -> None:
    """A folder may lack the whole tower, and then sees no images."""
    source = {**MLX, "tensors": dict(MLX["tensors"])}
    for name in vision_names(source["tensors"]):
        del source["tensors"][name]
    loaded = load(source)
    assert (loaded.model.vision, loaded.dropped) == (None, ())
    assert loaded.model.config.vision is not None


@pytest.mark.slow
@pytest.mark.parametrize("source", [GOOGLE, MLX], ids=["google", "mlx-4bit"])
def test_each_tensor_is_needed(load: Load, source: dict[str, Any]) -> None:
    """Without any one of a layer of each kind, and of what is no layer's, the folder is refused."""
    names = [
        name
        for name in source["tensors"]
        if ".layers." not in name or ".layers.0." in name or ".layers.5." in name
    ]
    assert len(names) > 50
    for name in names:
        table = {key: entry for key, entry in source["tensors"].items() if key != name}
        with pytest.raises(CheckpointError) as caught:
            load({**source, "tensors": table})
        module = name.removesuffix(".weight").removesuffix(".scales").removesuffix(".biases")
        assert module in str(caught.value), name


def test_configs_are_read_alike(tmp_path: Path) -> None:
    """Both folders describe one network."""
    configs = []
    for source in (GOOGLE, MLX):
        (tmp_path / "config.json").write_text(json.dumps(source["config"]))
        configs.append(read_config(tmp_path))
    assert configs[0].text == configs[1].text
    assert configs[0].sampler == configs[1].sampler


FULLEST = {  # GB of the fullest Mac's weights, by the number of Macs: a plan's numbers
    "4.5 bits": {2: 7.1, 3: 4.8, 4: 3.6},
    "8.5 bits": {2: 13.4, 3: 9.1, 4: 6.7},
    "16 bits": {2: 25.3, 3: 17.1, 4: 12.7},
}


@pytest.mark.parametrize("packed", FULLEST)
def test_a_share_of_all_tensors_is_as_large_as_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: str
) -> None:
    bits = {"4.5 bits": 4, "8.5 bits": 8}.get(packed)
    packing = Packing("affine", bits, 64) if bits else None
    write_table(tmp_path, quantised(packing, lambda _: packing) if packing else GOOGLE, monkeypatch)
    monkeypatch.setattr(matrices, "on_gpu", lambda: True)  # a CPU widens experts
    monkeypatch.setattr(slices, "experts_cut", lambda: "number")
    promised = tensors.PromisedTensors(tmp_path, read_config(tmp_path), mx.bfloat16)
    for macs, planned in FULLEST[packed].items():
        held = []
        for rank in range(macs):
            model = build(promised, lambda layer, part: None, Part(Share(rank, macs), "tensor"))
            parts = [model.embedding, model.self_conditioning, model.final_norm, *model.layers]
            held.append(sum(array.nbytes for array in distinct_arrays(parts)))
        assert round(max(held) / 1e9, 1) == planned
        whole = text_numbers(GOOGLE["tensors"]) * float(packed.split()[0]) / 8
        assert whole < sum(held) < 1.005 * whole  # a few heads, and vectors, are there twice
