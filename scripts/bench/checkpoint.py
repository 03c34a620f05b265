"""A random DiffusionGemma checkpoint in float32, with the real model's layer pattern.

    python scripts/bench/checkpoint.py FOLDER       writes one, with tiny-sudoku's tokenizer

Timing needs shapes, not sense: the weights are normal numbers, small enough that two engines agree
on the logits, and no canvas converges, so that every step asked for is run.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[np.float32]
Change = Callable[[str, mx.array], mx.array]
SHARD = "model.safetensors"
EMBEDDING = "model.decoder.embed_tokens.weight"
WEIGHT_STD, EMBEDDING_STD = 0.03, 0.1
# What a layer adds to the residual is kept small, or rounding grows from layer to layer until a
# router flips and no two engines agree.
NORMS = {
    "input_layernorm": 1.0,
    "post_attention_layernorm": 0.1,
    "pre_feedforward_layernorm": 1.0,
    "pre_feedforward_layernorm_2": 1.0,
    "post_feedforward_layernorm": 0.1,
    "post_feedforward_layernorm_1": 1.0,
    "post_feedforward_layernorm_2": 1.0,
}
NEVER = 1e-9  # nats: a mean entropy that random weights do not reach


@dataclass(frozen=True)
class Sizes:
    """Sizes of the checkpoint; five sliding layers, then a full one, as in the real model."""

    vocab: int = 262_144
    layers: int = 30
    canvas: int = 64
    hidden: int = 256
    intermediate: int = 256
    experts: int = 32
    top_k: int = 8
    moe_intermediate: int = 64
    heads: int = 8
    kv_heads: int = 4
    full_kv_heads: int = 2
    head_dim: int = 32
    full_head_dim: int = 64
    window: int = 128

    def is_full(self, layer: int) -> bool:
        return layer % 6 == 5 or layer == self.layers - 1

    def describe(self) -> dict[str, int]:
        return asdict(self)


def write_checkpoint(folder: Path, sizes: Sizes, seed: int = 0) -> None:
    """Write config.json, generation_config.json and model.safetensors, but no tokenizer."""
    (folder / "config.json").write_text(json.dumps(_config(sizes), indent=1))
    (folder / "generation_config.json").write_text(json.dumps(_generation_config(), indent=1))
    tensors = dict(_tensors(sizes, np.random.default_rng(seed)))
    save_file(tensors, str(folder / SHARD), metadata={"format": "mlx"})


def narrow_checkpoint(folder: Path, out: Path, change: Change = lambda _, array: array) -> None:
    """Write the checkpoint in `folder` once more, in bfloat16; change: of the arrays, by name."""
    out.mkdir()
    arrays: dict[str, mx.array] = mx.load(str(folder / SHARD))  # type: ignore[assignment]
    narrowed = {name: change(name, array).astype(mx.bfloat16) for name, array in arrays.items()}
    mx.save_safetensors(str(out / SHARD), narrowed, metadata={"format": "mlx"})
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "bfloat16"}
    (out / "config.json").write_text(json.dumps(config, indent=1))
    shutil.copy(folder / "generation_config.json", out)


def _config(sizes: Sizes) -> dict[str, Any]:
    """config.json in the spelling that both engines read."""
    kinds = [
        "full_attention" if sizes.is_full(number) else "sliding_attention"
        for number in range(sizes.layers)
    ]
    text = {
        "model_type": "diffusion_gemma_text",
        "vocab_size": sizes.vocab,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate,
        "moe_intermediate_size": sizes.moe_intermediate,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "num_global_key_value_heads": sizes.full_kv_heads,
        "head_dim": sizes.head_dim,
        "global_head_dim": sizes.full_head_dim,
        "num_experts": sizes.experts,
        "top_k_experts": sizes.top_k,
        "rms_norm_eps": 1e-6,
        "sliding_window": sizes.window,
        "final_logit_softcapping": 30.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 4096,
        "layer_types": kinds,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {
                "rope_type": "proportional",
                "partial_rotary_factor": 0.25,
                "rope_theta": 1_000_000.0,
            },
        },
        "use_bidirectional_attention": None,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
    }
    return {
        "model_type": "diffusion_gemma",
        "architectures": ["DiffusionGemmaForBlockDiffusion"],
        "canvas_length": sizes.canvas,
        "dtype": "float32",
        "tie_word_embeddings": True,
        "vision_config": None,
        "image_token_id": None,
        "text_config": text,
    }


def _generation_config() -> dict[str, Any]:
    """The real checkpoint's sampler, without stop ids and early stop."""
    return {
        "max_denoising_steps": 48,
        "sampler_config": {"_cls_name": "EntropyBoundSamplerConfig", "entropy_bound": 0.1},
        "t_min": 0.4,
        "t_max": 0.8,
        "stability_threshold": 1,
        "confidence_threshold": NEVER,
        "eos_token_id": [],
    }


def _tensors(sizes: Sizes, random: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Tensors with the published checkpoint's names, projections [outputs, inputs]."""

    def normal(*shape: int, std: float = WEIGHT_STD) -> Array:
        return random.standard_normal(shape, np.float32) * np.float32(std)

    def near_one(*shape: int) -> Array:
        return 1 + normal(*shape)

    H = sizes.hidden
    yield EMBEDDING, normal(sizes.vocab, H, std=EMBEDDING_STD)
    yield "model.decoder.norm.weight", near_one(H)
    conditioning = "model.decoder.self_conditioning"
    yield f"{conditioning}.pre_norm.weight", near_one(H)
    yield f"{conditioning}.gate_proj.weight", normal(sizes.intermediate, H)
    yield f"{conditioning}.up_proj.weight", normal(sizes.intermediate, H)
    yield f"{conditioning}.down_proj.weight", normal(H, sizes.intermediate)
    for number in range(sizes.layers):
        at, full = f"model.decoder.layers.{number}", sizes.is_full(number)
        head_dim = sizes.full_head_dim if full else sizes.head_dim
        q_size = sizes.heads * head_dim
        kv_size = (sizes.full_kv_heads if full else sizes.kv_heads) * head_dim
        yield f"{at}.self_attn.q_proj.weight", normal(q_size, H)
        yield f"{at}.self_attn.k_proj.weight", normal(kv_size, H)
        if not full:
            yield f"{at}.self_attn.v_proj.weight", normal(kv_size, H)
        yield f"{at}.self_attn.o_proj.weight", normal(H, q_size)
        yield f"{at}.self_attn.q_norm.weight", near_one(head_dim)
        yield f"{at}.self_attn.k_norm.weight", near_one(head_dim)
        yield f"{at}.mlp.gate_proj.weight", normal(sizes.intermediate, H)
        yield f"{at}.mlp.up_proj.weight", normal(sizes.intermediate, H)
        yield f"{at}.mlp.down_proj.weight", normal(H, sizes.intermediate)
        yield f"{at}.router.proj.weight", normal(sizes.experts, H)
        yield f"{at}.router.scale", near_one(H)
        yield f"{at}.router.per_expert_scale", near_one(sizes.experts)
        inner = sizes.moe_intermediate
        yield f"{at}.experts.gate_up_proj", normal(sizes.experts, 2 * inner, H)
        yield f"{at}.experts.down_proj", normal(sizes.experts, H, inner)
        for name, scale in NORMS.items():
            yield f"{at}.{name}.weight", near_one(H) * np.float32(scale)
        yield f"{at}.layer_scalar", near_one(1)
        encoder = f"model.encoder.language_model.layers.{number}"
        yield f"{encoder}.layer_scalar", near_one(1)


def main() -> None:
    """Write a checkpoint that `mlx-diffgemma profile` can load."""
    from mlx_diffgemma.assets import embedded_folder

    if len(sys.argv) != 2:
        sys.exit("usage: checkpoint.py FOLDER")
    folder, tokenizer = Path(sys.argv[1]), embedded_folder("tiny-sudoku")
    folder.mkdir(parents=True)
    write_checkpoint(folder, Sizes())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{tokenizer}/{name}", folder)


if __name__ == "__main__":
    main()
