"""The parts of the network: attention, feed-forward, a whole layer, self-conditioning.

Axes: L positions, C canvas positions, H hidden size, D head dimension.
Source: transformers 5.23 `models/diffusion_gemma/modeling_diffusion_gemma.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from ..checkpoint.config import LayerConfig
from ..machine.device import compiled_on_gpu
from ..share.part import WHOLE, Part, Rows
from .attention import ALL, Apart, Behind, Core, Visibility, attend, behind, masked
from .cache import LayerCache
from .elementwise import Norm, geglu, rms_norm
from .experts import Activation, Experts, Router
from .matrices import AnyMatrix, JoinedMatrix
from .rope import Rope

# A GPU traces what follows attention once a number of rows, which pays where it comes again:
# a canvas, a token, or the few that are checked at once. A piece of a prompt has any length.
FEW_ROWS = 16
ALL_ROWS = Rows()

Own = Callable[[mx.array, mx.array], tuple[mx.array, mx.array]]
Finished = Callable[[mx.array, mx.array, mx.array], mx.array]


class Attention:
    """Self-attention of one layer; scale 1, per-head norms on q, k and v, v is k on full layers.

    layer, num_heads: of the heads that are held; those of other Macs add what theirs give.
    """

    def __init__(
        self,
        layer: LayerConfig,
        num_heads: int,
        eps: float,
        qkv: AnyMatrix | JoinedMatrix,
        out: AnyMatrix,
        q_norm: mx.array,
        k_norm: mx.array,
        part: Part = WHOLE,
    ) -> None:
        self.part = part
        self.layer, self.num_heads, self.eps, self.qkv, self.out = layer, num_heads, eps, qkv, out
        kv_heads = layer.num_key_value_heads
        self.rotated_heads = num_heads + kv_heads
        norms = [mx.tile(q_norm, (num_heads, 1)), mx.tile(k_norm, (kv_heads, 1))]
        self.norms = mx.concatenate(norms)[:, None]  # [heads, 1, D]
        self.rope = Rope(layer)
        self.core: Core = masked
        self.behind: Behind = behind

    def project(self, x: mx.array, offset: int | mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """x [B, L, H] -> q [B, heads, L, D], k and v [B, kv heads, L, D], normed and rotated.

        offset: the first position, or that of each of the batch [B].
        """
        heads = mx.unflatten(self.qkv(x), -1, (-1, self.layer.head_dim))
        heads = mx.fast.rms_norm(heads, None, self.eps).swapaxes(1, 2)  # it would copy a view
        if self.layer.sliding:
            rotated, values = mx.split(heads, [self.rotated_heads], axis=1)
        else:
            rotated, values = heads, heads[:, self.num_heads :]
        queries, keys = mx.split(self.rope(rotated * self.norms, offset), [self.num_heads], axis=1)
        return queries, keys, values

    def project_own(
        self, x: mx.array, offset: int, rows: Rows
    ) -> tuple[mx.array, mx.array, mx.array]:
        """As `project`, of this rank's rows x [1, R, H] of C positions: keys and values of all C.

        The keys of full layers are made of their values, which alone are sent.
        """
        queries, keys, values = self.project(x, offset + rows.first)
        if not rows.divided:
            return queries, keys, values
        if self.layer.sliding:
            sent = mx.concatenate([keys, values], axis=1)
            keys, values = mx.split(rows.gathered(sent, 2, "keys and values"), 2, axis=1)
        else:
            values = rows.gathered(values, 2, "keys and values")
            keys = self.rope(values * self.norms[self.num_heads :], offset)
        return queries, keys, values

    def __call__(
        self,
        x: mx.array,
        cache: LayerCache,
        offset: int,
        visible: Visibility | Apart,
        rows: Rows = ALL_ROWS,
    ) -> mx.array:
        """x [1, L, H] at positions offset, ... -> [1, L, H]; `cache` gets its keys and values.

        Canvases that are apart begin at `offset` each, and take slots one behind the other. rows:
        those of the positions that x holds.
        """
        if isinstance(visible, Apart):
            each = self.project(mx.unflatten(x.squeeze(0), 0, (-1, visible.width)), offset)
            queries, keys, values = (part.swapaxes(0, 1).flatten(1, 2)[None] for part in each)
        else:
            queries, keys, values = self.project_own(x, offset, rows)
        seen = cache.write(keys, values, offset)
        output = attend(
            queries,
            seen.keys,
            seen.values,
            visible,
            self.core,
            first=rows.first,
            behind=seen.keys.shape[2] - keys.shape[2],
        )
        return self.part.sum(self.out(output.swapaxes(1, 2).flatten(2)), "attention")


class GatedMLP:
    """down(gelu_tanh(gate(x)) * up(x))."""

    def __init__(
        self,
        gate_up: AnyMatrix | JoinedMatrix,
        down: AnyMatrix,
        activation: Activation = geglu,
    ) -> None:
        self.gate_up, self.down, self.activation = gate_up, down, activation

    def __call__(self, x: mx.array) -> mx.array:
        gate, up = mx.split(self.gate_up(x), 2, axis=-1)
        return self.down(self.activation(gate, up))


@dataclass
class AfterAttention:
    """The rest of a layer: dense MLP and experts side by side, and the norms around them.

    The norm of what the experts give is theirs. part: where Macs hold parts of dense MLP and
    experts, both are summed in one call, before their norms.

    feedforward_norms [3, 1, H]: the weights of the three norms of the residual, in the order dense
    MLP, experts, router (the router's scale / sqrt(H) acts as its norm's weight). They share one
    statistic. In 16 bits this rounds before the weight, as `mx.fast.rms_norm` does; the reference
    rounds once, after it. In float32 both are the same.
    """

    mlp: GatedMLP
    router: Router
    experts: Experts
    attention_norm: mx.array
    feedforward_norms: mx.array
    mlp_norm: mx.array
    output_norm: mx.array
    eps: float
    norm: Norm = rms_norm
    part: Part = WHOLE

    def __call__(self, x: mx.array, attended: mx.array, scalar: mx.array) -> mx.array:
        """The layer's input x and its attention's output, both [1, L, H] -> [1, L, H]."""
        if self.part.in_tensors:
            return self.in_halves(self.own, self.finished, x, attended, scalar)
        x = x + self._normed(attended, self.attention_norm)
        to_mlp, to_experts, to_router = self.feedforward_inputs(x)
        dense = self._normed(self.mlp(to_mlp), self.mlp_norm)
        routed = self.experts(to_experts.flatten(0, 1), self.router(to_router.flatten(0, 1)))
        return (x + self._normed(dense + routed, self.output_norm)) * scalar

    def in_halves(
        self, own: Own, finished: Finished, x: mx.array, attended: mx.array, scalar: mx.array
    ) -> mx.array:
        """The same with a sum over Macs between two halves, `own` and `finished`."""
        x, parts = own(x, attended)
        return finished(x, self.part.sum(parts, "feed-forward"), scalar)

    def own(self, x: mx.array, attended: mx.array) -> tuple[mx.array, mx.array]:
        """x and attended [1, L, H] -> the residual behind attention, and this Mac's [2, L, H].

        These are its parts of what dense MLP and experts give, in this order.
        """
        x = x + self._normed(attended, self.attention_norm)
        to_mlp, to_experts, to_router = self.feedforward_inputs(x)
        routed = self.experts(to_experts.flatten(0, 1), self.router(to_router.flatten(0, 1)))
        return x, mx.stack([self.mlp(to_mlp).flatten(0, 1), routed])

    def finished(self, x: mx.array, sums: mx.array, scalar: mx.array) -> mx.array:
        """The residual behind attention [1, L, H], and the sums of all parts [2, L, H]."""
        dense = self._normed(sums[:1], self.mlp_norm)
        update = dense + self.experts.norm_sum(sums[1:])
        return (x + self._normed(update, self.output_norm)) * scalar

    def compiled(self) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
        """The same as a GPU runs it; a sum over Macs is no part of what is compiled.

        It counts where it is built, which a compiled function is once.
        """
        if not self.part.in_tensors:
            return compiled_on_gpu(self)
        return partial(self.in_halves, compiled_on_gpu(self.own), compiled_on_gpu(self.finished))

    def feedforward_inputs(self, x: mx.array) -> Sequence[mx.array]:
        """The inputs of dense MLP, experts and router of the residual x [1, L, H]."""
        to_mlp, to_experts, to_router = mx.split(self._normed(x) * self.feedforward_norms, 3)
        return to_mlp, to_experts, to_router

    def _normed(self, x: mx.array, weight: mx.array | None = None) -> mx.array:
        return self.norm(x, weight, self.eps)


@dataclass
class Layer:
    """One transformer layer; the weights of both passes, which differ in one scalar."""

    attention: Attention
    after_attention: AfterAttention
    input_norm: mx.array
    decoder_scalar: mx.array
    encoder_scalar: mx.array
    norm: Norm = rms_norm

    def __post_init__(self) -> None:
        self.compiled_after_attention = self.after_attention.compiled()

    def encode(
        self,
        x: mx.array,
        cache: LayerCache,
        offset: int,
        visible: Visibility,
        rows: Rows = ALL_ROWS,
    ) -> mx.array:
        """The layer in the encoder: x [1, L, H] at positions offset, ... -> [1, L, H].

        rows: those of the positions that x holds.
        """
        attended = self.attention(self.normed(x), cache, offset, visible, rows)
        few = x.shape[1] <= FEW_ROWS and not rows.divided
        after_attention = self.compiled_after_attention if few else self.after_attention
        return after_attention(x, attended, self.encoder_scalar)

    def decode(
        self,
        x: mx.array,
        cache: LayerCache,
        offset: int,
        visible: Visibility | Apart = ALL,
        rows: Rows = ALL_ROWS,
    ) -> mx.array:
        """The layer in the decoder: x [1, C, H] at positions offset, ... -> [1, C, H].

        rows: those of the canvas that x holds.
        """
        attended = self.attention(self.normed(x), cache, offset, visible, rows)
        return self.compiled_after_attention(x, attended, self.decoder_scalar)

    def keys_and_values(
        self, x: mx.array, offset: int, rows: Rows = ALL_ROWS
    ) -> tuple[mx.array, mx.array]:
        """All that the encoder's last layer is needed for; rows: those that x holds."""
        return self.attention.project_own(self.normed(x), offset, rows)[1:]

    def normed(self, x: mx.array) -> mx.array:
        """The residual x [1, L, H] as attention takes it."""
        return self.norm(x, self.input_norm, self.attention.eps)


@dataclass
class SelfConditioning:
    """Soft embeddings of the step before added to the canvas, then a norm without weight."""

    mlp: GatedMLP
    pre_norm: mx.array
    eps: float
    norm: Norm = rms_norm
    part: Part = WHOLE

    def __call__(self, embedded: mx.array, soft: mx.array | None) -> mx.array:
        """embedded [1, C, H], soft [1, C, H] or None on a canvas's first step -> [1, C, H].

        Without soft embeddings the MLP's input, and so its output, is exactly 0.
        """
        if soft is not None:
            own = self.mlp(self.norm(soft, self.pre_norm, self.eps))
            own = self.part.behind(own, embedded)  # the lookup's message first
            embedded = embedded + self.part.sum(own, "self-conditioning")
        return self.norm(embedded, None, self.eps)
