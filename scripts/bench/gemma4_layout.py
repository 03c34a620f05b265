"""DiffusionGemma's names and settings as those of Gemma 4's text model.

The causal encoder with the tied head is that model: transformers' `models/gemma4` (5.24) and
mlx-lm's `gemma4_text` (0.32) compute the same from the renamed tensors.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from mlx_diffgemma.checkpoint.config import (
    BIDIRECTIONAL,
    DEFAULT_ROPE,
    DTYPE_KEYS,
    FULL,
    SLIDING,
    ModelConfig,
)
from mlx_diffgemma.checkpoint.quantization import KEYS as QUANTIZATION
from mlx_diffgemma.convert.layout import launch_sizes
from mlx_diffgemma.convert.read import SourceCheckpoint

ENCODER, DECODER = "model.encoder.language_model.", "model.decoder."
EXPERTS = re.compile(r"(.*\.experts)\.(gate_up|down)_proj(?:\.(weight|scales|biases))?$")
LAYOUT = "gemma4_text"
GEMMA4: Mapping[str, Any] = {
    "architectures": ["Gemma4ForCausalLM"],
    "model_type": LAYOUT,
    "enable_moe_block": True,
    "attention_k_eq_v": True,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 0,
    "use_double_wide_mlp": False,
    BIDIRECTIONAL: None,  # of images alone, which a text model has none of
}

A = TypeVar("A")


# --- names ---------------------------------------------------------------------------------------


def gemma4_names(name: str, packed: bool) -> list[tuple[str, int | None]]:
    """Gemma 4's names of a tensor: none where Gemma 4 lacks it, two where it is split.

    Each with the half of the rows that it is, None for the whole. packed: experts' weights are
    integers, which mlx-lm takes apart itself only where they are numbers.
    """
    if name.startswith(ENCODER) and name.endswith("layer_scalar"):
        return [("model." + name.removeprefix(ENCODER), None)]
    if not name.startswith(DECODER) or "self_conditioning" in name or name.endswith("layer_scalar"):
        return []
    name = "model." + name.removeprefix(DECODER)
    if (match := EXPERTS.match(name)) is None:
        return [(name, None)]
    experts, part, kind = match.groups()
    if not packed:
        return [(f"{experts}.{part}_proj", None)]
    if part == "down":
        return [(f"{experts}.switch_glu.down_proj.{kind}", None)]
    halves = enumerate(("gate_proj", "up_proj"))
    return [(f"{experts}.switch_glu.{half}.{kind}", which) for which, half in halves]


def as_gemma4(tensors: Mapping[str, A]) -> dict[str, A]:
    """The tensors of a checkpoint under Gemma 4's names; arrays of any kind, experts fused."""
    renamed: dict[str, A] = {}
    for name, array in tensors.items():
        for target, half in gemma4_names(name, _scales(name) in tensors):
            renamed[target] = array if half is None else _half(array, half)
    return renamed


def _scales(name: str) -> str:
    """The name of the scales that a packed module's tensors have beside them."""
    return f"{re.sub(r'[.](weight|scales|biases)$', '', name)}.scales"


def _half(array: Any, which: int) -> Any:
    inner = array.shape[1] // 2
    return array[:, which * inner : (which + 1) * inner]


# --- config.json ---------------------------------------------------------------------------------


def gemma4_config(raw: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """config.json of a Gemma 4 text model, packing left out; raw: DiffusionGemma's config.json."""
    dropped = (*QUANTIZATION, *DTYPE_KEYS, "per_layer_config")
    text = {key: value for key, value in raw["text_config"].items() if key not in dropped}
    return {
        "rope_parameters": DEFAULT_ROPE,
        **text,
        **GEMMA4,
        **launch_sizes(config.text),
        "layer_types": [SLIDING if layer.sliding else FULL for layer in config.text.layers],
        "final_logit_softcapping": config.text.final_logit_softcapping,
        "rms_norm_eps": config.text.rms_norm_eps,
        "tie_word_embeddings": True,
        "dtype": config.dtype,
        "eos_token_id": list(config.stop_ids) or None,
    }


def generation_config(raw: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """generation_config.json: the stop ids, and how single tokens are drawn."""
    special = {key: raw["text_config"].get(key) for key in ("bos_token_id", "pad_token_id")}
    return {
        **special,
        "eos_token_id": list(config.stop_ids) or None,
        "do_sample": True,
        **asdict(config.token_sampler),
    }


def quantization_object(source: SourceCheckpoint) -> dict[str, Any] | None:
    """The packing as mlx-lm reads it: the default, and each packed module that has another one."""
    if (quantization := source.config.quantization) is None:
        return None
    overrides: dict[str, Any] = {}
    for name in source.headers:
        module = name.removesuffix(".scales")
        if name == module or (packing := quantization.of(module)) == quantization.default:
            continue
        for target, _ in gemma4_names(f"{module}.weight", packed=True):
            overrides[target.removesuffix(".weight")] = asdict(packing)
    return {**asdict(quantization.default), **overrides}
