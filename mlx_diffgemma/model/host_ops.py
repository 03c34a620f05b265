"""Parts of a layer as numpy computes them in float32, each with its gradient.

For small networks on a CPU, where MLX goes operation by operation (docs/log.md): what stands
between two products is one function here, and its gradient uses what it kept. Their definitions are
those of blocks, experts and matrices in MLX operations; attention is in host_attention.
Axes: H hidden size, I inner size, E experts, K experts a row, N rows.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..machine.device import kept_op
from . import elementwise
from .elementwise import GELU_CUBIC, GELU_LINEAR
from .matrices import Adapter
from .products import expert_bounds, grouped, grouped_own

Array = NDArray[Any]  # float32, where nothing else is said
Arrays = tuple[Array, ...]
FEW_ROWS = 4
"""Rows up to which MLX's operations run: numpy's are waited for one by one, 60 of them a pass."""


def few(x: mx.array) -> bool:
    """True for x [.., H] of so few rows that nobody should wait for numpy."""
    return x.size <= FEW_ROWS * x.shape[-1]


def rms_norm(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    """x [.., H] over its root mean square, times weight [H]; see `elementwise.rms_norm`."""
    if few(x):
        return mx.fast.rms_norm(x, weight, eps)

    def forward(x: Array, *weight: Array) -> tuple[Array, Any]:
        even, inverse = normed(x, eps)

        def backward(given: Array) -> Arrays:
            if not weight:
                return (normed_backward(given, even, inverse),)
            own = _over_rows(given, even)
            return normed_backward(given * weight[0], even, inverse), own

        return even * weight[0] if weight else even, backward

    found: mx.array = kept_op(forward)(x, *([] if weight is None else [weight]))
    return found


def rms_norms(x: mx.array, weights: mx.array, eps: float) -> Sequence[mx.array]:
    """x [.., H] over its root mean square, times each of weights [n, 1, H] -> n times [.., H]."""

    def forward(x: Array, weights: Array) -> tuple[Arrays, Any]:
        even, inverse = normed(x, eps)

        def backward(*given: Array) -> Arrays:
            along = _sum(g * w for g, w in zip(given, weights, strict=True))
            own = [_over_rows(g, even)[None] for g in given]
            return normed_backward(along, even, inverse), np.stack(own)

        return tuple(even * weight for weight in weights), backward

    found: Sequence[mx.array] = kept_op(forward)(x, weights)
    return found


def normed(x: Array, eps: float) -> tuple[Array, Array]:
    """x [.., H] over its root mean square, and one over that [.., 1]."""
    square = np.einsum("...h,...h->...", x, x)[..., None]
    inverse = 1 / np.sqrt(square / np.float32(x.shape[-1]) + np.float32(eps))
    return x * inverse, inverse


def normed_backward(given: Array, even: Array, inverse: Array) -> Array:
    """The gradient of x, from that of `even`, x over its root mean square."""
    along = np.einsum("...h,...h->...", given, even)[..., None]
    gradient: Array = even * (along / np.float32(-given.shape[-1]))
    gradient += given
    gradient *= inverse
    return gradient


def _sum(arrays: Iterable[Array]) -> Array:
    return reduce(np.add, arrays)


def _over_rows(given: Array, even: Array) -> Array:
    """The sum of given * even [.., H] over all but H: the gradient of a norm's weight."""
    size = given.shape[-1]
    own: Array = np.einsum("nh,nh->h", given.reshape(-1, size), even.reshape(-1, size))
    return own


def exponentials(scores: Array) -> Arrays:
    """exp(scores - their maximum) [.., K], in their place, and one over the sums [.., 1]."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    return scores, 1 / (scores @ np.ones((scores.shape[-1], 1), np.float32))


def geglu(joined: mx.array) -> mx.array:
    """gelu_tanh(gate) * up of gate and up side by side [.., 2I] -> [.., I]."""
    found: mx.array = kept_op(_geglu)(joined)
    return found


def gated(gate: mx.array, up: mx.array) -> mx.array:
    """See `elementwise.geglu`."""
    if few(gate):
        return elementwise.geglu(gate, up)
    return geglu(mx.concatenate([gate, up], axis=-1))


def _geglu(joined: Array) -> tuple[Array, Any]:
    """(1 + tanh(y)) / 2 = sigmoid(2 y)."""
    inner = joined.shape[-1] // 2
    gate, up = np.ascontiguousarray(joined[..., :inner]), joined[..., inner:]
    square = gate * gate
    share = square * np.float32(GELU_CUBIC / 2)
    share += np.float32(GELU_LINEAR / 2)
    share *= gate
    np.tanh(share, out=share)
    share += 1
    share *= np.float32(0.5)
    gelu = share * gate

    def backward(given: Array) -> Arrays:
        slope = square * np.float32(3 * GELU_CUBIC)
        slope += np.float32(GELU_LINEAR)
        slope *= gelu
        slope *= 1 - share
        slope += share
        slope *= up
        gradient = np.empty_like(joined)
        np.multiply(given, slope, out=gradient[..., :inner])
        np.multiply(given, gelu, out=gradient[..., inner:])
        return (gradient,)

    return gelu * up, backward


def route(scores: mx.array, scale: mx.array, top_k: int) -> tuple[NDArray[np.intp], mx.array]:
    """See `experts.route`."""
    known = np.asarray(scores)
    experts = np.argsort(-known, axis=-1, kind="stable")[:, :top_k]

    def forward(scores: Array, scale: Array) -> tuple[Array, Any]:
        parts, inverse = exponentials(np.take_along_axis(scores, experts, axis=-1))
        shares, factors = parts * inverse, scale[experts]

        def backward(given: Array) -> Arrays:
            of_shares = given * factors
            along = (of_shares * shares).sum(axis=-1, keepdims=True)
            gradient = np.zeros_like(scores)
            np.put_along_axis(gradient, experts, (of_shares - along) * shares, axis=-1)
            own = np.bincount(experts.ravel(), (given * shares).ravel(), len(scale))
            return gradient, own.astype(np.float32)

        return shares * factors, backward

    return experts, kept_op(forward)(scores, scale)


def mix(
    x: mx.array,
    experts: NDArray[np.intp],
    weights: mx.array,
    gate_up: mx.array,
    down: mx.array,
    trained: bool,
) -> mx.array:
    """See `experts.mix`; gate_up [E, H, 2I] and down [E, I, H] get gradients where `trained`."""
    order = np.argsort(experts.ravel(), kind="stable")
    rows, choices = order // experts.shape[1], np.empty_like(order)
    choices[order] = np.arange(len(order))
    of_slot = choices.reshape(experts.shape).T  # [K, N]
    bounds = expert_bounds(experts.ravel()[order], gate_up.shape[0])

    def forward(x: Array, weights: Array, *given: Array) -> tuple[Array, Any]:
        first, second = given or (np.asarray(gate_up), np.asarray(down))
        own, shares = x[rows], weights.ravel()[order][:, None]
        inner, inner_backward = _geglu(grouped(own, first, bounds))
        outputs = grouped(inner, second, bounds)

        def backward(given: Array) -> Arrays:
            given = given[rows]
            of_weights = np.einsum("nh,nh->n", given, outputs)[choices].reshape(weights.shape)
            given *= shares
            (of_both,) = inner_backward(grouped(given, second.swapaxes(1, 2), bounds))
            of_own = grouped(of_both, first.swapaxes(1, 2), bounds)
            gradients = (_sum(of_own[at] for at in of_slot), of_weights)
            if not trained:
                return gradients
            return *gradients, grouped_own(own, of_both, bounds), grouped_own(inner, given, bounds)

        weighed = outputs * shares
        return _sum(weighed[at] for at in of_slot), backward

    found: mx.array = kept_op(forward)(x, weights, *([gate_up, down] if trained else []))
    return found


def rows(weight: mx.array, ids: mx.array) -> mx.array:
    """The rows `ids` of weight [V, H], with a gradient for the weight."""
    known = np.asarray(ids)

    def forward(weight: Array) -> tuple[Array, Any]:
        def backward(given: Array) -> Arrays:
            order = np.argsort(known.ravel(), kind="stable")
            met, first = np.unique(known.ravel()[order], return_index=True)
            own = np.zeros_like(weight)
            own[met] = np.add.reduceat(given.reshape(-1, given.shape[-1])[order], first)
            return (own,)

        return weight[known], backward

    found: mx.array = kept_op(forward)(weight)
    return found


def adapted(
    right: mx.array, x: mx.array, adapters: Sequence[Adapter | None], widths: Sequence[int]
) -> mx.array:
    """x [.., I] times right [I, O] and its adapters, added to it first; see `AdaptedMatrix`.

    right is no variable. An adapter, None for none, has as many outputs as its one of widths.
    """
    weight = np.asarray(right)
    present = [adapter for adapter in adapters if adapter]
    inputs = _slices([adapter.a.shape[1] for adapter in present])
    outputs = [s for s, own in zip(_slices(widths), adapters, strict=True) if own]
    blocks = list(zip(inputs, outputs, [adapter.scale for adapter in present], strict=True))

    def forward(x: Array, *factors: Array) -> tuple[Array, Any]:
        a, b = (
            np.concatenate(factors[::2], axis=1),
            np.zeros((inputs[-1].stop, sum(widths)), x.dtype),
        )
        for (ranks, columns, scale), part in zip(blocks, factors[1::2], strict=True):
            b[ranks, columns] = scale * part
        merged, rows = weight + a @ b, x.reshape(-1, x.shape[-1])

        def backward(given: Array) -> Arrays:
            own = given.reshape(-1, given.shape[-1])
            of_a, of_b = rows.T @ (own @ b.T), (rows @ a).T @ own
            parts = [(of_a[:, r], scale * of_b[r, columns]) for r, columns, scale in blocks]
            return (own @ merged.T).reshape(x.shape), *(part for pair in parts for part in pair)

        return (rows @ merged).reshape(*x.shape[:-1], -1), backward

    factors = [factor for adapter in present for factor in (adapter.a, adapter.b)]
    found: mx.array = kept_op(forward)(x, *factors)
    return found


def _slices(sizes: Sequence[int]) -> list[slice]:
    """Slices of `sizes`, one behind the other."""
    stops = np.cumsum(sizes).tolist()
    return [slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]
