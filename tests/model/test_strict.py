"""What a checkpoint folder may hold: everything else is refused, by name and in one line."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import (
    Packing,
    Sizes,
    config_of,
    edit_config,
    load_tensors,
    published,
    quantise_folder,
    random_tensors,
    save_tensors,
    tensor_shapes,
    vision_aside,
    write_checkpoint,
)

import mlx_diffgemma as dg
from mlx_diffgemma.model.arrays import distinct_arrays
from mlx_diffgemma.model.weights import Loaded, first_non_finite, load_network

SIZES = Sizes(vision=True)
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
MATRIX = "model.decoder.layers.1.mlp.up_proj.weight"
GATE_UP = "model.decoder.layers.1.experts.gate_up_proj"
CLIPPING = "model.encoder.vision_tower.encoder.layers.0.self_attn.q_proj.input_max"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", SIZES)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", SIZES, shards=3)


def assert_refused(folder: Path, *words: str) -> None:
    """CheckpointError, in one line that holds all of `words` and ends as a sentence does."""
    with pytest.raises(dg.CheckpointError) as caught:
        dg.load_model(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"


def edit_tensors(folder: Path, change: Change) -> Path:
    arrays = load_tensors(folder)
    change(arrays)
    mx.eval(arrays)
    (folder / FILE).unlink()
    save_tensors(folder / FILE, arrays)
    return folder


def set_key(path: str, value: Any) -> Change:
    """A change of one key of config.json, by its dotted path; ... deletes it."""

    def change(config: dict[str, Any]) -> None:
        *parents, key = path.split(".")
        for parent in parents:
            config = config[parent]
        if value is ...:
            del config[key]
        else:
            config[key] = value

    return change


def test_all_is_well(folder: Path) -> None:
    """Else nothing below would mean a thing."""
    loaded = load_network(folder)
    vision = {name for name in tensor_shapes(SIZES) if "vision" in name}
    assert loaded.model.vision is not None
    assert loaded.dropped == ()
    numbers = sum(a.size for name, a in random_tensors(SIZES).items() if name not in vision)
    assert loaded.num_parameters == numbers


# --- tensors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tensor_shapes(SIZES))
def test_each_tensor_missing(folder: Path, name: str) -> None:
    edit_tensors(folder, lambda arrays: arrays.pop(name))
    assert_refused(folder, name, "missing", "download it again")


@pytest.mark.parametrize("name", tensor_shapes(SIZES))
def test_each_tensor_misshapen(folder: Path, name: str) -> None:
    """One entry too many along the first axis: what was got and what was expected is said."""
    expected = list(tensor_shapes(SIZES)[name])
    got = [expected[0] + 1, *expected[1:]]
    edit_tensors(folder, lambda arrays: arrays.update({name: mx.zeros(got)}))
    assert_refused(folder, name, f"shape {got}", f"expected {expected}", FILE)


def test_transposed(folder: Path) -> None:
    edit_tensors(folder, lambda arrays: arrays.update({MATRIX: arrays[MATRIX].T}))
    assert_refused(folder, MATRIX, "shape [32, 24]", "expected [24, 32]")


@pytest.mark.parametrize(
    ("dtype", "said"), [(mx.int32, "I32"), (mx.uint8, "U8"), (mx.uint32, "U32"), (mx.bool_, "BOOL")]
)
def test_integer_weights(folder: Path, dtype: mx.Dtype, said: str) -> None:
    edit_tensors(folder, lambda arrays: arrays.update({MATRIX: arrays[MATRIX].astype(dtype)}))
    assert_refused(folder, MATRIX, f"dtype {said}", "expected BF16 or F16 or F32")


@pytest.mark.parametrize(
    "name",
    [
        "model.decoder.layers.1.mlp.up_proj.bias",
        "model.decoder.layers.3.layer_scalar",
        "model.decoder.layers.2.self_attn.v_proj.weight",  # a full layer has none
        "model.encoder.language_model.layers.3.layer_scalar",
        "head.weight",
        "unheard_of",
    ],
)
def test_superfluous(folder: Path, name: str) -> None:
    edit_tensors(folder, lambda arrays: arrays.update({name: mx.ones(2)}))
    assert_refused(folder, name, "not part of the model")


def test_strays_are_dropped_and_listed(folder: Path) -> None:
    """lm_head, copies of the decoder, rotary buffers, clipping limits that are switched off."""
    plain = dg.load_model(folder)
    loaded = load_network(write_checkpoint(folder, SIZES, strays=True))
    assert {
        "lm_head.weight",
        "model.decoder.rotary_emb.full_attention_inv_freq",
        "model.encoder.language_model.embed_tokens.weight",
        "model.encoder.language_model.layers.0.mlp.up_proj.weight",
        "model.encoder.language_model.norm.weight",
        CLIPPING,
    } < set(loaded.dropped)
    assert len(loaded.dropped) + len(tensor_shapes(SIZES)) == len(load_tensors(folder))
    tokens = [1, 2, 3]
    for a, b in zip(plain.encode(tokens).keys, loaded.model.encode(tokens).keys, strict=True):
        assert mx.array_equal(a, b)


def test_a_packed_head_is_a_stray_too(packed: Path) -> None:
    """The tied head, quantised as a module of its own."""
    at = "model.decoder.embed_tokens"
    parts = ("weight", "scales", "biases")
    edit_tensors(packed, lambda a: a.update({f"lm_head.{p}": a[f"{at}.{p}"] for p in parts}))
    assert set(load_network(packed).dropped) == {f"lm_head.{part}" for part in parts}


def without_vision(arrays: dict[str, Any]) -> None:
    for name in [name for name in arrays if "vision" in name]:
        del arrays[name]


def test_clipping_that_is_switched_on(folder: Path) -> None:
    """It is refused before a tensor is looked at: its limits would change every number."""
    edit_tensors(folder, lambda arrays: arrays.update({CLIPPING: mx.ones(())}))
    edit_config(folder, set_key("vision_config.use_clipped_linears", True))
    assert_refused(folder, "vision_config.use_clipped_linears is True, expected False")


@pytest.mark.parametrize(
    "end", ["_packed", "_scale", "_scale_inv", "_scale_2", ".qweight", ".qzeros", ".input_scale"]
)
@pytest.mark.parametrize("name", [MATRIX, GATE_UP])
def test_packed_re_exports(folder: Path, name: str, end: str) -> None:
    """FP8, AWQ and NVFP4 as other tools write them, beside the weight or in its place."""
    other = (name.removesuffix(".weight") if end[0] == "." else name) + end
    edit_tensors(folder, lambda arrays: arrays.update({other: mx.ones(2)}))
    assert_refused(folder, other, "re-export", "bf16")
    edit_tensors(folder, lambda arrays: arrays.pop(name))
    assert_refused(folder, other, "re-export", "bf16")


def test_experts_in_two_spellings(folder: Path) -> None:
    """Bug: with and without .weight, one of both was taken and the other not mentioned."""
    other = f"{GATE_UP}.weight"
    edit_tensors(folder, lambda arrays: arrays.update({other: arrays[GATE_UP] * 2}))
    assert_refused(folder, GATE_UP, other)


def test_experts_in_two_layouts(folder: Path) -> None:
    one = "model.decoder.layers.1.experts.0.gate_proj.weight"
    edit_tensors(folder, lambda arrays: arrays.update({one: arrays[GATE_UP][0, :16]}))
    assert_refused(folder, "model.decoder.layers.1.experts.", ".weight")


def test_one_expert_missing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, SIZES, per_expert=True)
    name = "model.decoder.layers.1.experts.2.down_proj.weight"
    edit_tensors(folder, lambda arrays: arrays.pop(name))
    assert_refused(folder, name, "missing")


# --- quantised folders ---------------------------------------------------------------------------


@pytest.fixture
def packed(folder: Path) -> Path:
    four = Packing("affine", 4, 32)
    out = folder.with_name("packed")
    return quantise_folder(folder, out, four, published(four, Packing("affine", 8, 32)))


def test_packed_is_well(packed: Path) -> None:
    assert load_network(packed).dropped == ()


@pytest.mark.parametrize("kind", ["weight", "scales", "biases"])
@pytest.mark.parametrize("module", [MATRIX.removesuffix(".weight"), GATE_UP])
def test_packed_part_missing(packed: Path, module: str, kind: str) -> None:
    edit_tensors(packed, lambda arrays: arrays.pop(f"{module}.{kind}"))
    assert_refused(packed, module)


@pytest.mark.parametrize("kind", ["weight", "scales", "biases"])
def test_packed_part_misshapen(packed: Path, kind: str) -> None:
    name = MATRIX.replace("weight", kind)
    edit_tensors(packed, lambda arrays: arrays.update({name: arrays[name][:-1]}))
    assert_refused(packed, name, "shape [23,", "expected [24,")


@pytest.mark.parametrize("kind", ["weight", "scales", "biases"])
def test_packed_part_of_another_dtype(packed: Path, kind: str) -> None:
    name = MATRIX.replace("weight", kind)
    edit_tensors(packed, lambda arrays: arrays.update({name: arrays[name].astype(mx.int32)}))
    assert_refused(packed, name, "dtype I32")


def test_bits_that_are_not_those_of_the_tensor(packed: Path) -> None:
    for key in ("quantization", "quantization_config"):
        edit_config(packed, set_key(f"{key}.bits", 8))
    assert_refused(packed, "self_conditioning.gate_proj.weight", "shape [24, 4], expected [24, 8]")


def test_scales_without_quantization(packed: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        del config["quantization"], config["quantization_config"]

    edit_config(packed, change)
    assert_refused(packed, ".scales", "no quantization")


def test_unpacked_part_of_a_packed_folder(packed: Path, folder: Path) -> None:
    """Decided by the presence of scales, not by the config."""
    dense = load_tensors(folder)[MATRIX]
    name = MATRIX.removesuffix("weight")

    def change(arrays: dict[str, Any]) -> None:
        del arrays[f"{name}scales"], arrays[f"{name}biases"]
        arrays[MATRIX] = dense

    edit_tensors(packed, change)
    assert load_network(packed).dropped == ()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"mode": "float3", "bits": 4, "group_size": 32}, ("float3", "affine, mxfp4")),
        ({"bits": 7, "group_size": 32}, ("7 bits", "(2, 3, 4, 5, 6, 8)")),
        ({"bits": 4, "group_size": 48}, ("groups of 48", "(32, 64, 128)")),
        ({"bits": 4}, ("groups of None",)),
        ({"mode": "mxfp4", "bits": 8, "group_size": 32}, ("mxfp4", "8 bits")),
        ({"mode": "nvfp4", "bits": 4, "group_size": 32}, ("nvfp4", "groups of 32")),
        ({"quant_method": "fp8"}, ("'fp8'", "not MLX's")),
        ({"quant_method": "compressed-tensors", "bits": 4}, ("'compressed-tensors'",)),
        ({"quant_method": "awq", "bits": 4, "group_size": 32}, ("'awq'", "bf16")),
        ("int8", ("'int8'",)),
    ],
)
@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
def test_quantisation_that_is_not_read(
    folder: Path, key: str, entry: Any, words: tuple[str, ...]
) -> None:
    edit_config(folder, set_key(key, entry))
    assert_refused(folder, "config.json", *words)


def test_override_that_is_not_read(packed: Path) -> None:
    module = MATRIX.removesuffix(".weight")
    edit_config(packed, lambda config: config["quantization"].update({module: {"bits": 9}}))
    assert_refused(packed, module, "9 bits")


def name_modules(folder: Path, *modules: str) -> None:
    """Give each module an override in both objects of config.json."""

    def change(config: dict[str, Any]) -> None:
        for key in ("quantization", "quantization_config"):
            config[key] |= {module: {"bits": 4, "group_size": 32} for module in modules}

    edit_config(folder, change)


@pytest.mark.parametrize(
    "module",
    [
        "model.decoder.layers.3.mlp.up_proj",  # there are three layers
        "model.decoder.layers.2.self_attn.v_proj",  # the last is a full one
        "model.decoder.layers.01.mlp.up_proj",
        "model.decoder.layers.1.mlp.up_proj.weight",
        "language_model.model.decoder.layers.1.mlp.up_proj",
        "model.layers.1.mlp.up_proj",
        "quantize_input",
    ],
)
def test_an_override_for_no_module_of_the_network_is_named(packed: Path, module: str) -> None:
    """Once it was ignored, and where it was meant for a matrix, the matrix was called misshapen."""
    name_modules(packed, module)
    assert_refused(packed, f"quantization names {module!r}", "model.decoder.embed_tokens")
    name_modules(packed, "a", "b")
    assert_refused(packed, "and 2 more")


def test_overrides_for_what_a_folder_may_lack_are_known(packed: Path) -> None:
    """A text-only copy keeps the vision modules in its config.json, and old ones name strays."""
    edit_tensors(packed, without_vision)
    name_modules(
        packed,
        "model.encoder.embed_vision.embedding_projection",
        "model.encoder.vision_tower.encoder.layers.0.mlp.up_proj.linear",
        "model.encoder.language_model.layers.0.mlp.up_proj",
        "model.encoder.language_model.embed_tokens",
        "lm_head",
    )
    assert load_network(packed).dropped == ()


def test_overrides_for_experts_that_are_stored_one_by_one(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, SIZES, per_expert=True)
    entry = {"bits": 4, "group_size": 32, "mode": "affine"}
    named = {f"model.decoder.layers.1.experts.{part}_proj": entry for part in ("gate_up", "down")}
    edit_config(folder, lambda config: config.update(quantization=entry | named))
    assert load_network(folder).dropped == ()


# --- a vision tower in OptiQ's side file


SIDE = "optiq/optiq_vision.safetensors"


def test_a_tower_in_a_side_file_is_bound(folder: Path) -> None:
    beside = load_network(folder)
    aside = load_network(vision_aside(folder))
    assert "model.encoder.vision_tower.std_bias" in mx.load(str(folder / SIDE))
    assert aside.dropped == ()
    for one, other in zip(arrays_of(beside), arrays_of(aside), strict=True):
        assert mx.array_equal(one, other)


def arrays_of(loaded: Loaded) -> list[mx.array]:
    assert loaded.model.vision is not None
    return distinct_arrays([loaded.model.vision, loaded.model.layers])


def test_a_side_file_of_text_tensors(folder: Path) -> None:
    vision_aside(folder)
    save_tensors(folder / SIDE, {"model.decoder.norm.bias": mx.ones(2)})
    assert_refused(folder, SIDE, "model.decoder.norm.bias", "the vision tower alone")


def test_a_side_file_that_repeats_a_tensor(folder: Path) -> None:
    name = "model.encoder.vision_tower.std_bias"
    vision_aside(folder)
    edit_tensors(folder, lambda arrays: arrays.update({name: mx.ones(16)}))
    assert_refused(folder, name, FILE, "optiq_vision.safetensors", "keep one")


def test_a_side_file_that_is_cut(folder: Path) -> None:
    side = vision_aside(folder) / SIDE
    side.write_bytes(side.read_bytes()[:-7])
    assert_refused(folder, SIDE, "cut short", "download it again")


def test_a_side_file_that_is_not_finite_is_named(folder: Path) -> None:
    name = "model.encoder.vision_tower.std_bias"
    edit_tensors(folder, lambda arrays: arrays.update({name: arrays[name] * float("nan")}))
    assert first_non_finite(vision_aside(folder)) == name


# --- a tower without sizes, sizes without a tower


def test_a_tower_without_sizes_is_dropped_and_listed(folder: Path) -> None:
    """No vision_config: its tensors are known, and cannot be built."""
    edit_config(folder, set_key("vision_config", None))
    loaded = load_network(folder)
    assert loaded.dropped == tuple(sorted(n for n in tensor_shapes(SIZES) if "vision" in n))
    assert (loaded.model.vision, loaded.model.config.image_ids) == (None, None)


def test_sizes_without_a_tower_are_a_text_only_copy(folder: Path) -> None:
    loaded = load_network(edit_tensors(folder, without_vision))
    assert (loaded.model.vision, loaded.dropped) == (None, ())
    with pytest.raises(dg.CheckpointError, match="no vision tower and sees no images"):
        loaded.model.image_features([])


def test_what_standardises_where_the_config_does_not(folder: Path) -> None:
    edit_config(folder, set_key("vision_config.standardize", False))
    assert_refused(folder, "vision_tower.std_bias", "not part of the model")


# --- config.json ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "moe_intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "num_hidden_layers",
        "num_experts",
        "top_k_experts",
        "head_dim",
        "sliding_window",
        "max_position_embeddings",
    ],
)
@pytest.mark.parametrize("value", [..., None, 0, -1, "32", 2.5, True])
def test_sizes_are_never_guessed(folder: Path, key: str, value: Any) -> None:
    """The reference's class defaults are those of no published checkpoint."""
    edit_config(folder, set_key(f"text_config.{key}", value))
    got = "missing" if value in (..., None) else repr(value)
    assert_refused(folder, "config.json", key, got)


@pytest.mark.parametrize("value", [..., 0, "8"])
def test_canvas_length_is_never_guessed(folder: Path, value: Any) -> None:
    edit_config(folder, set_key("canvas_length", value))
    assert_refused(folder, "config.json", "canvas_length")


FULL_ROPE = "text_config.rope_parameters.full_attention"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_type", "gemma4", ("'gemma4'", "'diffusion_gemma'")),
        ("model_type", ..., ("None", "'diffusion_gemma'")),
        ("text_config", ..., ("text_config", "missing")),
        ("text_config", [], ("text_config",)),
        ("text_config.use_bidirectional_attention", "all", ("use_bidirectional_attention", "all")),
        ("text_config.attention_bias", True, ("attention_bias",)),
        ("tie_word_embeddings", False, ("tie_word_embeddings",)),
        ("text_config.tie_word_embeddings", False, ("tie_word_embeddings",)),
        ("text_config.hidden_activation", "silu", ("hidden_activation", "'silu'")),
        (f"{FULL_ROPE}.rope_type", "yarn", ("rope_type", "'yarn'", "full_attention")),
        (f"{FULL_ROPE}.rope_type", "default", ("partial_rotary_factor", "full_attention")),
        (f"{FULL_ROPE}.factor", 8.0, ("factor", "8.0")),
        (f"{FULL_ROPE}.rope_theta", ..., ("rope_theta", "missing")),
        (FULL_ROPE, ..., ("rope_parameters", "full_attention")),
        ("text_config.layer_types", ["full_attention"], ("layer_types", "1", "expected 3")),
        ("text_config.layer_types", ["a", "b", "c"], ("layer type 'a'", "sliding_attention")),
        ("text_config.top_k_experts", 9, ("top_k_experts 9", "num_experts 4")),
        ("text_config.num_key_value_heads", 3, ("4 attention heads", "3 key-value heads")),
        ("text_config.per_layer_config", {"x": {}}, ("per_layer_config",)),
        ("text_config.per_layer_config", {"2": 5}, ("per_layer_config",)),
        ("text_config.rms_norm_eps", 0, ("rms_norm_eps",)),
        ("text_config.final_logit_softcapping", -30.0, ("final_logit_softcapping", "-30.0")),
        ("text_config.vocab_size", 132, ("embed_tokens", "[131, 32]", "[132, 32]")),
        ("eos_token_id", "<eos>", ("eos_token_id", "<eos>")),
        ("eos_token_id", [1, None], ("eos_token_id",)),
        ("dtype", "float64", ("float64", "bfloat16")),
    ],
)
def test_configs_that_are_refused(
    folder: Path, key: str, value: Any, words: tuple[str, ...]
) -> None:
    edit_config(folder, set_key(key, value))
    assert_refused(folder, *words)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text_config.use_bidirectional_attention", None),
        ("text_config.attention_bias", None),
        ("text_config.final_logit_softcapping", ...),
        ("text_config.layer_types", ["sliding_attention"] * 3),  # the last one is full anyhow
        ("vision_config", None),
        ("image_token_id", None),
        ("eos_token_id", [1, 106]),
        ("dtype", ...),
    ],
)
def test_configs_that_are_read(folder: Path, key: str, value: Any) -> None:
    edit_config(folder, set_key(key, value))
    assert dg.load_model(folder).config.text.final_logit_softcapping == 30.0


def test_legacy_head_dimension(folder: Path) -> None:
    """A missing global_head_dim means 512, and a null count of heads the other count."""
    edit_config(folder, set_key("text_config.global_head_dim", ...))
    assert_refused(folder, "self_attn.q_proj", f"expected [{4 * 512}, 32]")
    edit_config(folder, set_key("text_config.num_global_key_value_heads", None))
    assert_refused(folder, "self_attn.q_proj")


def test_configs_that_are_no_json(folder: Path) -> None:
    for text in ("{", "", "\x00", "[]", "null"):
        (folder / "config.json").write_text(text)
        assert_refused(folder, "config.json")
    (folder / "config.json").write_bytes(b"\xff\xfe{")
    assert_refused(folder, "config.json")
    (folder / "config.json").unlink()
    assert_refused(folder, "config.json", "not found")


def test_generation_configs(folder: Path) -> None:
    file = folder / "generation_config.json"
    for text, word in (("{", "JSON"), ("[]", "list"), ('{"eos_token_id": "x"}', "eos_token_id")):
        file.write_text(text)
        assert_refused(folder, word)
    file.write_text('{"sampler_config": {"_cls_name": "GreedySampler"}}')
    assert_refused(folder, "GreedySampler")
    file.write_text('{"eos_token_id": [5, 6], "max_new_tokens": 3}')
    assert dg.load_model(folder).config.stop_ids == (5, 6)


def test_sampler_defaults_inlined_in_the_config(folder: Path) -> None:
    """The order: generation_config.json, the object in config.json, the built-in numbers."""
    assert dg.load_model(folder).config.sampler.max_denoising_steps == 48
    inlined = {"max_denoising_steps": 7, "sampler_config": {"entropy_bound": 0.5}}
    edit_config(folder, lambda config: config.update(generation_config=inlined))
    sampler = dg.load_model(folder).config.sampler
    assert (sampler.max_denoising_steps, sampler.entropy_bound, sampler.t_max) == (7, 0.5, 0.8)
    (folder / "generation_config.json").write_text('{"max_denoising_steps": 9}')
    sampler = dg.load_model(folder).config.sampler
    assert (sampler.max_denoising_steps, sampler.entropy_bound) == (9, 0.1)


# --- files ---------------------------------------------------------------------------------------


def rewrite(folder: Path, change: Callable[[bytes], bytes]) -> Path:
    file = folder / FILE
    file.write_bytes(change(file.read_bytes()))
    return folder


def rewrite_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    def run(data: bytes) -> bytes:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        header = change(header) or header
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return rewrite(folder, run)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: b"", id="no byte"),
        pytest.param(lambda data: data[:5], id="five bytes"),
        pytest.param(lambda data: data[:200], id="half a header"),
        pytest.param(lambda data: data[:-1], id="one byte short"),
        pytest.param(lambda data: data[: len(data) // 2], id="half"),
        pytest.param(lambda data: data + b"\0", id="one byte long"),
        pytest.param(lambda data: data[:8] + b"\xff" * (len(data) - 8), id="no text"),
        pytest.param(lambda data: b"\xff" * len(data), id="a length beyond all"),
        pytest.param(lambda data: b"<html>Not Found</html>", id="a web page"),
        pytest.param(lambda data: b"version https://git-lfs.github.com/spec/v1\n", id="a pointer"),
    ],
)
def test_broken_files(folder: Path, change: Callable[[bytes], bytes]) -> None:
    rewrite(folder, change)
    assert_refused(folder, FILE, "download it again")


def test_a_cut_file_says_how_much(folder: Path) -> None:
    size = (folder / FILE).stat().st_size
    rewrite(folder, lambda data: data[:-100])
    assert_refused(folder, f"{size - 100:,} bytes, expected {size:,}", "cut short")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda header: [1], id="a list"),
        pytest.param(lambda header: header.update({MATRIX: 5}), id="a number for a tensor"),
        pytest.param(lambda header: header[MATRIX].pop("dtype") and None, id="no dtype"),
        pytest.param(lambda header: header[MATRIX].update(dtype="F7"), id="unknown dtype"),
        pytest.param(lambda header: header[MATRIX].update(shape="wide"), id="no shape"),
        pytest.param(lambda header: header[MATRIX].update(shape=[2**62, 4]), id="huge"),
        pytest.param(lambda header: header[MATRIX].update(shape=[-24, -32]), id="negative"),
        pytest.param(lambda header: header[MATRIX].update(data_offsets=[0, 4]), id="other bytes"),
        pytest.param(lambda header: header[MATRIX].update(data_offsets=[4, 0]), id="backwards"),
    ],
)
def test_broken_headers(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    rewrite_header(folder, change)
    assert_refused(folder, FILE, "download it again")


def test_a_dtype_that_is_not_known_is_named(folder: Path) -> None:
    rewrite_header(folder, lambda header: header[MATRIX].update(dtype="F4"))
    assert_refused(folder, FILE, "dtype 'F4' is not supported", "convert the bf16 checkpoint")


def test_two_tensors_in_one_place(folder: Path) -> None:
    """The file has the right length, and every tensor its bytes: those of another."""

    def share(header: dict[str, Any]) -> None:
        name = MATRIX.replace("up_proj", "gate_proj")
        assert name != MATRIX
        header[MATRIX]["data_offsets"] = header[name]["data_offsets"]

    rewrite_header(folder, share)
    assert_refused(folder, FILE, "overlap")


def test_what_a_mac_leaves_beside_a_file(folder: Path) -> None:
    (folder / f"._{FILE}").write_bytes(b"\0\5\26\7" * 64)
    load_network(folder)


def test_a_dtype_that_mlx_does_not_load(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    arrays = load_file(folder / FILE)
    arrays[MATRIX] = arrays[MATRIX].astype(np.float64)
    save_file(arrays, folder / FILE)
    assert_refused(folder, FILE, "F64")


def test_folders_without_safetensors(folder: Path) -> None:
    """A pickle is not even looked at."""
    (folder / FILE).rename(folder / "pytorch_model.bin")
    assert_refused(folder, "no *.safetensors")


def test_links_into_an_emptied_cache(folder: Path) -> None:
    """Bug: a dangling link, as a pruned Hub cache leaves it, was a FileNotFoundError."""
    (folder / FILE).unlink()
    (folder / FILE).symlink_to(folder / "blobs" / "gone")
    assert_refused(folder, FILE)


def test_twice_the_same_tensor(folder: Path) -> None:
    shutil.copy(folder / FILE, folder / "other.safetensors")
    assert_refused(folder, "model.decoder.", FILE, "other.safetensors")


def test_twice_the_same_shard(sharded: Path) -> None:
    first, second = (f"model-{number:05}-of-00003.safetensors" for number in (1, 2))
    shutil.copy(sharded / first, sharded / second)
    assert_refused(sharded, first, second)


def test_a_shard_is_missing(sharded: Path) -> None:
    name = "model-00002-of-00003.safetensors"
    (sharded / name).unlink()
    assert_refused(sharded, name, INDEX)


def test_shards_need_no_index(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    assert load_network(sharded).dropped == ()


def test_files_that_the_index_does_not_name(sharded: Path) -> None:
    """A leftover of an earlier download is not part of the model."""
    shutil.copy(sharded / "model-00001-of-00003.safetensors", sharded / "old.safetensors")
    assert load_network(sharded).dropped == ()


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"weight_map": []}', '{"weight_map": {}}'])
def test_broken_indices(sharded: Path, text: str) -> None:
    (sharded / INDEX).write_text(text)
    assert_refused(sharded, INDEX)


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "name",
    [
        "model.decoder.embed_tokens.weight",
        "model.decoder.norm.weight",
        "model.decoder.layers.0.self_attn.k_proj.weight",
        "model.decoder.layers.2.experts.down_proj",
        "model.decoder.layers.1.router.scale",
        "model.decoder.layers.1.layer_scalar",
        "model.encoder.language_model.layers.0.layer_scalar",
    ],
)
def test_weights_that_are_not_finite(folder: Path, name: str, value: float) -> None:
    """Found on the first step that they reach, then named."""

    def spoil(arrays: dict[str, Any]) -> None:
        arrays[name] = mx.full(arrays[name].shape, value)

    model = dg.load_model(edit_tensors(folder, spoil))
    with pytest.raises(dg.NumericsError) as caught:
        list(dg.denoise(model, [1, 2, 3], dg.Settings(max_tokens=8, seed=0)))
    message = str(caught.value)
    assert name in message
    assert "canvas 0, step 0" in message
    assert "\n" not in message


def test_self_conditioning_that_is_not_finite(folder: Path) -> None:
    """It is read from the second step on."""
    name = "model.decoder.self_conditioning.up_proj.weight"
    edit_tensors(folder, lambda arrays: arrays.update({name: arrays[name] * float("nan")}))
    with pytest.raises(dg.NumericsError, match=rf"step 1.*{name}"):
        list(dg.denoise(dg.load_model(folder), [1, 2], dg.Settings(max_tokens=8, seed=0)))


def test_scales_that_are_not_finite(packed: Path) -> None:
    name = MATRIX.replace("weight", "scales")
    edit_tensors(packed, lambda arrays: arrays.update({name: arrays[name] * float("nan")}))
    with pytest.raises(dg.NumericsError, match=name):
        list(dg.denoise(dg.load_model(packed), [1, 2], dg.Settings(max_tokens=8, seed=0)))


def test_the_builder_writes_what_it_says() -> None:
    """The two spellings of the same sizes differ as those in circulation do."""
    launch, per_layer = (
        config_of(Sizes(spelling=s))["text_config"] for s in ("launch", "per_layer")
    )
    assert "per_layer_config" not in launch
    assert per_layer["per_layer_config"] == {
        "0": {},
        "2": {"head_dim": 16, "num_key_value_heads": 1},
    }
    assert not {"global_head_dim", "num_global_key_value_heads"} & set(per_layer)
    long = config_of(Sizes(layers="ssssssssssf", spelling="per_layer"))["text_config"]
    assert list(long["per_layer_config"]) == ["00", "10"]
