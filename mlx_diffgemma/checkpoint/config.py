"""The config of a checkpoint: its JSON files as frozen dataclasses.

Two spellings of config.json are in circulation and both are read here: the launch spelling
(`global_head_dim`, `num_global_key_value_heads`) and the one a current transformers writes
(`per_layer_config`). Nothing is defaulted that decides a shape. Facts: transformers 5.23,
`models/diffusion_gemma/configuration_diffusion_gemma.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from ..assets import TASKS
from ..errors import CheckpointError, brief
from ..machine.dtypes import FLOAT_NAMES, FloatName
from .files import MODEL_TYPE, read_object
from .generation import (
    SamplerDefaults,
    TokenDefaults,
    generation_section,
    sampler_defaults,
    stop_ids,
    token_defaults,
)
from .places import Place, Section
from .quantization import Quantization, read_quantization
from .vision import (
    ACTIVATION,
    MOST_COUNT,
    MOST_LAYERS,
    MOST_REAL,
    ImageIds,
    VisionConfig,
    read_image_ids,
    read_vision,
)

OWN_KEY = "mlx_diffgemma"  # of the object in which a checkpoint says what it was trained for
MODES = ("diffusion", "ar")
BIDIRECTIONAL = "use_bidirectional_attention"
PURPOSE = ("task", "modes")  # what that object holds
DTYPE_KEYS = ("dtype", "torch_dtype")
DEFAULT_DTYPE: FloatName = "bfloat16"  # of the published checkpoint
SLIDING, FULL = "sliding_attention", "full_attention"
LEGACY_GLOBAL_HEAD_DIM = 512  # what the reference takes when the launch spelling leaves it out
DEFAULT_SOFTCAP = 30.0
PER_LAYER = ("head_dim", "num_key_value_heads")  # what per_layer_config may override
DEFAULT_ROPE: Mapping[str, Mapping[str, Any]] = {
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
}


@dataclass(frozen=True)
class LayerConfig:
    """One layer's attention: its kind, head sizes and rotary angles."""

    sliding: bool
    head_dim: int
    num_key_value_heads: int
    rope_theta: float
    rotary_fraction: float  # share of the head's pairs that turn


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the text network; names as in config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    moe_intermediate_size: int
    num_attention_heads: int
    num_experts: int
    top_k_experts: int
    rms_norm_eps: float
    sliding_window: int
    final_logit_softcapping: float
    max_position_embeddings: int
    layers: tuple[LayerConfig, ...]


@dataclass(frozen=True)
class ModelConfig:
    """A whole checkpoint: network, canvas, sampler defaults, stop ids and quantisation.

    dtype: of the activations; sampler_places: of the defaults that the checkpoint itself names;
    task: the kind of problem it was trained for, a name in `assets.TASKS`, None for any prompt;
    modes: the ways of generation it was trained for; vision: None where it sees no images;
    image_ids: the ids around and of an image's soft tokens; bidirectional_images: positions of one
    image see one another both ways.
    """

    text: TextConfig
    canvas_length: int
    stop_ids: tuple[int, ...]
    sampler: SamplerDefaults
    dtype: FloatName
    quantization: Quantization | None
    vision: VisionConfig | None = None
    image_ids: ImageIds | None = None
    bidirectional_images: bool = False
    sampler_places: Mapping[str, Place] = field(default_factory=dict, compare=False)
    task: str | None = None
    modes: tuple[str, ...] = MODES
    token_sampler: TokenDefaults = field(default_factory=TokenDefaults)

    @property
    def image_token_id(self) -> int | None:
        """The id of a soft token's place in a prompt; None for a text-only checkpoint."""
        return None if self.image_ids is None else self.image_ids.soft

    @property
    def packing(self) -> str | None:
        """The name of the packing that most weights have; None where they are not packed."""
        return None if self.quantization is None else self.quantization.default.name


def read_config(folder: Path) -> ModelConfig:
    """The ModelConfig of a checkpoint `folder`; CheckpointError says what is not supported."""
    file = folder / "config.json"
    raw = read_object(file)
    if (kind := raw.get("model_type")) != MODEL_TYPE:
        raise CheckpointError(
            f"{file}: model_type {brief(kind)}, expected {MODEL_TYPE!r}; "
            "this program runs DiffusionGemma checkpoints only."
        )
    config = Section(file, raw)
    generation, text = generation_section(config), _text_config(config)
    vision = read_vision(config)
    sampler, places = sampler_defaults(generation)
    token_sampler, token_places = token_defaults(generation)
    task, modes = _purpose(config.section(OWN_KEY))
    return ModelConfig(
        text=text,
        canvas_length=_count(raw, "canvas_length"),
        stop_ids=stop_ids(generation, config),
        sampler=sampler,
        dtype=_dtype(config),
        quantization=read_quantization(config),
        vision=vision,
        image_ids=read_image_ids(config, text.vocab_size) if vision else None,
        bidirectional_images=config.section("text_config").values.get(BIDIRECTIONAL) == "vision",
        sampler_places=places | token_places,
        task=task,
        modes=modes,
        token_sampler=token_sampler,
    )


def _dtype(config: Section) -> FloatName:
    """The dtype of activations: the first that config.json names, else the published one.

    `dtype` goes before the older `torch_dtype`, and the top level before text_config, as in
    transformers, which changes the top level alone where it saves a model in another dtype.
    """
    for section in (config, config.section("text_config")):
        for key in DTYPE_KEYS:
            if (name := section.values.get(key)) is not None:
                if name not in FLOAT_NAMES:
                    raise CheckpointError(
                        f"{section.place(key)} is {brief(name)}, expected one of "
                        f"{', '.join(FLOAT_NAMES)}."
                    )
                return cast(FloatName, name)
    return DEFAULT_DTYPE


def _purpose(own: Section) -> tuple[str | None, tuple[str, ...]]:
    """The task and the modes that a checkpoint says it was trained for: none, and all of them."""
    if (unknown := next((key for key in own.values if key not in PURPOSE), None)) is not None:
        raise _unknown(Place(own.file, OWN_KEY), unknown, PURPOSE)
    task, modes = own.values.get("task"), own.values.get("modes")
    if task is not None and task not in (names := tuple(TASKS)):
        raise _unknown(own.place("task"), task, names)
    if modes is None:
        return task, MODES
    if not isinstance(modes, list) or not modes:
        raise CheckpointError(f"{own.place('modes')} is {brief(modes)}, expected a list of modes.")
    for mode in modes:
        if mode not in MODES:
            raise _unknown(own.place("modes"), mode, MODES)
    return task, tuple(modes)


def _unknown(place: Place, name: object, known: tuple[str, ...]) -> CheckpointError:
    said = f"{place} names {brief(name)}, expected {' or '.join(known)}"
    return CheckpointError(f"{said}; a newer mlx-diffgemma may know it.")


def _text_config(config: Section) -> TextConfig:
    section = config.section("text_config")
    text = section.values
    _require(bool(text), "text_config is missing, expected an object.")
    _refuse_unsupported(config.values, text)
    counts = {
        field.name: _count(text, field.name) for field in fields(TextConfig) if field.type is int
    }
    read = TextConfig(
        **counts,
        rms_norm_eps=_real(text, "rms_norm_eps", 1e-6),
        final_logit_softcapping=_real(text, "final_logit_softcapping", DEFAULT_SOFTCAP),
        layers=_layers(text, section.section("rope_parameters").values or DEFAULT_ROPE),
    )
    top_k, num = read.top_k_experts, read.num_experts
    _require(top_k <= num, f"top_k_experts {top_k}, expected at most num_experts {num}.")
    return read


def _refuse_unsupported(raw: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Raises for switches of the reference that no published checkpoint uses."""
    tied = raw.get("tie_word_embeddings", True) and text.get("tie_word_embeddings", True)
    activation = text.get("hidden_activation", ACTIVATION)
    switches = {
        BIDIRECTIONAL: text.get(BIDIRECTIONAL) in (None, "vision"),
        "attention_bias": not text.get("attention_bias"),
        "enable_moe_block": text.get("enable_moe_block", True) is True,
        "num_kv_shared_layers": not text.get("num_kv_shared_layers"),
        "tie_word_embeddings": bool(tied),
        "hidden_activation": activation == ACTIVATION,
    }
    for key, supported in switches.items():
        got = False if key == "tie_word_embeddings" else text.get(key)
        _require(supported, f"{key} = {brief(got)} is not supported.")


def _layers(text: Mapping[str, Any], rope: Mapping[str, Any]) -> tuple[LayerConfig, ...]:
    num_layers = _count(text, "num_hidden_layers", MOST_LAYERS)
    kinds = _layer_kinds(text.get("layer_types"), num_layers)
    overrides = _per_layer_overrides(text, kinds)
    return tuple(
        _layer({**text, **overrides.get(i, {})}, kind, rope) for i, kind in enumerate(kinds)
    )


def _layer_kinds(kinds: Any, num_layers: int) -> list[str]:
    """The kind of each layer: every sixth is full when unsaid, and the last one always is."""
    if kinds is None:
        kinds = [SLIDING if (i + 1) % 6 else FULL for i in range(num_layers)]
    got = len(kinds) if isinstance(kinds, list) else type(kinds).__name__
    _require(got == num_layers, f"layer_types has {got} entries, expected {num_layers}.")
    for kind in kinds:
        known = kind in (SLIDING, FULL)
        _require(known, f"layer type {brief(kind)}, expected {SLIDING} or {FULL}.")
    return [*kinds[:-1], FULL]


def _per_layer_overrides(text: Mapping[str, Any], kinds: list[str]) -> dict[int, dict[str, Any]]:
    """The sizes that single layers override, by index, from either spelling."""
    if "per_layer_config" in text:
        entries = text["per_layer_config"] or {}
        try:
            overrides = {int(key): dict(value or {}) for key, value in entries.items()}
        except (AttributeError, TypeError, ValueError):
            raise CheckpointError(
                "config.json: per_layer_config is malformed, expected {layer number: {key: value}}."
            ) from None
        _refuse_overrides(overrides, text, len(kinds))
        return overrides
    full: dict[str, Any] = {"head_dim": text.get("global_head_dim", LEGACY_GLOBAL_HEAD_DIM)}
    if text.get("num_global_key_value_heads") is not None:
        full["num_key_value_heads"] = text["num_global_key_value_heads"]
    return {i: full for i, kind in enumerate(kinds) if kind == FULL}


def _refuse_overrides(
    overrides: Mapping[int, Mapping[str, Any]], text: Mapping[str, Any], num_layers: int
) -> None:
    """Raises for what the reference lets differ from layer to layer and this code does not."""
    for number, entry in overrides.items():
        known = 0 <= number < num_layers
        _require(known, f"per_layer_config has layer {number}, expected 0 to {num_layers - 1}.")
        for key, value in entry.items():
            _require(
                key in PER_LAYER or (value or None) == text.get(key),
                f"per_layer_config gives layer {number} its own {key}, which is not supported.",
            )


def _layer(merged: Mapping[str, Any], kind: str, rope: Mapping[str, Any]) -> LayerConfig:
    heads, kv_heads = merged["num_attention_heads"], _count(merged, "num_key_value_heads")
    _require(
        heads % kv_heads == 0, f"{heads} attention heads cannot share {kv_heads} key-value heads."
    )
    theta, fraction = _rotary_angles(rope.get(kind), kind)
    return LayerConfig(
        sliding=kind == SLIDING,
        head_dim=_count(merged, "head_dim"),
        num_key_value_heads=kv_heads,
        rope_theta=theta,
        rotary_fraction=fraction,
    )


def _rotary_angles(angles: Any, kind: str) -> tuple[float, float]:
    """Theta of a kind of layer, and the share of pairs that turn."""
    _require(isinstance(angles, Mapping), f"rope_parameters has no {kind}.")
    rope_type, factor = angles.get("rope_type", "default"), angles.get("factor", 1.0)
    _require(
        rope_type in ("default", "proportional"),
        f"rope_type {brief(rope_type)} of {kind} is not supported, expected default or "
        "proportional.",
    )
    _require(factor == 1.0, f"rope factor {brief(factor)} is not supported.")
    fraction = _real(angles, "partial_rotary_factor", 1.0)
    said = f"partial_rotary_factor {fraction} of {kind}"
    _require(fraction <= 1.0, f"{said}, expected at most 1.")
    _require(fraction == 1.0 or rope_type != "default", f"{said} needs rope_type proportional.")
    return _real(angles, "rope_theta"), fraction


def _require(ok: bool, message: str) -> None:
    """CheckpointError about config.json unless all is well."""
    if not ok:
        raise CheckpointError(f"config.json: {message}")


def _count(source: Mapping[str, Any], key: str, most: int = MOST_COUNT) -> int:
    """`source[key]` as a positive whole number; CheckpointError otherwise."""
    return int(_positive(key, source.get(key), (int,), "whole number", most))


def _real(source: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """`source[key]`, or `default` where it is absent, as a positive number."""
    return float(_positive(key, source.get(key, default), (int, float), "number", MOST_REAL))


def _positive(key: str, value: Any, kinds: tuple[type, ...], kind: str, most: float) -> Any:
    got = "missing" if value is None else brief(value)
    number = type(value) in kinds
    span = f" up to {most:,}" if number and value > most else ""
    _require(number and 0 < value <= most, f"{key} is {got}, expected a positive {kind}{span}.")
    return value
