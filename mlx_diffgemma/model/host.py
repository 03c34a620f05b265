"""A network computed by numpy: float32 on the CPU, evaluated operation by operation.

For small networks, where MLX's products on Linux take 35 times as long (docs/log.md). Packed
weights are unpacked; all of it can be differentiated.
Axes: B batch, L queries, K keys, D head dimension, I inputs, O outputs, E experts, N rows.
"""

from copy import copy
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..machine.device import numpy_op
from ..machine.dtypes import dtype_name
from .attention import Mask
from .attention import masked as masked_by_mlx
from .blocks import GatedMLP, Layer, SelfConditioning
from .elementwise import GELU_CUBIC, GELU_LINEAR
from .elementwise import geglu as geglu_by_mlx
from .embedding import DenseTable, Embedding, PackedTable
from .matrices import AdaptedMatrix, AnyMatrix, DenseMatrix, JoinedMatrix, PackedMatrix
from .products import gather, gather_by, multiply, multiply_by
from .text import Model

Array = NDArray[Any]  # float32
FEW_ROWS = 4
"""Rows up to which MLX's operations run: numpy's are waited for one by one, 60 of them a pass."""


class HostMatrix(DenseMatrix):
    """A float32 weight, multiplied by numpy; `trained`: it is a variable, and gets a gradient."""

    sorts_from: float = FEW_ROWS + 1

    def __init__(self, right: mx.array, trained: bool) -> None:
        self.right, self.outputs, self.trained = right, right.shape[-1], trained
        self._by = None if trained or right.ndim == 3 else multiply_by(right)
        self._gather_by = None if trained or right.ndim == 2 else gather_by(right)

    def __call__(self, x: mx.array) -> mx.array:
        if x.size <= FEW_ROWS * x.shape[-1]:
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
        right = weight.swapaxes(0, 1)
        self._head, self._mix = HostMatrix(right, trained), HostMatrix(weight, trained)

    def head(self, hidden: mx.array) -> mx.array:
        """[..., C, H] -> [..., C, V]."""
        return self._head(hidden)

    def mix(self, weights: mx.array) -> mx.array:
        """[..., C, V] -> [..., C, H]."""
        return self._mix(weights)


def host_embedding(embedding: Embedding, *, trained: bool = False) -> Embedding:
    """The embedding with a table that numpy multiplies by."""
    table = embedding.table
    weight = table.unpacked(mx.float32) if isinstance(table, PackedTable) else table.weight
    made = HostTable(weight.astype(mx.float32), trained)
    return Embedding(made, embedding.vocab_size, embedding.hidden_size, mx.float32)


def host_conditioning(conditioning: SelfConditioning, *, trained: bool = False) -> SelfConditioning:
    """Self-conditioning whose products numpy computes."""
    return replace(conditioning, mlp=_mlp(conditioning.mlp, trained))


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
    )
    made.find_non_finite = model.find_non_finite
    return made


def host_layer(layer: Layer, *, trained: bool = False) -> Layer:
    """A layer whose products, activations and attention numpy computes."""
    attention = copy(layer.attention)
    attention.qkv, attention.out = (_matrix(m, trained) for m in (attention.qkv, attention.out))
    attention.core = masked
    after = layer.after_attention
    router, experts = copy(after.router), after.experts
    router.projection = _matrix(router.projection, trained)
    gate_up, down = _matrix(experts.gate_up, trained), _matrix(experts.down, trained)
    experts = replace(experts, gate_up=gate_up, down=down, activation=geglu)
    after = replace(after, mlp=_mlp(after.mlp, trained), router=router, experts=experts)
    return replace(layer, attention=attention, after_attention=after)


def _mlp(mlp: GatedMLP, trained: bool) -> GatedMLP:
    return GatedMLP(_matrix(mlp.gate_up, trained), _matrix(mlp.down, trained), geglu)


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


def masked(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    """See `attention.masked`."""
    if queries.shape[0] * queries.shape[2] <= FEW_ROWS:
        return masked_by_mlx(queries, keys, values, mask)
    heads, kv_heads = queries.shape[1], keys.shape[1]
    shared = heads // kv_heads
    added = _added(mask, queries.shape[2], keys.shape[2])
    shares: Array = np.empty(0, np.float32)

    def forward(q: Array, k: Array, v: Array) -> Array:
        nonlocal shares
        grouped = q.reshape(q.shape[0], kv_heads, shared, *q.shape[2:])
        scores = grouped @ k[:, :, None].swapaxes(-1, -2)
        if added is not None:
            scores += added
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        shares = scores
        return (scores @ v[:, :, None]).reshape(*q.shape[:3], v.shape[-1])

    def backward(given: Array, out: Array, q: Array, k: Array, v: Array) -> tuple[Array, ...]:
        shape = (q.shape[0], kv_heads, shared)
        grouped, gained = (a.reshape(*shape, *a.shape[2:]) for a in (q, given))
        of_values = (shares.swapaxes(-1, -2) @ gained).sum(axis=2)
        of_scores = gained @ v[:, :, None].swapaxes(-1, -2)
        along = (given * out).sum(axis=-1).reshape(*shape, -1, 1)
        of_scores -= along
        of_scores *= shares
        of_queries = (of_scores @ k[:, :, None]).reshape(q.shape)
        of_keys = (of_scores.swapaxes(-1, -2) @ grouped).sum(axis=2)
        return of_queries, of_keys, of_values

    return numpy_op(forward, backward)(queries, keys, values)


def _added(mask: Mask, length: int, count: int) -> Array | None:
    """What is added to scores [B, kv, shared, L, K]: 0 where a key is seen, -inf elsewhere."""
    if mask is None:
        return None
    seen = np.tri(length, count, count - length) if isinstance(mask, str) else np.asarray(mask)
    added = np.where(seen, np.float32(0), np.float32(-np.inf))
    return added[:, :, None] if added.ndim == 4 else added


def _tanh_part(gate: Array) -> tuple[Array, Array]:
    """gelu_tanh(gate) / gate and the square of gate; (1 + tanh(y)) / 2 = sigmoid(2 y)."""
    square = gate * gate
    inner = gate * (square * np.float32(GELU_CUBIC) + np.float32(GELU_LINEAR))
    return 0.5 * (1 + np.tanh(0.5 * inner)), square


def _geglu(gate: Array, up: Array) -> Array:
    return gate * _tanh_part(gate)[0] * up


def _geglu_backward(given: Array, out: Array, gate: Array, up: Array) -> tuple[Array, Array]:
    share, square = _tanh_part(gate)
    slope = share * (1 - share) * gate * (3 * np.float32(GELU_CUBIC) * square + GELU_LINEAR)
    return given * up * (share + slope), given * gate * share


_geglu_by_numpy = numpy_op(_geglu, _geglu_backward)


def geglu(gate: mx.array, up: mx.array) -> mx.array:
    """gelu_tanh(gate) * up."""
    few = gate.size <= FEW_ROWS * gate.shape[-1]
    return geglu_by_mlx(gate, up) if few else _geglu_by_numpy(gate, up)
