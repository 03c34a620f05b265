"""A network computed by numpy: float32 on the CPU, evaluated operation by operation.

For small networks, where MLX's products on Linux take 35 times as long (docs/log.md). Packed
weights are unpacked; all of it can be differentiated.
Axes: B batch, L positions, H hidden size, I inputs, O outputs, E experts, N rows.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import fields, replace
from functools import partial
from typing import Any

import mlx.core as mx

from ..machine.dtypes import dtype_name
from . import host_attention, host_ops
from .blocks import AfterAttention, Attention, GatedMLP, Layer, SelfConditioning
from .embedding import Embedding
from .experts import Experts, Routing
from .host_ops import FEW_ROWS, few
from .matrices import AdaptedMatrix, AnyMatrix, DenseMatrix, JoinedMatrix, PackedMatrix
from .products import gather, gather_by, multiply, multiply_by
from .tables import DenseTable, PackedTable
from .text import Model


class HostMatrix(DenseMatrix):
    """A float32 weight, multiplied by numpy; `trained`: it is a variable, and gets a gradient."""

    sorts_from: float = FEW_ROWS + 1

    def __init__(self, right: mx.array, trained: bool) -> None:
        self.right, self.outputs, self.trained = right, right.shape[-1], trained
        self.merged = None if trained else partial(host_ops.adapted, right)
        self._by = None if trained or right.ndim == 3 else multiply_by(right)
        self._gather_by = None if trained or right.ndim == 2 else gather_by(right)

    def __call__(self, x: mx.array) -> mx.array:
        if few(x):
            return x @ self.right
        return self._by(x) if self._by else multiply(x, self.right)

    def gather(self, x: mx.array, rows: mx.array | None, experts: mx.array) -> mx.array:
        """Rows x [..., 1, I] times the matrices of `experts`; see `DenseMatrix.gather`."""
        if rows is not None:
            return super().gather(x, rows, experts)
        return self._gather_by(x, experts) if self._gather_by else gather(x, self.right, experts)


class HostTable(DenseTable):
    """The embedding as a float32 array [V, H], multiplied by numpy."""

    def __init__(self, weight: mx.array, trained: bool) -> None:
        super().__init__(weight)
        self.trained = trained
        right = weight.swapaxes(0, 1)
        self._head, self._mix = HostMatrix(right, trained), HostMatrix(weight, trained)

    def rows(self, ids: mx.array, dtype: mx.Dtype) -> mx.array:
        """ids [...] -> [..., H]."""
        return host_ops.rows(self.weight, ids) if self.trained else super().rows(ids, dtype)

    def head(self, hidden: mx.array) -> mx.array:
        """[..., C, H] -> [..., C, V]."""
        return self._head(hidden)

    def mix(self, weights: mx.array) -> mx.array:
        """[..., C, V] -> [..., C, H]."""
        return self._mix(weights)


class HostAttention(Attention):
    """Attention whose products, heads and scores numpy computes."""

    def __init__(self, base: Attention, trained: bool) -> None:
        vars(self).update(vars(base))
        self.qkv, self.out = _matrix(base.qkv, trained), _matrix(base.out, trained)
        self.core, self.behind = host_attention.masked, host_attention.behind

    def project(self, x: mx.array, offset: int | mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """x [B, L, H] -> q [B, heads, L, D], k and v [B, kv heads, L, D], normed and rotated."""
        if few(x):
            return super().project(x, offset)
        queries, keys, values = host_attention.heads(
            self.qkv(x), self.norms, self.num_heads, self.rope, offset, self.eps
        )
        return queries, keys, values


class HostMLP(GatedMLP):
    """A gated MLP whose products and activation numpy computes."""

    def __call__(self, x: mx.array) -> mx.array:
        return super().__call__(x) if few(x) else self.down(host_ops.geglu(self.gate_up(x)))


class HostExperts(Experts):
    """Experts that numpy routes and mixes."""

    def mixed(self, x: mx.array, routing: Routing) -> mx.array:
        """x [L, H] -> the weighted sum of the experts chosen for each row [L, H]."""
        gate_up, down = self.gate_up, self.down
        if few(x) or not isinstance(gate_up, HostMatrix) or not isinstance(down, HostMatrix):
            return super().mixed(x, routing)
        if self.own is not None:
            return super().mixed(x, routing)
        experts, weights = host_ops.route(routing.scores, routing.scale, routing.top_k)
        return host_ops.mix(x, experts, weights, gate_up.right, down.right, gate_up.trained)


class HostAfterAttention(AfterAttention):
    """The rest of a layer, by numpy."""

    def feedforward_inputs(self, x: mx.array) -> Sequence[mx.array]:
        """The inputs of dense MLP, experts and router of the residual x [1, L, H]."""
        if few(x):
            return super().feedforward_inputs(x)
        return host_ops.rms_norms(x, self.feedforward_norms, self.eps)


def host_embedding(embedding: Embedding, *, trained: bool = False) -> Embedding:
    """The embedding with a table that numpy multiplies by."""
    table = embedding.table
    weight = table.unpacked(mx.float32) if isinstance(table, PackedTable) else table.weight
    made = HostTable(weight.astype(mx.float32), trained)
    sizes = (embedding.vocab_size, embedding.hidden_size)
    return Embedding(made, *sizes, mx.float32, embedding.own)


def host_conditioning(conditioning: SelfConditioning, *, trained: bool = False) -> SelfConditioning:
    """Self-conditioning that numpy computes."""
    return replace(conditioning, mlp=_mlp(conditioning.mlp, trained), norm=host_ops.rms_norm)


def host_model(model: Model) -> Model:
    """`model` computed by numpy: the same network, in float32 whatever it was packed in.

    Its adapters stay. RuntimeError for a network that computes in 16 bits: its vectors are rounded.
    """
    if model.dtype != mx.float32:
        raise RuntimeError(f"the network computes in {dtype_name(model.dtype)}, expected float32.")
    made = Model(
        model.config,
        host_embedding(model.embedding),
        [host_layer(layer) for layer in model.layers],
        host_conditioning(model.self_conditioning),
        model.final_norm,
        model.choices,
        vision=model.vision,
        part=model.part,
    )
    made.find_non_finite = model.find_non_finite
    return made


def host_layer(layer: Layer, *, trained: bool = False) -> Layer:
    """A layer that numpy computes."""
    after = layer.after_attention
    router = copy(after.router)
    router.projection = _matrix(router.projection, trained)
    norm = host_ops.rms_norm
    experts = HostExperts(
        **_parts(after.experts)
        | {
            "gate_up": _matrix(after.experts.gate_up, trained),
            "down": _matrix(after.experts.down, trained),
            "activation": host_ops.gated,
            "norm": norm,
        }
    )
    mlp = _mlp(after.mlp, trained)
    made = HostAfterAttention(
        **_parts(after) | {"mlp": mlp, "router": router, "experts": experts, "norm": norm}
    )
    attention = HostAttention(layer.attention, trained)
    return replace(layer, attention=attention, after_attention=made, norm=norm)


def _parts(part: Experts | AfterAttention) -> dict[str, Any]:
    return {field.name: getattr(part, field.name) for field in fields(part)}


def _mlp(mlp: GatedMLP, trained: bool) -> GatedMLP:
    return HostMLP(_matrix(mlp.gate_up, trained), _matrix(mlp.down, trained), host_ops.gated)


def _matrix(matrix: AnyMatrix | JoinedMatrix, trained: bool) -> HostMatrix | AdaptedMatrix:
    if isinstance(matrix, AdaptedMatrix):
        return AdaptedMatrix(_matrix(matrix.base, trained), matrix.adapters, matrix.widths)
    if isinstance(matrix, JoinedMatrix):
        rights = [_right(part) for part in matrix.parts]
        return HostMatrix(mx.concatenate(rights, axis=-1), trained)
    return HostMatrix(_right(matrix), trained)


def _right(matrix: AnyMatrix) -> mx.array:
    """The weight as the right-hand operand [..., I, O], float32."""
    assert not isinstance(matrix, AdaptedMatrix)  # nothing joins one to others
    if isinstance(matrix, PackedMatrix):
        return matrix.unpacked(mx.float32).swapaxes(-1, -2)
    return matrix.right.astype(mx.float32)
