"""The config of a checkpoint: its JSON files as frozen dataclasses.

Two spellings of config.json are in circulation and both are read here: the launch spelling
(`global_head_dim`, `num_global_key_value_heads`) and the one a current transformers writes
(`per_layer_config`). Nothing is defaulted that decides a shape. Facts: transformers 5.23,
`models/diffusion_gemma/configuration_diffusion_gemma.py` and `generation_diffusion_gemma.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .files import read_object, read_optional
from .quantization import Quantization, read_quantization

MODEL_TYPE = "diffusion_gemma"
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
class SamplerDefaults:
    """The sampler settings a checkpoint ships with."""

    max_denoising_steps: int = 48
    entropy_bound: float = 0.1
    t_min: float = 0.4
    t_max: float = 0.8
    stability_threshold: int = 1
    confidence_threshold: float = 0.005


@dataclass(frozen=True)
class ModelConfig:
    """A whole checkpoint: network, canvas, sampler defaults, stop ids and quantisation."""

    text: TextConfig
    canvas_length: int
    stop_ids: tuple[int, ...]
    sampler: SamplerDefaults
    dtype: str
    quantization: Quantization | None
    has_vision: bool
    use_clipped_linears: bool


def read_config(folder: Path) -> ModelConfig:
    """The ModelConfig of a checkpoint `folder`; CheckpointError says what is not supported."""
    raw = read_object(folder / "config.json")
    if (kind := raw.get("model_type")) != MODEL_TYPE:
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type {kind!r}, expected {MODEL_TYPE!r}; "
            "this program runs DiffusionGemma checkpoints only."
        )
    generation = read_optional(folder / "generation_config.json") or _object(
        raw, "generation_config"
    )
    vision = _object(raw, "vision_config")
    return ModelConfig(
        text=_text_config(raw),
        canvas_length=_count(raw, "canvas_length"),
        stop_ids=_stop_ids(generation, raw),
        sampler=_sampler_defaults(generation),
        dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "bfloat16"),
        quantization=read_quantization(raw.get("quantization") or raw.get("quantization_config")),
        has_vision=bool(vision),
        use_clipped_linears=bool(vision.get("use_clipped_linears")),
    )


def _text_config(raw: Mapping[str, Any]) -> TextConfig:
    text = raw.get("text_config")
    if not isinstance(text, Mapping):
        raise CheckpointError("config.json: text_config is missing, expected an object.")
    _refuse_unsupported(raw, text)
    config = TextConfig(
        vocab_size=_count(text, "vocab_size"),
        hidden_size=_count(text, "hidden_size"),
        intermediate_size=_count(text, "intermediate_size"),
        moe_intermediate_size=_count(text, "moe_intermediate_size"),
        num_attention_heads=_count(text, "num_attention_heads"),
        num_experts=_count(text, "num_experts"),
        top_k_experts=_count(text, "top_k_experts"),
        rms_norm_eps=_real(text, "rms_norm_eps", 1e-6),
        sliding_window=_count(text, "sliding_window"),
        final_logit_softcapping=_real(text, "final_logit_softcapping", DEFAULT_SOFTCAP),
        max_position_embeddings=_count(text, "max_position_embeddings"),
        layers=_layers(text),
    )
    if config.top_k_experts > config.num_experts:
        raise CheckpointError(
            f"config.json: top_k_experts {config.top_k_experts}, expected at most num_experts "
            f"{config.num_experts}."
        )
    return config


def _refuse_unsupported(raw: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Raises for switches of the reference that no published checkpoint uses."""
    tied = raw.get("tie_word_embeddings", True) and text.get("tie_word_embeddings", True)
    switches = {
        "use_bidirectional_attention": text.get("use_bidirectional_attention") in (None, "vision"),
        "attention_bias": not text.get("attention_bias"),
        "enable_moe_block": text.get("enable_moe_block", True) is True,
        "num_kv_shared_layers": not text.get("num_kv_shared_layers"),
        "tie_word_embeddings": bool(tied),
        "hidden_activation": text.get("hidden_activation", "gelu_pytorch_tanh")
        == "gelu_pytorch_tanh",
    }
    for key, supported in switches.items():
        if not supported:
            got = False if key == "tie_word_embeddings" else text.get(key)
            raise CheckpointError(f"config.json: {key} = {got!r} is not supported.")


def _layers(text: Mapping[str, Any]) -> tuple[LayerConfig, ...]:
    num_layers = _count(text, "num_hidden_layers")
    kinds = _layer_kinds(text.get("layer_types"), num_layers)
    overrides = _per_layer_overrides(text, kinds)
    rope = _object(text, "rope_parameters") or DEFAULT_ROPE
    return tuple(
        _layer({**text, **overrides.get(i, {})}, kind, rope) for i, kind in enumerate(kinds)
    )


def _layer_kinds(kinds: Any, num_layers: int) -> list[str]:
    """The kind of each layer: every sixth is full when unsaid, and the last one always is."""
    if kinds is None:
        kinds = [SLIDING if (i + 1) % 6 else FULL for i in range(num_layers)]
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        got = len(kinds) if isinstance(kinds, list) else type(kinds).__name__
        raise CheckpointError(f"config.json: layer_types has {got} entries, expected {num_layers}.")
    for kind in kinds:
        if kind not in (SLIDING, FULL):
            raise CheckpointError(
                f"config.json: layer type {kind!r}, expected {SLIDING} or {FULL}."
            )
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
        if not 0 <= number < num_layers:
            raise CheckpointError(
                f"config.json: per_layer_config has layer {number}, expected 0 to {num_layers - 1}."
            )
        for key, value in entry.items():
            if key not in PER_LAYER and (value or None) != text.get(key):
                raise CheckpointError(
                    f"config.json: per_layer_config gives layer {number} its own {key}, which is "
                    "not supported."
                )


def _layer(merged: Mapping[str, Any], kind: str, rope: Mapping[str, Any]) -> LayerConfig:
    angles = rope.get(kind)
    if not isinstance(angles, Mapping):
        raise CheckpointError(f"config.json: rope_parameters has no {kind}.")
    rope_type = angles.get("rope_type", "default")
    if rope_type not in ("default", "proportional"):
        raise CheckpointError(
            f"config.json: rope_type {rope_type!r} of {kind} is not supported, "
            "expected default or proportional."
        )
    if angles.get("factor", 1.0) != 1.0:
        raise CheckpointError(f"config.json: rope factor {angles['factor']!r} is not supported.")
    fraction = _real(angles, "partial_rotary_factor", 1.0)
    if fraction > 1.0:
        raise CheckpointError(
            f"config.json: partial_rotary_factor {fraction} of {kind}, expected at most 1."
        )
    if rope_type == "default" and fraction != 1.0:
        raise CheckpointError(
            f"config.json: partial_rotary_factor {fraction} of {kind} needs rope_type proportional."
        )
    heads, kv_heads = merged["num_attention_heads"], _count(merged, "num_key_value_heads")
    if heads % kv_heads:
        raise CheckpointError(
            f"config.json: {heads} attention heads cannot share {kv_heads} key-value heads."
        )
    return LayerConfig(
        sliding=kind == SLIDING,
        head_dim=_count(merged, "head_dim"),
        num_key_value_heads=kv_heads,
        rope_theta=_real(angles, "rope_theta"),
        rotary_fraction=fraction,
    )


def _stop_ids(generation: Mapping[str, Any], raw: Mapping[str, Any]) -> tuple[int, ...]:
    """generation_config's stop ids; only without them those of config.json."""
    text = raw.get("text_config") or {}
    for source in (generation, raw, text):
        value = source.get("eos_token_id")
        if value is not None:
            ids = value if isinstance(value, list) else [value]
            if not all(type(i) is int for i in ids):
                raise CheckpointError(
                    f"eos_token_id is {value!r}, expected an id or a list of ids."
                )
            return tuple(ids)
    return ()


def _sampler_defaults(generation: Mapping[str, Any]) -> SamplerDefaults:
    base = SamplerDefaults()
    sampler = _object(generation, "sampler_config")
    name = sampler.get("_cls_name", "EntropyBoundSamplerConfig")
    if name != "EntropyBoundSamplerConfig":
        raise CheckpointError(f"generation_config.json: sampler {name!r} is not supported.")

    def value(source: Mapping[str, Any], key: str) -> Any:
        got = source.get(key)
        return getattr(base, key) if got is None else got

    return SamplerDefaults(
        max_denoising_steps=value(generation, "max_denoising_steps"),
        entropy_bound=value(sampler, "entropy_bound"),
        t_min=value(generation, "t_min"),
        t_max=value(generation, "t_max"),
        stability_threshold=value(generation, "stability_threshold"),
        confidence_threshold=value(generation, "confidence_threshold"),
    )


def _object(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """`source[key]` as an object, empty where it is absent or null; CheckpointError otherwise."""
    value = source.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise CheckpointError(f"{key} is {value!r}, expected an object.")
    return value or {}


def _count(source: Mapping[str, Any], key: str) -> int:
    """`source[key]` as a positive whole number; CheckpointError otherwise."""
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        got = "missing" if value is None else repr(value)
        raise CheckpointError(f"config.json: {key} is {got}, expected a positive whole number.")
    return value


def _real(source: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """`source[key]`, or `default` where it is absent, as a positive number."""
    value = source.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        got = "missing" if value is None else repr(value)
        raise CheckpointError(f"config.json: {key} is {got}, expected a positive number.")
    return float(value)
