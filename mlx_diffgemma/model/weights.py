"""The network built from the tensors of a checkpoint folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlx.core as mx

from ..checkpoint.config import ModelConfig, read_config
from ..checkpoint.keep import OUTPUTS, Keep
from ..checkpoint.shards import shard_files
from ..checkpoint.tensors import PromisedTensors, StoredWeight, Tensors, load_arrays
from ..checkpoint.vision import VisionConfig
from ..images.pixels import PATCH_NUMBERS
from ..machine.choices import Choices
from ..machine.dtypes import mlx_dtype
from ..share.part import WHOLE, Part
from .blocks import AfterAttention, Attention, GatedMLP, Layer, SelfConditioning
from .embedding import Embedding
from .experts import Experts, Router
from .matrices import AnyMatrix, DenseMatrix, join, matrix
from .tables import table
from .text import Model, Progress
from .variants import evaluate, variant
from .vision import VisionAttention, VisionLayer, VisionTower
from .vocabulary import vocabulary_of

EMBEDDING = "model.decoder.embed_tokens"
ENCODER_LAYERS = "model.encoder.language_model.layers"
"""Where the encoder's own numbers of a layer stand; the decoder's name all that both share."""


@dataclass(frozen=True)
class Loaded:
    """A bound network, and the names of tensors in the folder that it does not use."""

    model: Model
    num_parameters: int  # of the text network, quantised ones counted unpacked
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class GivenTensors:
    """Tensors that are at hand, by their names: what a network is made of in training."""

    config: ModelConfig
    headers: Mapping[str, mx.array]  # by name, as a folder's headers are
    dtype: mx.Dtype = mx.float32

    def vector(self, name: str, *shape: int, keep: Keep | None = None) -> mx.array:
        """The tensor `name`, or what is kept of it."""
        return keep.of(self.headers[name]) if keep else self.headers[name]

    def weight(self, module: str, *shape: int, keep: Keep | None = None) -> StoredWeight:
        """The weight of `module`, or what is kept of it."""
        return StoredWeight(self.vector(f"{module}.weight", keep=keep))

    def packing(self, module: str) -> None:
        """None: numbers in training are plain."""


def load_network(
    folder: Path,
    dtype: mx.Dtype | None = None,
    progress: Progress | None = None,
    choices: Choices | None = None,
    part: Part = WHOLE,
) -> Loaded:
    """Read `folder` and bind all its weights, or those of a part: other layers are not read.

    `dtype` None means that of `choices`, or else the checkpoint's own. progress is told of layers,
    a vision tower counting as one more.
    """
    config, choices = read_config(folder), choices or Choices()
    part.require_divisible(len(config.text.layers), config.canvas_length)
    tensors = Tensors(folder, config, dtype or chosen_dtype(config, choices))
    own = part.layers(len(config.text.layers))
    total = len(own) + (tensors.vision is not None)

    def read(done: int, weights: object) -> None:
        evaluate(weights)
        part.share.alive()
        if progress and done:
            progress(done, total)

    model = build(tensors, read, part)
    model.find_non_finite = partial(first_non_finite, folder)
    tensors.leave_layers(set(range(len(config.text.layers))) - set(own))
    dropped = tensors.finish()
    if choices.alter:
        model = variant(model, choices)
    return Loaded(model, tensors.num_parameters(), dropped)


def check_network(folder: Path, config: ModelConfig, *, shape_only: bool = False) -> Tensors:
    """Bind the tensors of `folder` as loading would, with the same errors, but reads no weight.

    shape_only: the files may end behind their headers.
    """
    tensors = PromisedTensors(folder, config, mlx_dtype(config.dtype), shape_only=shape_only)
    build(tensors, lambda layer, part: None)
    return tensors


def chosen_dtype(config: ModelConfig, choices: Choices) -> mx.Dtype:
    """The dtype of activations where a user asks for none."""
    return mlx_dtype(choices.dtype or config.dtype)


def first_non_finite(folder: Path) -> str | None:
    """The first tensor of a checkpoint folder that holds NaN or Inf, by name, or None."""
    for file in shard_files(folder):
        arrays = load_arrays(file)
        for name in sorted(arrays):
            array = arrays.pop(name)
            if mx.issubdtype(array.dtype, mx.floating) and not bool(mx.isfinite(array).all()):
                return name
    return None


def build(tensors: Tensors, read: Callable[[int, object], None], part: Part = WHOLE) -> Model:
    """The network; `read` gets each piece when it is bound, with the number of layers bound.

    The vision tower is the last, and counts as a layer.
    """
    embedding, conditioning, final_norm = build_ends(tensors, part)
    read(0, [embedding, conditioning, final_norm])
    layers = []
    for number in part.layers(len(tensors.config.text.layers)):
        layers.append(build_layer(tensors, number))
        read(len(layers), layers[-1])
    if (vision := build_vision(tensors)) is not None:
        read(len(layers) + 1, vision)
    return Model(
        tensors.config, embedding, layers, conditioning, final_norm, vision=vision, part=part
    )


def build_ends(
    tensors: Tensors | GivenTensors, part: Part = WHOLE
) -> tuple[Embedding, SelfConditioning, mx.array]:
    """The parts before and behind the layers: embedding, self-conditioning, final norm [H]."""
    text, decoder = tensors.config.text, "model.decoder"
    H = text.hidden_size
    conditioning = SelfConditioning(
        _mlp(tensors, f"{decoder}.self_conditioning", H, text.intermediate_size),
        tensors.vector(f"{decoder}.self_conditioning.pre_norm.weight", H),
        text.rms_norm_eps,
    )
    norm = tensors.vector(f"{decoder}.norm.weight", H)
    return build_embedding(tensors, part), conditioning, norm


def build_embedding(tensors: Tensors | GivenTensors, part: Part = WHOLE) -> Embedding:
    """The embedding, which is the head too: the rows of a part's ids."""
    V, H = tensors.config.text.vocab_size, tensors.config.text.hidden_size
    own = vocabulary_of(part, V)
    keep = Keep(OUTPUTS, (own.own(V),)) if own.divided else None
    stored = tensors.weight(EMBEDDING, V, H, keep=keep)
    return Embedding(table(stored), V, H, tensors.dtype, own)


def build_layer(tensors: Tensors | GivenTensors, number: int) -> Layer:
    """Layer `number`, from 0."""
    text = tensors.config.text
    at, H = f"model.decoder.layers.{number}", text.hidden_size

    def norm(name: str) -> mx.array:
        return tensors.vector(f"{at}.{name}.weight", H)

    router_weight = tensors.vector(f"{at}.router.scale", H).astype(mx.float32) * H**-0.5
    feedforward_norms = [
        norm("pre_feedforward_layernorm"),
        norm("pre_feedforward_layernorm_2"),
        router_weight.astype(tensors.dtype),
    ]
    after_attention = AfterAttention(
        mlp=_mlp(tensors, f"{at}.mlp", H, text.intermediate_size),
        router=Router(
            _matrix(tensors, f"{at}.router.proj", text.num_experts, H),
            tensors.vector(f"{at}.router.per_expert_scale", text.num_experts),
            text.top_k_experts,
        ),
        experts=Experts(
            *_experts(tensors, f"{at}.experts", text.num_experts, text.moe_intermediate_size, H),
            norm_weight=norm("post_feedforward_layernorm_2"),
            eps=text.rms_norm_eps,
        ),
        attention_norm=norm("post_attention_layernorm"),
        feedforward_norms=mx.stack(feedforward_norms)[:, None],
        mlp_norm=norm("post_feedforward_layernorm_1"),
        output_norm=norm("post_feedforward_layernorm"),
        eps=text.rms_norm_eps,
    )
    encoder_scalar = f"{ENCODER_LAYERS}.{number}.layer_scalar"
    return Layer(
        attention=_attention(tensors, number),
        after_attention=after_attention,
        input_norm=norm("input_layernorm"),
        decoder_scalar=tensors.vector(f"{at}.layer_scalar", 1),
        encoder_scalar=tensors.vector(encoder_scalar, 1),
    )


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


def _attention(tensors: Tensors | GivenTensors, number: int) -> Attention:
    text = tensors.config.text
    layer, at = text.layers[number], f"model.decoder.layers.{number}.self_attn"
    H, D = text.hidden_size, layer.head_dim
    sizes = {"q": text.num_attention_heads * D, "k": layer.num_key_value_heads * D}
    if layer.sliding:
        sizes["v"] = sizes["k"]
    return Attention(
        layer,
        text.num_attention_heads,
        text.rms_norm_eps,
        join([_matrix(tensors, f"{at}.{part}_proj", size, H) for part, size in sizes.items()]),
        _matrix(tensors, f"{at}.o_proj", H, sizes["q"]),
        tensors.vector(f"{at}.q_norm.weight", D),
        tensors.vector(f"{at}.k_norm.weight", D),
    )


def _mlp(tensors: Tensors | GivenTensors, at: str, hidden: int, inner: int) -> GatedMLP:
    gate_up = join(
        [_matrix(tensors, f"{at}.{part}_proj", inner, hidden) for part in ("gate", "up")]
    )
    return GatedMLP(gate_up, _matrix(tensors, f"{at}.down_proj", hidden, inner))


def _matrix(tensors: Tensors | GivenTensors, module: str, *shape: int) -> AnyMatrix:
    """The matrix of `module`, [.., O, I], dense or packed as the folder has it."""
    return matrix(tensors.weight(module, *shape))


def _experts(
    tensors: Tensors | GivenTensors, prefix: str, num: int, inner: int, hidden: int
) -> tuple[AnyMatrix, AnyMatrix]:
    """gate_up [E, 2I, H] and down [E, H, I], stacked here if the folder has them one by one."""
    if f"{prefix}.0.gate_proj.weight" not in tensors.headers:
        gate_up = _matrix(tensors, f"{prefix}.gate_up_proj", num, 2 * inner, hidden)
        return gate_up, _matrix(tensors, f"{prefix}.down_proj", num, hidden, inner)

    def stacked(part: str, *shape: int) -> mx.array:
        names = [f"{prefix}.{e}.{part}_proj.weight" for e in range(num)]
        return mx.stack([tensors.vector(name, *shape) for name in names])

    gate, up = stacked("gate", inner, hidden), stacked("up", inner, hidden)
    down = stacked("down", hidden, inner)
    return DenseMatrix(mx.concatenate([gate, up], axis=1)), DenseMatrix(down)
