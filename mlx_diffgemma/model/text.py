"""The text network: one set of weights, run as a causal encoder and as a bidirectional decoder.

Axes: L positions, C canvas positions, V vocabulary, H hidden size, D head dimension.
Source: transformers 5.23 `models/diffusion_gemma/modeling_diffusion_gemma.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..config import LayerConfig, ModelConfig
from ..errors import PromptError
from .cache import LayerCache, Prefix
from .embedding import Embedding
from .experts import Experts, Router
from .layers import AnyMatrix, JoinedMatrix, Rope, compiled_on_gpu, geglu, tanh

Mask = mx.array | str | None
Progress = Callable[[int, int], None]  # done, total

PREFILL_CHUNK = 2048  # prompt positions encoded at a time


class Attention:
    """Self-attention of one layer; scale 1, per-head norms on q, k and v, v is k on full layers."""

    def __init__(
        self,
        layer: LayerConfig,
        num_heads: int,
        eps: float,
        qkv: AnyMatrix | JoinedMatrix,
        out: AnyMatrix,
        q_norm: mx.array,
        k_norm: mx.array,
    ) -> None:
        self.layer, self.num_heads, self.eps, self.qkv, self.out = layer, num_heads, eps, qkv, out
        kv_heads = layer.num_key_value_heads
        self.rotated_heads = num_heads + kv_heads
        norms = [mx.tile(q_norm, (num_heads, 1)), mx.tile(k_norm, (kv_heads, 1))]
        self.norms = mx.concatenate(norms)[:, None]  # [heads, 1, D]
        self.rope = Rope(layer)

    def project(self, x: mx.array, offset: int) -> tuple[mx.array, mx.array, mx.array]:
        """x [1, L, H] -> q [1, heads, L, D], k and v [1, kv heads, L, D], normed and rotated."""
        heads = mx.unflatten(self.qkv(x), -1, (-1, self.layer.head_dim))
        heads = mx.fast.rms_norm(heads, None, self.eps).swapaxes(1, 2)  # it would copy a view
        if self.layer.sliding:
            rotated, values = mx.split(heads, [self.rotated_heads], axis=1)
        else:
            rotated, values = heads, heads[:, self.num_heads :]
        queries, keys = mx.split(self.rope(rotated * self.norms, offset), [self.num_heads], axis=1)
        return queries, keys, values

    def __call__(self, x: mx.array, cache: LayerCache, offset: int, mask: Mask) -> mx.array:
        """x [1, L, H] at positions offset, ... -> [1, L, H]; `cache` gets its keys and values."""
        queries, keys, values = self.project(x, offset)
        seen = cache.write(keys, values, offset)
        output = mx.fast.scaled_dot_product_attention(
            queries, seen.keys, seen.values, scale=1.0, mask=mask
        )
        return self.out(output.swapaxes(1, 2).flatten(2))


class GatedMLP:
    """down(gelu_tanh(gate(x)) * up(x))."""

    def __init__(self, gate_up: AnyMatrix | JoinedMatrix, down: AnyMatrix) -> None:
        self.gate_up, self.down = gate_up, down

    def __call__(self, x: mx.array) -> mx.array:
        gate, up = mx.split(self.gate_up(x), 2, axis=-1)
        return self.down(geglu(gate, up))


@dataclass
class Layer:
    """One transformer layer; the weights of both passes, which differ in `scalar` alone.

    feedforward_norms [3, 1, H]: the weights of the three norms of the residual, in the order dense
    MLP, experts, router (the router's scale / sqrt(H) acts as its norm's weight). They share one
    statistic. In 16 bits this rounds before the weight, as `mx.fast.rms_norm` does; the reference
    rounds once, after it. In float32 both are the same.
    """

    attention: Attention
    mlp: GatedMLP
    router: Router
    experts: Experts
    input_norm: mx.array
    attention_norm: mx.array
    feedforward_norms: mx.array
    mlp_norm: mx.array
    experts_norm: mx.array
    output_norm: mx.array
    decoder_scalar: mx.array
    encoder_scalar: mx.array
    eps: float

    def __post_init__(self) -> None:
        self._finish_canvas = compiled_on_gpu(self._finish)

    def encode(self, x: mx.array, cache: LayerCache, offset: int, mask: Mask) -> mx.array:
        """The layer in the encoder: x [1, L, H] at positions offset, ... -> [1, L, H]."""
        return self._finish(x, self._attend(x, cache, offset, mask), self.encoder_scalar)

    def decode(self, x: mx.array, cache: LayerCache, offset: int) -> mx.array:
        """The layer in the decoder: x [1, C, H] at positions offset, ... -> [1, C, H].

        What follows attention has the same shapes at every step: a GPU traces it once.
        """
        return self._finish_canvas(x, self._attend(x, cache, offset, None), self.decoder_scalar)

    def _attend(self, x: mx.array, cache: LayerCache, offset: int, mask: Mask) -> mx.array:
        return self.attention(self.normed(x, self.input_norm), cache, offset, mask)

    def _finish(self, x: mx.array, attended: mx.array, scalar: mx.array) -> mx.array:
        """All that comes after attention."""
        x = x + self.normed(attended, self.attention_norm)
        return (x + self.normed(self.feedforward(x), self.output_norm)) * scalar

    def feedforward(self, x: mx.array) -> mx.array:
        """The dense MLP and the experts side by side: [1, L, H] -> [1, L, H]."""
        normed = mx.fast.rms_norm(x, None, self.eps) * self.feedforward_norms
        to_mlp, to_experts, to_router = mx.split(normed, 3)
        dense = self.normed(self.mlp(to_mlp), self.mlp_norm)
        chosen, weights = self.router(to_router.flatten(0, 1))
        routed = self.experts(to_experts.flatten(0, 1), chosen, weights)
        return dense + self.normed(routed, self.experts_norm)

    def keys_and_values(self, x: mx.array, offset: int) -> tuple[mx.array, mx.array]:
        """All that the encoder's last layer is needed for."""
        return self.attention.project(self.normed(x, self.input_norm), offset)[1:]

    def normed(self, x: mx.array, weight: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, weight, self.eps)


@dataclass
class SelfConditioning:
    """Adds what the last step believed to the canvas embedding, then norms without weight."""

    mlp: GatedMLP
    pre_norm: mx.array
    eps: float

    def __call__(self, embedded: mx.array, soft: mx.array | None) -> mx.array:
        """embedded [1, C, H], soft [1, C, H] or None on a canvas's first step -> [1, C, H].

        Without soft embeddings the MLP's input, and so its output, is exactly 0.
        """
        if soft is not None:
            embedded = embedded + self.mlp(mx.fast.rms_norm(soft, self.pre_norm, self.eps))
        return mx.fast.rms_norm(embedded, None, self.eps)


class Model:
    """The network alone: token ids in, logits out. No tokenizer, no sampler.

    `encode` builds a Prefix, `decode` denoises a canvas behind it, `logits` and `soft_embedding`
    turn the result into a distribution and back into an input.
    """

    def __init__(
        self,
        config: ModelConfig,
        embedding: Embedding,
        layers: Sequence[Layer],
        self_conditioning: SelfConditioning,
        final_norm: mx.array,
    ) -> None:
        self.config = config
        self.embedding = embedding
        self.layers = list(layers)
        self.self_conditioning = self_conditioning
        self.final_norm = final_norm
        self.find_non_finite: Callable[[], str | None] = lambda: None  # names a broken weight

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of activations."""
        return self.embedding.dtype

    def new_prefix(self) -> Prefix:
        """An empty prefix."""
        window = self.config.text.sliding_window
        return Prefix([LayerCache(window if c.sliding else None) for c in self.config.text.layers])

    def encode(
        self,
        tokens: mx.array | Sequence[int],
        prefix: Prefix | None = None,
        *,
        chunk: int = PREFILL_CHUNK,
        progress: Progress | None = None,
    ) -> Prefix:
        """The causal pass: tokens [L] or [1, L] behind `prefix`, consumed and returned longer.

        Runs `chunk` positions at a time, which gives the same keys and values as one pass.
        PromptError for an id outside the vocabulary.
        """
        ids = self._checked_ids(tokens)
        prefix = prefix or self.new_prefix()
        prefix.reserve(max(prefix.reserved, prefix.length + len(ids)))
        for first in range(0, len(ids), chunk):
            self._encode_chunk(ids[first : first + chunk], prefix)
            mx.eval(prefix.arrays())
            mx.clear_cache()
            if progress:
                progress(min(first + chunk, len(ids)), len(ids))
        return prefix

    def decode(self, canvas: mx.array, prefix: Prefix, soft: mx.array | None = None) -> mx.array:
        """The bidirectional pass: canvas [C] or [1, C], soft [1, C, H] -> hidden [1, C, H], normed.

        Every position sees the whole canvas and the prefix (its last window - 1 positions on
        sliding layers). What the prefix holds is not changed; its buffers lend the canvas room.
        """
        canvas = canvas.reshape(1, -1)
        self._make_room(prefix, canvas.shape[1])
        x = self.self_conditioning(self.embedding.lookup(canvas), soft)
        for layer, cache in zip(self.layers, prefix.layers, strict=True):
            x = layer.decode(x, cache, prefix.length)
        return mx.fast.rms_norm(x, self.final_norm, self.config.text.rms_norm_eps)

    def logits(self, hidden: mx.array) -> mx.array:
        """hidden [..., C, H] -> softcapped logits [..., C, V], float32."""
        cap = self.config.text.final_logit_softcapping
        return tanh(self.embedding.head(hidden).astype(mx.float32) / cap) * cap

    def soft_embedding(self, processed: mx.array) -> mx.array:
        """processed logits [..., C, V] -> soft embeddings [..., C, H], by the whole product."""
        return self.embedding.soft(processed)

    @property
    def gathers(self) -> bool:
        """Whether `gathered_embedding` can be used; see `Embedding.gathers`."""
        return self.embedding.gathers

    def gathered_embedding(self, processed: mx.array) -> tuple[mx.array, mx.array]:
        """processed logits [C, V] -> soft embeddings [C, H] of few tokens, and where they do."""
        return self.embedding.gathered(processed)

    def mixed_embedding(self, weights: mx.array, total: mx.array) -> mx.array:
        """weights [C, V] that sum to total [C, 1] -> soft embeddings [C, H]."""
        return self.embedding.mix(weights, total)

    def _encode_chunk(self, ids: Sequence[int], prefix: Prefix) -> None:
        offset, count = prefix.length, len(ids)
        self._make_room(prefix, count)
        sliding_mask = self._sliding_mask(offset, count)
        x = self.embedding.lookup(mx.array(list(ids))[None])
        for layer, cache in zip(self.layers[:-1], prefix.layers[:-1], strict=True):
            mask = "causal" if cache.window is None else sliding_mask
            x = layer.encode(x, cache, offset, mask)
        prefix.layers[-1].write(*self.layers[-1].keys_and_values(x, offset), offset)
        prefix.tokens.extend(ids)

    def _make_room(self, prefix: Prefix, count: int) -> None:
        end = prefix.length + count
        for cache, layer in zip(prefix.layers, self.config.text.layers, strict=True):
            upto = end if layer.sliding else max(end, prefix.reserved)
            like = (layer.num_key_value_heads, layer.head_dim, self.dtype)
            if cache.span is None or end > cache.span.end:  # before growing to what is reserved
                cache.make_room(prefix.length, upto, like, prefix.marked)

    def _sliding_mask(self, offset: int, count: int) -> Mask:
        """Query i sees key j iff i - window < j <= i; plain causal while all fits the window."""
        window = self.config.text.sliding_window
        if offset + count <= window:
            return "causal"
        queries = mx.arange(offset, offset + count)[:, None]
        keys = mx.arange(max(0, offset - (window - 1)), offset + count)[None]
        return (keys <= queries) & (keys > queries - window)

    def _checked_ids(self, tokens: mx.array | Sequence[int]) -> list[int]:
        ids = token_list(tokens)
        vocab_size = self.config.text.vocab_size
        wrong = next((i for i in ids if not 0 <= i < vocab_size), None)
        if wrong is not None:
            raise PromptError(f"token id {wrong}, expected 0 to {vocab_size - 1}.")
        return ids


def token_list(tokens: mx.array | Sequence[int]) -> list[int]:
    """Token ids [L] or [1, L] as a list."""
    if not isinstance(tokens, mx.array):
        tokens = mx.array(list(tokens))
    ids: list[int] = tokens.reshape(-1).tolist()  # type: ignore[assignment]
    return ids


def named_arrays(part: object, place: str) -> Iterator[tuple[str, mx.array]]:
    """Every array inside a part of the network, with a dotted name."""
    if isinstance(part, mx.array):
        yield place, part
    elif isinstance(part, list | tuple):
        for number, item in enumerate(part):
            yield from named_arrays(item, f"{place}.{number}")
    elif hasattr(part, "__dict__"):
        for name, item in vars(part).items():
            yield from named_arrays(item, f"{place}.{name}")
