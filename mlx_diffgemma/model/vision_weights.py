"""The vision tower built from the tensors of a checkpoint folder."""

import mlx.core as mx

from ..checkpoint.tensors import Tensors
from ..checkpoint.vision import VisionConfig
from ..images.pixels import PATCH_NUMBERS
from .blocks import GatedMLP
from .matrices import AnyMatrix, join, matrix
from .vision import VisionAttention, VisionLayer, VisionTower


def build_vision(tensors: Tensors) -> VisionTower | None:
    """The vision tower and its projection; None where the config or the folder has none."""
    if (vision := tensors.vision) is None:
        return None
    tower, W = "model.encoder.vision_tower", vision.hidden_size
    return VisionTower(
        vision,
        _matrix(tensors, f"{tower}.patch_embedder.input_proj", W, PATCH_NUMBERS),
        tensors.vector(
            f"{tower}.patch_embedder.position_embedding_table", 2, vision.position_embedding_size, W
        ),
        [_vision_layer(tensors, vision, n) for n in range(vision.num_hidden_layers)],
        tensors.vector(f"{tower}.std_bias", W) if vision.standardize else None,
        tensors.vector(f"{tower}.std_scale", W) if vision.standardize else None,
        projection=_matrix(
            tensors,
            "model.encoder.embed_vision.embedding_projection",
            tensors.config.text.hidden_size,
            W,
        ),
        dtype=tensors.dtype,
    )


def _vision_layer(tensors: Tensors, vision: VisionConfig, number: int) -> VisionLayer:
    at, W = f"model.encoder.vision_tower.encoder.layers.{number}", vision.hidden_size
    inner, heads, D = vision.intermediate_size, vision.num_attention_heads, vision.head_dim

    def matrix_of(module: str, *shape: int) -> AnyMatrix:
        return _matrix(tensors, f"{at}.{module}.linear", *shape)

    def norm(name: str, size: int = W) -> mx.array:
        return tensors.vector(f"{at}.{name}.weight", size)

    attention = VisionAttention(
        qkv=join([matrix_of(f"self_attn.{part}_proj", heads * D, W) for part in "qkv"]),
        out=matrix_of("self_attn.o_proj", W, heads * D),
        q_norm=norm("self_attn.q_norm", D),
        k_norm=norm("self_attn.k_norm", D),
        num_heads=heads,
        eps=vision.rms_norm_eps,
    )
    gate_up = join([matrix_of(f"mlp.{part}_proj", inner, W) for part in ("gate", "up")])
    return VisionLayer(
        attention=attention,
        mlp=GatedMLP(gate_up, matrix_of("mlp.down_proj", W, inner)),
        input_norm=norm("input_layernorm"),
        attention_norm=norm("post_attention_layernorm"),
        feedforward_norm=norm("pre_feedforward_layernorm"),
        output_norm=norm("post_feedforward_layernorm"),
        eps=vision.rms_norm_eps,
    )


def _matrix(tensors: Tensors, module: str, *shape: int) -> AnyMatrix:
    return matrix(tensors.weight(module, *shape))
