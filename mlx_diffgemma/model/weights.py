"""The network built from the tensors of a checkpoint folder."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlx.core as mx

from ..checkpoint.config import ModelConfig, read_config
from ..checkpoint.keep import INPUTS, OUTPUTS, Keep, Keeps
from ..checkpoint.shards import shard_files
from ..checkpoint.tensors import PromisedTensors, StoredWeight, Tensors, load_arrays
from ..machine.choices import Choices
from ..machine.dtypes import mlx_dtype
from ..share.part import WHOLE, Part
from .blocks import AfterAttention, Attention, GatedMLP, Layer, SelfConditioning
from .embedding import Embedding
from .experts import Experts, Router
from .matrices import AnyMatrix, DenseMatrix, join, matrix
from .slices import (
    ExpertsPart,
    conditioning_keeps,
    kept,
    layer_keeps,
    network_keeps,
    own_experts,
    own_heads,
)
from .tables import table
from .text import Model, Progress
from .variants import evaluate, variant
from .vision_weights import build_vision
from .vocabulary import vocabulary_of

EMBEDDING = "model.decoder.embed_tokens"
ENCODER_LAYERS = "model.encoder.language_model.layers"
"""Where the encoder's own numbers of a layer stand; the decoder's name all that both share."""


@dataclass(frozen=True)
class Loaded:
    """A bound network, the names of tensors in the folder that it does not use, and its part.

    num_parameters: of the text network, quantised ones counted unpacked. keeps: of matrices.
    """

    model: Model
    num_parameters: int
    dropped: tuple[str, ...]
    keeps: Keeps


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

    def leave(self, names: Iterable[str]) -> None:
        """Nothing: what is not asked for is nobody's error."""


def load_network(
    folder: Path,
    dtype: mx.Dtype | None = None,
    progress: Progress | None = None,
    choices: Choices | None = None,
    part: Part = WHOLE,
) -> Loaded:
    """Read `folder` and bind all its weights, or those of a part, of which alone bytes are read.

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
    keeps = network_keeps(config.text, tensors.packing, part)
    return Loaded(model, tensors.num_parameters(), dropped, keeps)


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
        layers.append(build_layer(tensors, number, part))
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
    H, at = text.hidden_size, f"{decoder}.self_conditioning"
    conditioning = SelfConditioning(
        _mlp(tensors, at, conditioning_keeps(text, tensors.packing, part)),
        tensors.vector(f"{at}.pre_norm.weight", H),
        text.rms_norm_eps,
        part=part,
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


def build_layer(tensors: Tensors | GivenTensors, number: int, part: Part = WHOLE) -> Layer:
    """Layer `number`, from 0, or this rank's part of it."""
    text = tensors.config.text
    at, H = f"model.decoder.layers.{number}", text.hidden_size
    keeps = layer_keeps(text, number, tensors.packing, part)

    def norm(name: str) -> mx.array:
        return tensors.vector(f"{at}.{name}.weight", H)

    router_weight = tensors.vector(f"{at}.router.scale", H).astype(mx.float32) * H**-0.5
    feedforward_norms = [
        norm("pre_feedforward_layernorm"),
        norm("pre_feedforward_layernorm_2"),
        router_weight.astype(tensors.dtype),
    ]
    after_attention = AfterAttention(
        mlp=_mlp(tensors, f"{at}.mlp", keeps),
        router=Router(
            _matrix(tensors, f"{at}.router.proj", (text.num_experts, H), keeps),
            tensors.vector(f"{at}.router.per_expert_scale", text.num_experts),
            text.top_k_experts,
        ),
        experts=_experts(tensors, number, keeps, part),
        attention_norm=norm("post_attention_layernorm"),
        feedforward_norms=mx.stack(feedforward_norms)[:, None],
        mlp_norm=norm("post_feedforward_layernorm_1"),
        output_norm=norm("post_feedforward_layernorm"),
        eps=text.rms_norm_eps,
        part=part,
    )
    encoder_scalar = f"{ENCODER_LAYERS}.{number}.layer_scalar"
    return Layer(
        attention=_attention(tensors, number, keeps, part),
        after_attention=after_attention,
        input_norm=norm("input_layernorm"),
        decoder_scalar=tensors.vector(f"{at}.layer_scalar", 1),
        encoder_scalar=tensors.vector(encoder_scalar, 1),
    )


def _attention(tensors: Tensors | GivenTensors, number: int, keeps: Keeps, part: Part) -> Attention:
    text = tensors.config.text
    layer, at = text.layers[number], f"model.decoder.layers.{number}.self_attn"
    heads, H, D = own_heads(text, layer, part), text.hidden_size, layer.head_dim
    width, kv_width = text.num_attention_heads * D, layer.num_key_value_heads * D
    widths = {"q_proj": width, "k_proj": kv_width}
    if layer.sliding:
        widths["v_proj"] = kv_width
    qkv = [
        _matrix(tensors, f"{at}.{name}", (outputs, H), keeps) for name, outputs in widths.items()
    ]
    return Attention(
        heads.of(layer),
        heads.count,
        text.rms_norm_eps,
        join(qkv),
        _matrix(tensors, f"{at}.o_proj", (H, width), keeps),
        tensors.vector(f"{at}.q_norm.weight", D),
        tensors.vector(f"{at}.k_norm.weight", D),
        part,
    )


def _mlp(tensors: Tensors | GivenTensors, at: str, keeps: Keeps) -> GatedMLP:
    """A gated MLP of the dense width."""
    H, inner = tensors.config.text.hidden_size, tensors.config.text.intermediate_size
    gate_up = join(
        [_matrix(tensors, f"{at}.{name}_proj", (inner, H), keeps) for name in ("gate", "up")]
    )
    return GatedMLP(gate_up, _matrix(tensors, f"{at}.down_proj", (H, inner), keeps))


def _matrix(
    tensors: Tensors | GivenTensors, module: str, shape: tuple[int, ...], keeps: Keeps
) -> AnyMatrix:
    """What is kept of the matrix of `module`, [.., O, I]; dense or packed as stored."""
    return matrix(tensors.weight(module, *shape, keep=keeps.get(module)))


def _experts(tensors: Tensors | GivenTensors, number: int, keeps: Keeps, part: Part) -> Experts:
    """The experts of a layer, or this rank's part of them."""
    text, at = tensors.config.text, f"model.decoder.layers.{number}"
    own = own_experts(text, tensors.packing(f"{at}.experts.down_proj"), part)
    split = f"{at}.experts.0.gate_proj.weight" in tensors.headers
    gate_up, down = (
        _stacked(tensors, f"{at}.experts", own)
        if split
        else _fused(tensors, f"{at}.experts", keeps)
    )
    return Experts(
        gate_up,
        down,
        norm_weight=tensors.vector(f"{at}.post_feedforward_layernorm_2.weight", text.hidden_size),
        eps=text.rms_norm_eps,
        own=own.held(text.num_experts),
        normed=not part.in_tensors,
    )


def _fused(tensors: Tensors | GivenTensors, at: str, keeps: Keeps) -> tuple[AnyMatrix, AnyMatrix]:
    """gate_up [E, 2I, H] and down [E, H, I], a tensor each: whole experts, or a part of each."""
    text = tensors.config.text
    num, inner, H = text.num_experts, text.moe_intermediate_size, text.hidden_size
    gate_up = _matrix(tensors, f"{at}.gate_up_proj", (num, 2 * inner, H), keeps)
    return gate_up, _matrix(tensors, f"{at}.down_proj", (num, H, inner), keeps)


def _stacked(
    tensors: Tensors | GivenTensors, at: str, own: ExpertsPart
) -> tuple[AnyMatrix, AnyMatrix]:
    """gate_up [E, 2I, H] and down [E, H, I] of a folder that has experts one by one."""
    text = tensors.config.text
    inner, H = text.moe_intermediate_size, text.hidden_size

    def names(part: str, numbers: Iterable[int]) -> list[str]:
        return [f"{at}.{number}.{part}_proj.weight" for number in numbers]

    def stacked(part: str, axis: int, *shape: int) -> mx.array:
        keep = kept(axis, inner, (own.width,))
        named = names(part, range(*own.numbers))
        return mx.stack([tensors.vector(name, *shape, keep=keep) for name in named])

    others = set(range(text.num_experts)) - set(range(*own.numbers))
    tensors.leave(name for part in ("gate", "up", "down") for name in names(part, others))
    gate, up = stacked("gate", OUTPUTS, inner, H), stacked("up", OUTPUTS, inner, H)
    down = stacked("down", INPUTS, H, inner)
    return DenseMatrix(mx.concatenate([gate, up], axis=1)), DenseMatrix(down)
