"""Every tensor that a target must hold, with its shape, under its name in an MLX folder.

Source: the tensor table of google/diffusiongemma-26B-A4B-it.
Axes: V vocabulary, H hidden size, D head dimension, E experts.
"""

from ..checkpoint.config import FULL, SLIDING, TextConfig
from ..checkpoint.vision import VisionConfig
from ..errors import CheckpointError
from ..images.pixels import PATCH_NUMBERS
from .read import SourceCheckpoint

Shapes = dict[str, tuple[int, ...]]

DECODER, ENCODER = "model.decoder", "model.encoder"
VISION_TOWER = f"{ENCODER}.vision_tower"
VISION_PROJECTION = f"{ENCODER}.embed_vision.embedding_projection"
LAYER_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "pre_feedforward_layernorm_2",
    "post_feedforward_layernorm",
    "post_feedforward_layernorm_1",
    "post_feedforward_layernorm_2",
)
VISION_NORMS = LAYER_NORMS[:3] + LAYER_NORMS[4:5]
HEAD_SIZES = {
    SLIDING: ("head_dim", "num_key_value_heads"),
    FULL: ("global_head_dim", "num_global_key_value_heads"),
}


def expected_shapes(source: SourceCheckpoint) -> Shapes:
    """Every tensor to be written and its unpacked shape; the vision tower where the source has one.

    A source may lack the tower that its config describes, but no part of one. CheckpointError for
    a config.json from which no MLX folder can be made.
    """
    launch_sizes(source.config.text)  # raises here, not when all is written
    shapes = text_shapes(source.config.text)
    if source.vision is not None:
        shapes |= vision_shapes(source.vision, source.config.text.hidden_size)
    return shapes


def text_shapes(text: TextConfig) -> Shapes:
    """The text network: embedding, self-conditioning, final norm, then layer by layer."""
    H = text.hidden_size
    conditioning = f"{DECODER}.self_conditioning"
    shapes: Shapes = {
        f"{DECODER}.embed_tokens.weight": (text.vocab_size, H),
        f"{DECODER}.norm.weight": (H,),
        f"{conditioning}.pre_norm.weight": (H,),
        **_mlp(conditioning, H, text.intermediate_size),
    }
    for number in range(len(text.layers)):
        shapes |= _text_layer(text, number)
    return shapes


def vision_shapes(vision: VisionConfig, hidden_size: int) -> Shapes:
    """The vision tower, and its projection to the text network's hidden size."""
    H, embedder = vision.hidden_size, f"{VISION_TOWER}.patch_embedder"
    table = (2, vision.position_embedding_size, H)
    shapes: Shapes = {
        f"{VISION_PROJECTION}.weight": (hidden_size, H),
        f"{embedder}.input_proj.weight": (H, PATCH_NUMBERS),
        f"{embedder}.position_embedding_table": table,
    }
    if vision.standardize:
        shapes |= {f"{VISION_TOWER}.std_bias": (H,), f"{VISION_TOWER}.std_scale": (H,)}
    for number in range(vision.num_hidden_layers):
        shapes |= _vision_layer(vision, f"{VISION_TOWER}.encoder.layers.{number}")
    return shapes


def launch_sizes(text: TextConfig) -> dict[str, int]:
    """Head sizes as two keys for the sliding and two for the full layers, as config.json has them.

    CheckpointError where layers of one kind differ: mlx-vlm reads no other spelling.
    """
    sizes: dict[str, int] = {}
    for kind, keys in HEAD_SIZES.items():
        layers = [layer for layer in text.layers if layer.sliding == (kind == SLIDING)]
        pairs = {(layer.head_dim, layer.num_key_value_heads) for layer in layers}
        if len(pairs) > 1:
            raise CheckpointError(
                f"config.json: {kind} layers differ in head_dim or num_key_value_heads "
                f"({', '.join(map(str, sorted(pairs)))}), which an MLX folder cannot say."
            )
        for pair in pairs:
            sizes |= dict(zip(keys, pair, strict=True))
    return sizes


def _text_layer(text: TextConfig, number: int) -> Shapes:
    at, layer, H = f"{DECODER}.layers.{number}", text.layers[number], text.hidden_size
    D, E, inner = layer.head_dim, text.num_experts, text.moe_intermediate_size
    queries, keys = text.num_attention_heads * D, layer.num_key_value_heads * D
    shapes: Shapes = {
        f"{at}.self_attn.q_proj.weight": (queries, H),
        f"{at}.self_attn.k_proj.weight": (keys, H),
        f"{at}.self_attn.o_proj.weight": (H, queries),
        f"{at}.self_attn.q_norm.weight": (D,),
        f"{at}.self_attn.k_norm.weight": (D,),
        f"{at}.experts.gate_up_proj.weight": (E, 2 * inner, H),
        f"{at}.experts.down_proj.weight": (E, H, inner),
        f"{at}.router.proj.weight": (E, H),
        f"{at}.router.scale": (H,),
        f"{at}.router.per_expert_scale": (E,),
        f"{at}.layer_scalar": (1,),
        f"{ENCODER}.language_model.layers.{number}.layer_scalar": (1,),
        **_mlp(f"{at}.mlp", H, text.intermediate_size),
        **{f"{at}.{norm}.weight": (H,) for norm in LAYER_NORMS},
    }
    if layer.sliding:  # on full layers the values are the keys
        shapes[f"{at}.self_attn.v_proj.weight"] = (keys, H)
    return shapes


def _vision_layer(vision: VisionConfig, at: str) -> Shapes:
    H, D = vision.hidden_size, vision.head_dim
    wide = vision.num_attention_heads * D
    return {
        **{f"{at}.self_attn.{part}_proj.linear.weight": (wide, H) for part in "qkv"},
        f"{at}.self_attn.o_proj.linear.weight": (H, wide),
        **{f"{at}.self_attn.{part}_norm.weight": (D,) for part in "qk"},
        **_mlp(f"{at}.mlp", H, vision.intermediate_size, ".linear"),
        **{f"{at}.{norm}.weight": (H,) for norm in VISION_NORMS},
    }


def _mlp(at: str, H: int, inner: int, end: str = "") -> Shapes:
    return {
        f"{at}.gate_proj{end}.weight": (inner, H),
        f"{at}.up_proj{end}.weight": (inner, H),
        f"{at}.down_proj{end}.weight": (H, inner),
    }
