"""Every tensor of the text network, with its shape, under its name in an MLX folder.

Source: the tensor table of google/diffusiongemma-26B-A4B-it.
Axes: V vocabulary, H hidden size, D head dimension, E experts, I inputs, O outputs.
"""

from .config import TextConfig

Shapes = dict[str, tuple[int, ...]]

DECODER, ENCODER = "model.decoder", "model.encoder"
LAYER_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "pre_feedforward_layernorm_2",
    "post_feedforward_layernorm",
    "post_feedforward_layernorm_1",
    "post_feedforward_layernorm_2",
)


def text_shapes(text: TextConfig) -> Shapes:
    """The text network: embedding, self-conditioning, final norm, then layer by layer."""
    H = text.hidden_size
    conditioning = f"{DECODER}.self_conditioning"
    shapes: Shapes = {
        f"{DECODER}.embed_tokens.weight": (text.vocab_size, H),
        f"{DECODER}.norm.weight": (H,),
        f"{conditioning}.pre_norm.weight": (H,),
        **mlp_shapes(conditioning, H, text.intermediate_size),
    }
    for number in range(len(text.layers)):
        shapes |= _text_layer(text, number)
    return shapes


def matrix_shapes(text: TextConfig) -> Shapes:
    """The matrices that adapters may stand on, by module: [O, I], of experts [E, O, I]."""
    table = f"{DECODER}.embed_tokens.weight"
    shapes = text_shapes(text)
    return {
        name.removesuffix(".weight"): shape
        for name, shape in shapes.items()
        if len(shape) > 1 and name != table
    }


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
        **mlp_shapes(f"{at}.mlp", H, text.intermediate_size),
        **{f"{at}.{norm}.weight": (H,) for norm in LAYER_NORMS},
    }
    if layer.sliding:  # on full layers the values are the keys
        shapes[f"{at}.self_attn.v_proj.weight"] = (keys, H)
    return shapes


def mlp_shapes(at: str, H: int, inner: int, end: str = "") -> Shapes:
    """The three matrices of a gated MLP at `at`."""
    return {
        f"{at}.gate_proj{end}.weight": (inner, H),
        f"{at}.up_proj{end}.weight": (inner, H),
        f"{at}.down_proj{end}.weight": (H, inner),
    }
