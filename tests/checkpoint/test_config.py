"""config.json and generation_config.json in both spellings, their corners, and what is refused.

tests/data holds the published files: google/diffusiongemma-26B-A4B-it's two, and the config.json of
mlx-community/diffusiongemma-26B-A4B-it-4bit, compressed.
"""

import copy
import gzip
import json
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says, raises

from mlx_diffgemma.checkpoint.config import LayerConfig, ModelConfig, read_config
from mlx_diffgemma.checkpoint.generation import SamplerDefaults
from mlx_diffgemma.checkpoint.places import Place
from mlx_diffgemma.checkpoint.quantization import Quantization, QuantizationConfig
from mlx_diffgemma.checkpoint.vision import ImageIds, VisionConfig
from mlx_diffgemma.errors import CheckpointError

DATA = Path(__file__).parents[1] / "data"
GOOGLE: dict[str, Any] = json.loads((DATA / "google-config.json").read_text())
GENERATION: dict[str, Any] = json.loads((DATA / "google-generation_config.json").read_text())
MLX: dict[str, Any] = json.loads(
    gzip.decompress((DATA / "mlx-community-4bit-config.json.gz").read_bytes())
)
SLIDING = LayerConfig(True, 256, 8, 1e4, 1.0)
FULL = LayerConfig(False, 512, 2, 1e6, 0.25)
ABSENT = object()


def read(
    folder: Path, config: dict[str, Any], generation: dict[str, Any] | None = None
) -> ModelConfig:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return read_config(folder)


def google(**text: Any) -> dict[str, Any]:
    """The published config.json with other values in text_config; ABSENT takes a key out."""
    config = copy.deepcopy(GOOGLE)
    config["text_config"] |= text
    for key in [key for key, value in text.items() if value is ABSENT]:
        del config["text_config"][key]
    return config


def resaved(entries: Any, **text: Any) -> dict[str, Any]:
    """The published config.json as a current transformers writes it."""
    legacy = {"global_head_dim": ABSENT, "num_global_key_value_heads": ABSENT}
    return google(per_layer_config=entries, **legacy, **text)


def assert_refused(
    folder: Path, config: dict[str, Any], *facts: str, generation: Any = None
) -> None:
    """The error names the file and says the facts."""
    file = "config.json" if generation is None else "generation_config.json"
    with raises(CheckpointError, file, *facts):
        read(folder, config, generation)


# --- the published files


def test_the_published_sizes(tmp_path: Path) -> None:
    config = read(tmp_path, GOOGLE, GENERATION)
    text = config.text
    assert (text.hidden_size, text.num_attention_heads, text.vocab_size) == (2816, 16, 262_144)
    assert (text.intermediate_size, text.moe_intermediate_size) == (2112, 704)
    assert (text.num_experts, text.top_k_experts) == (128, 8)
    assert (text.rms_norm_eps, text.final_logit_softcapping) == (1e-6, 30.0)
    assert (text.sliding_window, text.max_position_embeddings) == (1024, 262_144)
    assert text.layers == (SLIDING, SLIDING, SLIDING, SLIDING, SLIDING, FULL) * 5
    assert [i for i, layer in enumerate(text.layers) if not layer.sliding] == [5, 11, 17, 23, 29]
    assert (config.canvas_length, config.dtype) == (256, "bfloat16")
    assert config.stop_ids == (1, 106, 50)
    assert config.sampler == SamplerDefaults(48, 0.1, 0.4, 0.8, 1, 0.005)
    assert config.vision == VisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        head_dim=72,
        position_embedding_size=10_240,
        rms_norm_eps=1e-6,
        rope_theta=100.0,
        standardize=True,
        soft_tokens=280,
    )
    assert config.image_ids == ImageIds(begin=255_999, soft=258_880, end=258_882)
    assert (config.image_token_id, config.bidirectional_images) == (258_880, True)
    assert config.quantization is None


def test_the_mlx_folder_is_the_same_network_with_236_modules_at_8_bits(tmp_path: Path) -> None:
    """Its generation settings stand inside config.json."""
    config = read(tmp_path, MLX)
    published = read(tmp_path, GOOGLE, GENERATION)
    assert config.text == published.text
    assert config.sampler == published.sampler
    assert config.stop_ids == published.stop_ids
    packing = config.quantization
    assert packing is not None
    assert packing.default == QuantizationConfig("affine", 4, 64)
    assert len(packing.overrides) == 236
    assert set(packing.overrides.values()) == {QuantizationConfig("affine", 8, 64)}
    assert packing.of("model.decoder.embed_tokens").bits == 8
    assert packing.of("model.decoder.layers.29.router.proj").bits == 8
    assert packing.of("model.decoder.layers.0.experts.gate_up_proj").bits == 4
    assert packing.default.name == "4-bit affine, groups of 64"


def test_the_config_is_frozen(tmp_path: Path) -> None:
    config = read(tmp_path, GOOGLE)
    for part, name in (
        (config, "text"),
        (config.text, "layers"),
        (config.text.layers[0], "sliding"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(part, name, None)


# --- two spellings

OWN = {"head_dim": 512, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    "entries",
    [
        {f"{i:02}": OWN for i in (5, 11, 17, 23, 29)},  # as a current transformers saves 30 layers
        {str(i): OWN for i in (5, 11, 17, 23, 29)},
        {f"{i:02}": OWN if i % 6 == 5 else {} for i in range(30)},
        {f"{i:02}": OWN if i % 6 == 5 else None for i in range(30)},
        {
            str(i): OWN if i % 6 == 5 else {"head_dim": 256, "num_key_value_heads": 8}
            for i in range(30)
        },
        {str(i): {**OWN, "sliding_window": 1024} for i in (5, 11, 17, 23, 29)},  # the common one
    ],
)
def test_both_spellings_read_the_same(tmp_path: Path, entries: dict[str, Any]) -> None:
    assert read(tmp_path, resaved(entries)) == read(tmp_path, GOOGLE)


def test_per_layer_entries_inherit_what_they_lack(tmp_path: Path) -> None:
    entries = {"05": {"head_dim": 512}, "11": {"num_key_value_heads": 2}, "17": {}}
    layers = read(tmp_path, resaved(entries)).text.layers
    assert layers[5] == LayerConfig(False, 512, 8, 1e6, 0.25)
    assert layers[11] == LayerConfig(False, 256, 2, 1e6, 0.25)
    assert layers[17] == layers[23] == LayerConfig(False, 256, 8, 1e6, 0.25)
    assert layers[4] == SLIDING


@pytest.mark.parametrize("entries", [{}, None])
def test_an_empty_per_layer_config_means_no_overrides(tmp_path: Path, entries: Any) -> None:
    """Not the launch spelling's 512: the key being there says which spelling it is."""
    layers = read(tmp_path, resaved(entries)).text.layers
    assert {(layer.head_dim, layer.num_key_value_heads) for layer in layers} == {(256, 8)}


def test_a_sliding_layer_may_have_sizes_of_its_own(tmp_path: Path) -> None:
    layers = read(tmp_path, resaved({"0": {"num_key_value_heads": 4}})).text.layers
    assert layers[0] == LayerConfig(True, 256, 4, 1e4, 1.0)


@pytest.mark.parametrize(
    ("entries", "facts"),
    [
        ({"x": OWN}, "per_layer_config is malformed"),
        ([OWN], "per_layer_config is malformed"),
        ({"5": 3}, "per_layer_config is malformed"),
        ({"5": {"head_dim": 0}}, "head_dim is 0 ... positive whole number"),
        ({"5": {"num_key_value_heads": 3}}, "16 attention heads ... 3 key-value heads"),
        ({"30": OWN}, "per_layer_config ... layer 30 ... 0 to 29"),
        ({"-1": OWN}, "per_layer_config ... layer -1 ... 0 to 29"),
        ({"5": {"sliding_window": 512}}, "per_layer_config ... layer 5 ... sliding_window"),
        ({"05": {"skip": ["mlp"]}}, "per_layer_config ... layer 5 ... skip"),
    ],
)
def test_per_layer_entries_that_mean_nothing_here_are_refused(
    tmp_path: Path, entries: Any, facts: str
) -> None:
    assert_refused(tmp_path, resaved(entries), facts)


def test_launch_spelling_without_a_global_head_dim_means_512(tmp_path: Path) -> None:
    assert read(tmp_path, google(global_head_dim=ABSENT)).text.layers[5] == FULL


@pytest.mark.parametrize("heads", [None, ABSENT])
def test_without_global_key_value_heads_full_layers_have_the_common_number(
    tmp_path: Path, heads: Any
) -> None:
    layers = read(tmp_path, google(num_global_key_value_heads=heads)).text.layers
    assert layers[5] == LayerConfig(False, 512, 8, 1e6, 0.25)


def test_the_last_layer_is_always_full(tmp_path: Path) -> None:
    kinds = ["sliding_attention"] * 30
    layers = read(tmp_path, google(layer_types=kinds)).text.layers
    assert layers == (SLIDING,) * 29 + (FULL,)


@pytest.mark.parametrize(("count", "full"), [(30, [5, 11, 17, 23, 29]), (8, [5, 7]), (1, [0])])
@pytest.mark.parametrize("absent", [None, ABSENT])
def test_without_layer_types_every_sixth_layer_and_the_last_are_full(
    tmp_path: Path, count: int, full: list[int], absent: Any
) -> None:
    layers = read(tmp_path, google(layer_types=absent, num_hidden_layers=count)).text.layers
    assert [i for i, layer in enumerate(layers) if not layer.sliding] == full


def test_what_a_config_may_leave_out(tmp_path: Path) -> None:
    names = [
        *("final_logit_softcapping", "rms_norm_eps", "rope_parameters", "hidden_activation"),
        *("use_bidirectional_attention", "attention_bias", "tie_word_embeddings"),
    ]
    left_out = dict.fromkeys(names, ABSENT)
    assert read(tmp_path, google(**left_out)).text == read(tmp_path, GOOGLE).text


def test_a_text_only_checkpoint_has_no_vision(tmp_path: Path) -> None:
    config = google(use_bidirectional_attention=None)
    images = ("vision_config", "image_token_id", "boi_token_id", "eoi_token_id")
    config |= dict.fromkeys(images)
    assert read(tmp_path, config).vision is None
    for key in images:
        del config[key]
    without = read(tmp_path, config)
    assert (without.vision, without.image_ids, without.image_token_id) == (None, None, None)
    assert without.bidirectional_images is False


@pytest.mark.parametrize(
    ("keys", "dtype"),
    [
        ({"dtype": "float16"}, "float16"),
        ({"torch_dtype": "float32"}, "float32"),
        ({"dtype": "float32", "torch_dtype": "float16"}, "float32"),
        ({"dtype": None, "torch_dtype": "float16"}, "float16"),
        ({}, "bfloat16"),
    ],
)
def test_the_dtype_goes_by_either_name(tmp_path: Path, keys: dict[str, str], dtype: str) -> None:
    """The top level goes first: transformers saves a converted model with text_config's old one."""
    config = {key: value for key, value in GOOGLE.items() if key != "dtype"}
    assert read(tmp_path, config | keys).dtype == dtype


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_a_dtype_in_text_config_alone_counts(tmp_path: Path, key: str) -> None:
    """Once such a checkpoint became bfloat16 without a word."""
    config = google(**{"dtype": ABSENT, key: "float16"})
    del config["dtype"]
    assert read(tmp_path, config).dtype == "float16"


def test_without_any_dtype_it_is_the_published_one(tmp_path: Path) -> None:
    config = google(dtype=ABSENT)
    del config["dtype"]
    assert read(tmp_path, config).dtype == "bfloat16"


@pytest.mark.parametrize("name", ["float64", "torch.float16", "auto", "", 16, ["float32"], {}])
def test_a_dtype_that_no_network_computes_in_is_refused_with_the_known_ones(
    tmp_path: Path, name: Any
) -> None:
    known = "float32, bfloat16, float16"
    assert_refused(tmp_path, GOOGLE | {"dtype": name}, f"dtype is {name!r} ... expected", known)
    config = google(dtype=name)
    del config["dtype"]
    assert_refused(tmp_path, config, f"text_config.dtype is {name!r}", known)


# --- what a checkpoint was trained for


def test_a_checkpoint_says_its_task_and_modes(tmp_path: Path) -> None:
    own = {"task": "sudoku", "modes": ["diffusion"]}
    config = read(tmp_path, GOOGLE | {"mlx_diffgemma": own})
    assert (config.task, config.modes) == ("sudoku", ("diffusion",))


@pytest.mark.parametrize("own", [ABSENT, None, {}, {"task": None, "modes": None}])
def test_a_checkpoint_that_says_nothing_answers_any_prompt(tmp_path: Path, own: Any) -> None:
    config = read(tmp_path, GOOGLE if own is ABSENT else GOOGLE | {"mlx_diffgemma": own})
    assert (config.task, config.modes) == (None, ("diffusion", "ar"))


@pytest.mark.parametrize(
    ("own", "facts"),
    [
        ("sudoku", "mlx_diffgemma is 'sudoku' ... an object"),
        (["sudoku"], "mlx_diffgemma is ['sudoku'] ... an object"),
        ({"task": "chess"}, "mlx_diffgemma.task names 'chess' ... sudoku ... newer"),
        ({"task": ["sudoku"]}, "mlx_diffgemma.task names ['sudoku'] ... sudoku"),
        ({"task": ""}, "mlx_diffgemma.task names '' ... sudoku"),
        ({"modes": ["ballet"]}, "mlx_diffgemma.modes names 'ballet' ... diffusion ... newer"),
        ({"modes": ["diffusion", 3]}, "mlx_diffgemma.modes names 3 ... diffusion"),
        ({"modes": "diffusion"}, "mlx_diffgemma.modes is 'diffusion' ... list"),
        ({"modes": []}, "mlx_diffgemma.modes is [] ... list"),
        ({"tasks": "sudoku"}, "mlx_diffgemma names 'tasks' ... task or modes"),
        ({"": 1}, "mlx_diffgemma names '' ... task or modes"),
    ],
)
def test_a_purpose_that_is_not_known_is_one_line(tmp_path: Path, own: Any, facts: str) -> None:
    assert_refused(tmp_path, GOOGLE | {"mlx_diffgemma": own}, facts)


# --- stop ids and sampler


@pytest.mark.parametrize(
    ("generation", "top", "text", "expected"),
    [
        ([1, 106, 50], [1, 106], 1, (1, 106, 50)),
        (7, [1, 106], 1, (7,)),
        (0, [1, 106], 1, (0,)),
        ([], [1, 106], 1, ()),
        (None, [1, 106], 1, (1, 106)),
        (None, 9, 1, (9,)),
        (None, None, 1, (1,)),
        (None, None, [2, 3], (2, 3)),
        (None, None, None, ()),
    ],
)
def test_stop_ids_come_from_the_first_place_that_has_any(
    tmp_path: Path, generation: Any, top: Any, text: Any, expected: tuple[int, ...]
) -> None:
    config = google(eos_token_id=text) | {"eos_token_id": top}
    assert read(tmp_path, config, {"eos_token_id": generation}).stop_ids == expected


def test_settings_inside_config_json_stand_in_for_the_file(tmp_path: Path) -> None:
    inlined = google() | {"generation_config": {"t_max": 0.9, "eos_token_id": 5}}
    config = read(tmp_path, inlined)
    assert (config.sampler.t_max, config.stop_ids) == (0.9, (5,))
    config = read(tmp_path, inlined, {"t_min": 0.1, "eos_token_id": 6})
    assert config.sampler == SamplerDefaults(t_min=0.1)
    assert config.stop_ids == (6,)


def test_without_settings_the_sampler_has_the_references_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, GOOGLE).sampler == SamplerDefaults(48, 0.1, 0.4, 0.8, 1, 0.005)


def test_every_sampler_setting_is_read(tmp_path: Path) -> None:
    own = {"max_denoising_steps": 9, "t_min": 0.2, "t_max": 0.6}
    own |= {"stability_threshold": 0, "confidence_threshold": 0.01}
    own |= {"sampler_config": {"_cls_name": "EntropyBoundSamplerConfig", "entropy_bound": 0.3}}
    assert read(tmp_path, GOOGLE, own).sampler == SamplerDefaults(9, 0.3, 0.2, 0.6, 0, 0.01)


def test_another_sampler_is_refused(tmp_path: Path) -> None:
    other = {"sampler_config": {"_cls_name": "TopP"}}
    said = "sampler_config._cls_name is 'TopP' ... not supported"
    assert_refused(tmp_path, GOOGLE, said, generation=other)
    inlined = GOOGLE | {"generation_config": other}
    assert_refused(tmp_path, inlined, "generation_config.sampler_config._cls_name is 'TopP'")
    for wrong in ("x", [1], 3):
        said = f"sampler_config is {wrong!r} ... an object"
        assert_refused(tmp_path, GOOGLE, said, generation={"sampler_config": wrong})


@pytest.mark.parametrize("value", ["</s>", ["</s>"], 1.5, [True], -1, [10**300]])
def test_stop_ids_that_are_no_ids_are_refused_with_their_place(tmp_path: Path, value: Any) -> None:
    """The key is in up to four places, and once none of them was named."""
    said = ("eos_token_id is", "an id or a list of ids")
    with raises(CheckpointError, tmp_path / "generation_config.json", *said):
        read(tmp_path, GOOGLE, {"eos_token_id": value})
    for config, place in (
        (GOOGLE | {"generation_config": {"eos_token_id": value}}, "generation_config."),
        (GOOGLE | {"eos_token_id": value}, ""),
        (google(eos_token_id=value) | {"eos_token_id": None}, "text_config."),
    ):
        with raises(CheckpointError, f"{tmp_path / 'config.json'}: {place}eos_token_id is"):
            read(tmp_path, config)


def test_each_sampler_setting_knows_its_place(tmp_path: Path) -> None:
    own = {"t_min": 0.2, "sampler_config": {"entropy_bound": 0.3}, "t_max": None}
    file, config = tmp_path / "generation_config.json", tmp_path / "config.json"
    assert read(tmp_path, GOOGLE, own).sampler_places == {
        "t_min": Place(file, "t_min"),
        "entropy_bound": Place(file, "sampler_config.entropy_bound"),
    }
    places = read(tmp_path, GOOGLE | {"generation_config": own}).sampler_places
    assert str(places["entropy_bound"]) == (
        f"{config}: generation_config.sampler_config.entropy_bound"
    )


@pytest.mark.parametrize("value", [0, True, "x", [], 10**300, 1e308])
def test_a_bad_sampler_setting_stops_nobody_who_does_not_use_it(tmp_path: Path, value: Any) -> None:
    """`Settings.resolved` checks what is used, so that an option may stand in its place."""
    assert read(tmp_path, GOOGLE, {"t_max": value}).sampler.t_max == value


# --- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention = 'all'"),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings = False"),
        ({"hidden_activation": "silu"}, "hidden_activation = 'silu'"),
    ],
)
def test_switches_that_no_published_checkpoint_uses_are_refused_by_name(
    tmp_path: Path, text: dict[str, Any], message: str
) -> None:
    assert_refused(tmp_path, google(**text), message, "not supported")


def test_untied_embeddings_are_refused_at_the_top_too(tmp_path: Path) -> None:
    untied = GOOGLE | {"tie_word_embeddings": False}
    assert_refused(tmp_path, untied, "tie_word_embeddings = False ... not supported")


def rope(**full: Any) -> dict[str, Any]:
    parameters = copy.deepcopy(GOOGLE["text_config"]["rope_parameters"])
    parameters["full_attention"] |= full
    return {"rope_parameters": parameters}


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (rope(rope_type="yarn"), "rope_type 'yarn' ... full_attention ... not supported"),
        (rope(rope_type="linear"), "rope_type 'linear' ... full_attention ... not supported"),
        (rope(factor=8.0), "rope factor 8.0 ... not supported"),
        (rope(rope_type="default"), "partial_rotary_factor 0.25 ... full_attention ... rope_type"),
        (rope(rope_theta=None), "rope_theta is missing"),
        (rope(partial_rotary_factor="x"), "partial_rotary_factor is 'x' ... positive number"),
        ({"rope_parameters": {"full_attention": {}}}, "rope_parameters ... sliding_attention"),
        ({"layer_types": ["full_attention"] * 29}, "layer_types ... 29 entries ... 30"),
        ({"layer_types": ["chunked"] * 30}, "layer type 'chunked' ... expected"),
        ({"layer_types": "full"}, "layer_types ... str entries ... 30"),
        ({"top_k_experts": 129}, "top_k_experts 129 ... num_experts 128"),
        ({"num_key_value_heads": 5}, "16 attention heads ... 5 key-value heads"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, text: dict[str, Any], facts: str) -> None:
    assert_refused(tmp_path, google(**text), facts)


SIZES = [
    *("vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "num_experts", "top_k_experts"),
    *("sliding_window", "max_position_embeddings", "num_hidden_layers"),
]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [ABSENT, None, 0, -1, 2.0, "8", True])
def test_a_size_is_never_guessed(tmp_path: Path, name: str, value: Any) -> None:
    got = "missing" if value in (ABSENT, None) else repr(value)
    assert_refused(tmp_path, google(**{name: value}), f"{name} is {got} ... positive whole number")


@pytest.mark.parametrize("value", [None, 0, "256"])
def test_the_canvas_length_is_never_guessed(tmp_path: Path, value: Any) -> None:
    assert_refused(tmp_path, GOOGLE | {"canvas_length": value}, "canvas_length is")


@pytest.mark.parametrize("kind", ["gemma4", "llama", None])
def test_another_model_is_refused_by_name(tmp_path: Path, kind: str | None) -> None:
    assert_refused(tmp_path, GOOGLE | {"model_type": kind}, f"{kind!r} ... 'diffusion_gemma'")


def test_a_missing_or_broken_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: not found"):
        read_config(tmp_path)
    for content, facts in (
        (b"{,}", "line 1 column 2 (char 1) ... expected a JSON object"),
        (b"\xff\xfe", "expected a JSON object"),
        (b"", "expected a JSON object"),
        (b"[1]", "list, expected a JSON object"),
        (b"null", "NoneType, expected a JSON object"),
    ):
        (tmp_path / "config.json").write_bytes(content)
        with raises(CheckpointError, "config.json", facts):
            read_config(tmp_path)


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from places(item, (*path, key))


def problem_with(folder: Path, config: dict[str, Any]) -> str | None:
    """What is wrong with the way this config is refused, if it is; None where it is read."""
    try:
        read(folder, config)
    except CheckpointError as error:
        return "two lines" if "\n" in str(error) else None
    except Exception as error:
        return repr(error)
    return None


def test_no_value_of_a_wrong_kind_ends_in_anything_but_one_line(tmp_path: Path) -> None:
    """Each key of the three objects in turn becomes each of these; reading it may also go well."""
    whole = resaved({"05": OWN}) | {"generation_config": GENERATION}
    whole["quantization"] = {"bits": 4, "group_size": 64, "m": {"bits": 8, "group_size": 64}}
    problems = []
    for path in places(whole):
        for junk in (None, "x", -1, 0, 1.5, True, [], [1], ["x"], {}, {"x": 1}):
            config = copy.deepcopy(whole)
            part = config
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = junk
            if (problem := problem_with(tmp_path, config)) is not None:
                problems.append(f"{'.'.join(path)} = {junk!r}: {problem}")
    assert problems == []


# --- quantisation


OURS = {"bits": 4, "group_size": 64}


def packed(**quantization: Any) -> dict[str, Any]:
    return GOOGLE | {"quantization": quantization}


@pytest.mark.parametrize(
    ("mode", "bits", "group_size"),
    [
        *(("affine", bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)),
        *(("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)),
    ],
)
def test_every_packing_of_mlx_is_read(
    tmp_path: Path, mode: str, bits: int, group_size: int
) -> None:
    config = read(tmp_path, packed(mode=mode, bits=bits, group_size=group_size))
    packing = QuantizationConfig(mode, bits, group_size)
    assert config.quantization == Quantization(packing, {})


def test_overrides_without_a_mode_are_affine_under_any_default(tmp_path: Path) -> None:
    entries = {"a.b": {"bits": 8, "group_size": 64}, "a.c": False, "a.d": True}
    quantization = read(
        tmp_path, packed(mode="nvfp4", bits=4, group_size=16, **entries)
    ).quantization
    assert quantization is not None
    assert quantization.of("a.b") == QuantizationConfig("affine", 8, 64)
    for module in ("a.c", "a.d", "x"):
        assert quantization.of(module) == QuantizationConfig("nvfp4", 4, 16)
    assert set(quantization.overrides) == {"a.b", "a.c", "a.d"}


def test_the_second_key_is_read_where_the_first_is_absent(tmp_path: Path) -> None:
    config = GOOGLE | {"quantization_config": {"bits": 4, "group_size": 64}}
    quantization = read(tmp_path, config).quantization
    assert quantization is not None
    assert quantization.default == QuantizationConfig("affine", 4, 64)


@pytest.mark.parametrize(
    ("quantization", "facts"),
    [
        ({"mode": "q4_k", "bits": 4, "group_size": 32}, "quantization.mode 'q4_k' ... affine"),
        ({"mode": "", "bits": 4, "group_size": 32}, "quantization.mode '' ... affine"),
        ({"mode": 0, "bits": 4, "group_size": 32}, "quantization.mode 0 ... affine"),
        (OURS | {"a\nb": 1}, "'quantization.a\\nb' is 1"),
        (OURS | {"x" * 9000: 1}, "is 1 ... MLX's"),
        ({"bits": 7, "group_size": 64}, "quantization is 7 bits ... groups of 64"),
        ({"mode": "nvfp4", "bits": 4, "group_size": 32}, "4 bits ... groups of 32 ... nvfp4 has"),
        ({"bits": 4}, "4 bits ... groups of None"),
        ({"bits": 8.0, "group_size": 64}, "8.0 bits ... groups of 64"),
        ({"bits": 4, "group_size": True}, "4 bits ... groups of True"),
        (
            {"bits": 4, "group_size": 64, "model.x": {"bits": 9, "group_size": 64}},
            "quantization.model.x is 9 bits ... groups of 64",
        ),
        ({"bits": 4, "group_size": 64, "zero_point": 1}, "quantization.zero_point is 1 ... MLX's"),
        (
            {"bits": 4, "group_size": 64, "m": {"bits": 4, "group_size": 64, "axis": 1}},
            "quantization.m.axis is 1 ... MLX's",
        ),
        (
            {"bits": 4, "group_size": 16, "mode": "nvfp4", "quant_method": "affine"},
            "quant_method affine ... mode nvfp4",
        ),
    ],
)
def test_a_packing_mlx_does_not_have_is_refused_by_module(
    tmp_path: Path, quantization: dict[str, Any], facts: str
) -> None:
    assert_refused(tmp_path, packed(**quantization), facts)


@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
@pytest.mark.parametrize("method", ["mlx", "affine", "mlx-affine"])
def test_mlx_may_be_named_as_the_method(tmp_path: Path, key: str, method: str) -> None:
    """Once refused as another's: "method 'mlx' is not MLX's"."""
    config = read(tmp_path, GOOGLE | {key: OURS | {"quant_method": method}})
    assert config.quantization == Quantization(QuantizationConfig("affine", 4, 64), {})
    assert config == read(
        tmp_path, GOOGLE | {key: OURS | {"quant_method": method, "mode": "affine"}}
    )


def test_a_method_that_is_a_mode_is_the_mode(tmp_path: Path) -> None:
    named = packed(quant_method="nvfp4", bits=4, group_size=16)
    assert read(tmp_path, named) == read(tmp_path, packed(mode="nvfp4", bits=4, group_size=16))
    unnamed = packed(quant_method="mlx", mode="mxfp8", bits=8, group_size=32)
    assert read(tmp_path, unnamed) == read(tmp_path, packed(mode="mxfp8", bits=8, group_size=32))


FOREIGN = [
    *("compressed-tensors", "modelopt", "fp8", "awq", "gptq", "bitsandbytes", "torchao", "hqq"),
    *("MLX", "", 4, ["mlx"]),
]


@pytest.mark.parametrize("method", FOREIGN)
@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
def test_the_method_of_another_is_refused_by_name(tmp_path: Path, key: str, method: Any) -> None:
    """Whatever else the object says: AWQ has bits and group_size too."""
    said = (f"{key}.quant_method {method!r} is not MLX's", "bf16 checkpoint")
    assert_refused(tmp_path, GOOGLE | {key: OURS | {"quant_method": method}}, *said)
    text = google(**{key: OURS | {"quant_method": method}})
    assert_refused(tmp_path, text, f"text_config.{said[0]}", said[1])


@pytest.mark.parametrize(
    ("foreign", "keys"),
    [
        ({"quant_algo": "NVFP4", "kv_cache_quant_algo": None}, "quant_algo, kv_cache_quant_algo"),
        ({"load_in_4bit": True}, "load_in_4bit"),
        ({"producer": {"name": "modelopt"}}, "producer"),
        ({"quant_method": "mxfp4", "modules_to_not_convert": []}, "quant_method, modules"),
    ],
)
def test_the_object_of_another_is_one_line(
    tmp_path: Path, foreign: dict[str, Any], keys: str
) -> None:
    """Once "None bits in groups of None"."""
    config = GOOGLE | {"quantization": foreign}
    with pytest.raises(CheckpointError, match=f"quantization has '{keys}") as refused:
        read(tmp_path, config)
    assert_says(refused.value, "neither bits nor group_size ... not MLX's ... bf16 checkpoint")


@pytest.mark.parametrize("wrong", ["int8", 4, True, [4]])
def test_what_is_no_object_at_all_is_one_line(tmp_path: Path, wrong: Any) -> None:
    for key in ("quantization", "quantization_config"):
        assert_refused(tmp_path, GOOGLE | {key: wrong}, f"{key} is {wrong!r}, expected an object")


def test_both_objects_have_to_say_the_same(tmp_path: Path) -> None:
    """Once the second was never looked at."""
    eight = {"bits": 8, "group_size": 64}
    config = packed(**OURS) | {"quantization_config": eight}
    said = ("quantization says 4-bit", "all modules", "quantization_config 8-bit", "make them one")
    assert_refused(tmp_path, config, *said)
    config = packed(**OURS, **{"a.b": eight}) | {"quantization_config": OURS}
    assert_refused(tmp_path, config, "quantization says 8-bit ... 'a.b', quantization_config 4-bit")
    config = packed(**OURS) | {"quantization_config": OURS | {"a.b": eight}}
    assert_refused(tmp_path, config, "quantization says 4-bit ... 'a.b', quantization_config 8-bit")
    config = packed(**OURS) | {"quantization_config": {"quant_method": "awq", **OURS}}
    assert_refused(tmp_path, config, "quantization_config.quant_method 'awq'")


def test_the_same_may_be_said_in_two_ways(tmp_path: Path) -> None:
    said = OURS | {"mode": "affine", "quant_method": "mlx", "a.b": OURS, "a.c": False}
    config = read(tmp_path, packed(**OURS) | {"quantization_config": said})
    assert config.quantization == Quantization(QuantizationConfig("affine", 4, 64), {})
