"""The plan: names, shapes and bytes of the published folders, from headers without a number."""

import gzip
import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Sizes, edit_config, write_checkpoint
from converting import SIZES, plan_of
from facts import raises

from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.layout import text_shapes
from mlx_diffgemma.checkpoint.tensors import packable_modules
from mlx_diffgemma.convert.files import target_config
from mlx_diffgemma.convert.plan import MAX_SHARD_BYTES, Plan, make_plan
from mlx_diffgemma.convert.quantize import RecipeOptions, make_recipe
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.convert.write import shard_header
from mlx_diffgemma.errors import CheckpointError, SettingsError

TABLES = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "model/data/published.json.gz").read_bytes())
)
GOOGLE, MLX = TABLES["google"], TABLES["mlx-4bit"]
# Tensor bytes of the folders in mlx-community, in GB as their pages say.
PUBLISHED_GB = {
    "4bit": 16.54,
    "5bit": 19.40,
    "6bit": 22.26,
    "8bit": 27.97,
    "none": 51.65,
    "mxfp4": 15.83,
    "nvfp4": 16.54,
    "mxfp8": 27.26,
}


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Google's checkpoint with its shapes alone: a header and no data behind it."""
    folder = tmp_path_factory.mktemp("google")
    (folder / "config.json").write_text(json.dumps(GOOGLE["config"]))
    (folder / "generation_config.json").write_text(json.dumps(GOOGLE["generation_config"]))
    header, end = {}, 0
    for name, (dtype, shape) in GOOGLE["tensors"].items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    content = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(content)) + content)
    return folder


def shape_only(folder: Path, quantize: str = "4bit", **options: Any) -> Plan:
    source = open_checkpoint(folder, shape_only=True)
    return make_plan(source, make_recipe(RecipeOptions(quantize, **options)))


# --- the published folders


def test_the_published_tensors(google: Path) -> None:
    """All names, dtypes and shapes of mlx-community's 4-bit folder, and its bytes."""
    plan = shape_only(google)
    made = {out.name: [out.dtype, list(out.shape)] for out in plan.outputs}
    assert made == MLX["tensors"]
    assert (len(plan.outputs), plan.tensor_bytes) == (1647, 16_542_844_632)
    assert (plan.unfit, plan.dropped) == ([], ())


def test_the_published_config(google: Path) -> None:
    """Key for key, the 236 overrides and the inlined sampler too."""
    config = target_config(shape_only(google))
    assert config["quantization"] == MLX["config"]["quantization"]
    assert config["quantization_config"] == config["quantization"]
    assert config["text_config"] == MLX["config"]["text_config"]
    assert config["generation_config"] == GOOGLE["generation_config"]
    assert config["eos_token_id"] == [1, 106, 50]
    overrides = [key for key, value in config["quantization"].items() if isinstance(value, dict)]
    assert len(overrides) == 236


def test_kept_modules_are_named_though_they_are_as_the_default(google: Path) -> None:
    """As mlx-vlm writes them for its 8-bit folders."""
    quantization = target_config(shape_only(google, "8bit"))["quantization"]
    entry = {"group_size": 64, "bits": 8}
    assert [value for value in quantization.values() if isinstance(value, dict)] == [entry] * 236


def test_vision_projection_as_a_newer_converter_leaves_it(google: Path) -> None:
    plan = shape_only(google, embed_vision=False)
    projection = "model.encoder.embed_vision.embedding_projection"
    names = {out.name: out for out in plan.outputs}
    assert (len(plan.outputs), names[f"{projection}.weight"].dtype) == (1645, "BF16")
    assert f"{projection}.scales" not in names


@pytest.mark.parametrize(("quantize", "gigabytes"), PUBLISHED_GB.items())
def test_sizes_of_the_other_folders(google: Path, quantize: str, gigabytes: float) -> None:
    assert round(shape_only(google, quantize).tensor_bytes / 1e9, 2) == gigabytes


def test_the_resaved_spelling_gives_the_same_config(google: Path, tmp_path: Path) -> None:
    """mlx-vlm knows no per_layer_config: what is written always has the two global sizes."""
    for file in google.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    config = json.loads(json.dumps(GOOGLE["config"]))
    text = config["text_config"]
    for key in ("global_head_dim", "num_global_key_value_heads", "final_logit_softcapping"):
        del text[key]
    text["per_layer_config"] = {
        f"{layer:02}": {"head_dim": 512, "num_key_value_heads": 2} for layer in (5, 11, 17, 23, 29)
    }
    config["vision_config"]["rope_parameters"]["rope_type"] = "axial"
    (tmp_path / "config.json").write_text(json.dumps(config))
    made, plan = target_config(shape_only(tmp_path)), shape_only(tmp_path)
    assert made["text_config"] == MLX["config"]["text_config"]
    assert plan.tensor_bytes == 16_542_844_632


@pytest.mark.parametrize(
    ("top", "text", "dtype"),
    [
        ({"dtype": "float16"}, {"dtype": "bfloat16"}, "float16"),
        ({}, {"dtype": "float16"}, "float16"),
        ({"torch_dtype": "float32"}, {}, "float32"),
        ({"dtype": "float32", "torch_dtype": "float16"}, {"torch_dtype": "bfloat16"}, "float32"),
        ({}, {}, "bfloat16"),
    ],
)
def test_both_levels_of_the_config_name_the_one_dtype(
    tmp_path: Path, top: dict[str, str], text: dict[str, str], dtype: str
) -> None:
    """Once bfloat16 was written above a text_config that said float16."""
    folder = write_checkpoint(tmp_path, SIZES)

    def change(config: dict[str, Any]) -> None:
        for part, keys in ((config, top), (config["text_config"], text)):
            part.pop("dtype")
            part |= keys

    edit_config(folder, change)
    config = target_config(plan_of(folder))
    assert (config["dtype"], config["text_config"]["dtype"]) == (dtype, dtype)
    assert "torch_dtype" not in {*config, *config["text_config"]}


def test_a_packing_named_in_text_config_is_not_carried_along(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, SIZES)
    own = {"bits": 8, "group_size": 32}
    edit_config(folder, lambda config: config["text_config"].update(quantization_config=own))
    assert "quantization_config" not in target_config(plan_of(folder))["text_config"]


def test_what_the_checkpoint_was_trained_for_is_carried_along(tmp_path: Path) -> None:
    folder, own = write_checkpoint(tmp_path, SIZES), {"task": "sudoku", "modes": ["diffusion"]}
    edit_config(folder, lambda config: config.update(mlx_diffgemma=own))
    assert target_config(plan_of(folder))["mlx_diffgemma"] == own


# --- shards and memory


def test_shards_hold_at_most_five_gigabytes(google: Path) -> None:
    plan = shape_only(google)
    for shard in plan.shards:
        outputs = [out for entry in shard for out in entry.outputs]
        size = len(shard_header(outputs)) + sum(out.num_bytes for out in outputs)
        assert size <= MAX_SHARD_BYTES == 5_000_000_000
    assert len(plan.shards) == 4


def test_memory_is_bounded_by_the_largest_tensor_and_a_gigabyte(google: Path) -> None:
    plan = shape_only(google)
    largest = max(plan.entries, key=lambda entry: entry.num_bytes)
    working_set = largest.num_bytes + sum(out.num_bytes for out in largest.outputs)
    assert largest.name == "model.decoder.embed_tokens.weight"
    assert plan.peak_bytes < working_set + 1e9 < 3.3e9


def test_wide_numbers_are_aligned(tmp_path: Path) -> None:
    """Three experts' scales have six bytes: what is four wide comes before them."""
    folder = write_checkpoint(tmp_path, replace(SIZES, num_experts=3), dtype="bfloat16")
    plan = plan_of(folder, max_shard_bytes=30_000)
    for shard in plan.shards:
        offset = 0
        for out in (out for entry in shard for out in entry.outputs):
            assert offset % {"U32": 4, "BF16": 2}[out.dtype] == 0
            offset += out.num_bytes


def test_modules_that_quantization_may_name_are_those_with_a_matrix(google: Path) -> None:
    """One list names what is read, the other what is written."""
    text = read_config(google).text
    matrices = [name for name, shape in text_shapes(text).items() if len(shape) > 1]
    assert sorted(packable_modules(text)) == sorted(n.removesuffix(".weight") for n in matrices)


# --- recipes


def bits(plan: Plan) -> dict[str, int]:
    return {entry.module: entry.packing.bits for entry in plan.entries if entry.packing}


def test_bits_of_single_parts(tmp_path: Path) -> None:
    sizes = Sizes("sf", hidden_size=64, intermediate_size=64, moe_intermediate_size=64, head_dim=16)
    folder = write_checkpoint(tmp_path, sizes)
    options = {"embed_bits": 5, "attention_bits": 3, "mlp_bits": 4, "experts_bits": 2}
    got = bits(plan_of(folder, "6bit", **options))
    layer = "model.decoder.layers.0"
    assert got["model.decoder.embed_tokens"] == 5
    assert {got[f"{layer}.self_attn.{part}_proj"] for part in "qkvo"} == {3}
    assert {got[f"{layer}.experts.{part}_proj"] for part in ("gate_up", "down")} == {2}
    assert (got[f"{layer}.mlp.up_proj"], got[f"{layer}.router.proj"]) == (4, 8)
    assert got["model.decoder.self_conditioning.up_proj"] == 6


@pytest.mark.parametrize(
    ("options", "gigabytes"),
    [
        ({}, 3.35),
        ({"attention_bits": 4, "embed_bits": 4}, 2.42),
        ({"attention_bits": 4, "embed_bits": 4, "mlp_bits": 4}, 2.16),
        ({"quantize": "8bit"}, 4.06),
        ({"quantize": "none"}, 7.64),
    ],
)
def test_bytes_that_a_token_reads(google: Path, options: dict[str, Any], gigabytes: float) -> None:
    """Worked out by hand, apart from this code."""
    token_bytes = shape_only(google, **options).token_bytes
    assert token_bytes is not None
    assert token_bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_a_width_that_groups_do_not_divide_stays_and_is_listed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, Sizes("sf", hidden_size=64, moe_intermediate_size=16))
    plan = plan_of(folder)
    assert "model.decoder.layers.0.experts.down_proj.weight" in plan.unfit
    packed = target_config(plan)["quantization"]
    assert "model.decoder.layers.0.self_attn.o_proj" not in packed  # 32 wide: no scales, no entry
    assert not set(plan.unfit) & {f"{module}.weight" for module in plan.packed}


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"quantize": "mxfp4", "experts_bits": 8}, "experts_bits is 8 ... mxfp4 has 4"),
        ({"quantize": "nvfp4", "group_size": 32}, "group_size is 32 ... nvfp4 has 16"),
        ({"quantize": "4bit", "group_size": 48}, "group_size is 48 ... affine has 32 or 64"),
        ({"quantize": "4bit", "experts_bits": 7}, "experts_bits is 7 ... affine has 2 or 3"),
        ({"quantize": "mxfp8", "embed_bits": 16}, "embed_bits is 16 ... affine has"),
        ({"quantize": "4bit", "mlp_bits": 7}, "mlp_bits is 7 ... affine has 2 or 3"),
        ({"quantize": "none", "attention_bits": 8}, "attention_bits is 8 ... quantize is none"),
        ({"quantize": "7bit"}, "quantize is '7bit' ... 4bit"),
    ],
)
def test_bits_that_a_mode_lacks(options: dict[str, Any], facts: str) -> None:
    with raises(SettingsError, facts):
        make_recipe(RecipeOptions(**options))


def test_layers_that_an_mlx_folder_cannot_describe(tmp_path: Path) -> None:
    sizes = Sizes("ssf", spelling="per_layer", head_dim=16)
    folder = write_checkpoint(tmp_path, sizes)
    edit_config(
        folder, lambda c: c["text_config"]["per_layer_config"].update({"0": {"head_dim": 8}})
    )
    with pytest.raises(CheckpointError):
        target_config(plan_of(folder))


# --- sources


def test_one_by_one_experts_are_described_in_a_line(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, SIZES, per_expert=True)
    sources = {entry.module: entry for entry in plan_of(folder).entries}
    at = "model.decoder.layers.1.experts"
    gate_up = sources[f"{at}.gate_up_proj"]
    assert gate_up.source == f"{at}.*.gate_proj.weight + {at}.*.up_proj.weight"
    first = [f"{at}.0.gate_proj.weight", f"{at}.0.up_proj.weight", f"{at}.1.gate_proj.weight"]
    assert list(gate_up.sources[:3]) == first


def test_strays_are_dropped_by_name(tmp_path: Path) -> None:
    plan = plan_of(write_checkpoint(tmp_path, SIZES, strays=True))
    assert "lm_head.weight" in plan.dropped
    assert "model.decoder.rotary_emb.full_attention_inv_freq" in plan.dropped
    assert any(name.endswith("input_max") for name in plan.dropped)
    assert not {out.name for out in plan.outputs} & set(plan.dropped)


def test_text_alone_is_enough(tmp_path: Path) -> None:
    """A folder without any vision tensor converts; one with a part of the tower does not."""
    from checkpoints import random_tensors

    tensors = random_tensors(SIZES)
    text = {
        name: array
        for name, array in tensors.items()
        if ".vision" not in name and ".embed_v" not in name
    }
    plan = plan_of(write_checkpoint(tmp_path / "text", SIZES, tensors=text))
    assert not any("vision" in entry.name for entry in plan.entries)
    del tensors["model.encoder.vision_tower.std_bias"]
    with pytest.raises(CheckpointError, match="std_bias: missing"):
        plan_of(write_checkpoint(tmp_path / "part", SIZES, tensors=tensors))
