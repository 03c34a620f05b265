"""Every tensor that a target must hold, with its shape: the text network's, and a vision tower's.

Source: the tensor table of google/diffusiongemma-26B-A4B-it.
Axes: H hidden size, D head dimension.
"""

from ..checkpoint.config import FULL, SLIDING, TextConfig
from ..checkpoint.layout import ENCODER, LAYER_NORMS, Shapes, mlp_shapes, text_shapes
from ..checkpoint.vision import VisionConfig
from ..errors import CheckpointError
from ..images.pixels import PATCH_NUMBERS
from .read import SourceCheckpoint

VISION_TOWER = f"{ENCODER}.vision_tower"
VISION_PROJECTION = f"{ENCODER}.embed_vision.embedding_projection"
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


def _vision_layer(vision: VisionConfig, at: str) -> Shapes:
    H, D = vision.hidden_size, vision.head_dim
    wide = vision.num_attention_heads * D
    return {
        **{f"{at}.self_attn.{part}_proj.linear.weight": (wide, H) for part in "qkv"},
        f"{at}.self_attn.o_proj.linear.weight": (H, wide),
        **{f"{at}.self_attn.{part}_norm.weight": (D,) for part in "qk"},
        **mlp_shapes(f"{at}.mlp", H, vision.intermediate_size, ".linear"),
        **{f"{at}.{norm}.weight": (H,) for norm in VISION_NORMS},
    }
