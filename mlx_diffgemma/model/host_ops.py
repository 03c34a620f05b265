"""Parts of a layer as numpy computes them in float32, each with its gradient.

For small networks on a CPU, where MLX goes operation by operation (docs/log.md): what stands
between two products is one function here, and its gradient uses what it kept. Their definitions are
those of blocks, attention, rope and experts in MLX operations.
Axes: B examples, M canvases, L positions, C canvas positions, K keys, D head dimension, H hidden
size, I inner size, E experts, N rows.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache, reduce
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.config import LayerConfig
from ..machine.device import kept_op
from . import attention, elementwise
from .elementwise import GELU_CUBIC, GELU_LINEAR
from .matrices import Adapter
from .rope import Rope

Array = NDArray[Any]  # float32, where nothing else is said
Arrays = tuple[Array, ...]
FEW_ROWS = 4
"""Rows up to which MLX's operations run: numpy's are waited for one by one, 60 of them a pass."""


def few(x: mx.array) -> bool:
    """True for x [.., H] of so few rows that nobody should wait for numpy."""
    return x.size <= FEW_ROWS * x.shape[-1]


def rms_norm(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    """x [.., H] over its root mean square, times weight [H]; see `blocks.rms_norm`."""
    if few(x):
        return mx.fast.rms_norm(x, weight, eps)

    def forward(x: Array, *weight: Array) -> tuple[Array, Any]:
        normed, inverse = _normed(x, eps)

        def backward(given: Array) -> Arrays:
            if not weight:
                return (_normed_backward(given, normed, inverse),)
            own = _over_rows(given, normed)
            return _normed_backward(given * weight[0], normed, inverse), own

        return normed * weight[0] if weight else normed, backward

    found: mx.array = kept_op(forward)(x, *([] if weight is None else [weight]))
    return found


def rms_norms(x: mx.array, weights: mx.array, eps: float) -> Sequence[mx.array]:
    """x [.., H] over its root mean square, times each of weights [n, 1, H] -> n times [.., H]."""

    def forward(x: Array, weights: Array) -> tuple[Arrays, Any]:
        normed, inverse = _normed(x, eps)

        def backward(*given: Array) -> Arrays:
            along = _sum(g * w for g, w in zip(given, weights, strict=True))
            own = [_over_rows(g, normed)[None] for g in given]
            return _normed_backward(along, normed, inverse), np.stack(own)

        return tuple(normed * weight for weight in weights), backward

    found: Sequence[mx.array] = kept_op(forward)(x, weights)
    return found


def _normed(x: Array, eps: float) -> tuple[Array, Array]:
    """x [.., H] over its root mean square, and one over that [.., 1]."""
    square = np.einsum("...h,...h->...", x, x)[..., None]
    inverse = 1 / np.sqrt(square / np.float32(x.shape[-1]) + np.float32(eps))
    return x * inverse, inverse


def _normed_backward(given: Array, normed: Array, inverse: Array) -> Array:
    along = np.einsum("...h,...h->...", given, normed)[..., None]
    gradient: Array = normed * (along / np.float32(-given.shape[-1]))
    gradient += given
    gradient *= inverse
    return gradient


def _sum(arrays: Iterable[Array]) -> Array:
    return reduce(np.add, arrays)


def _over_rows(given: Array, normed: Array) -> Array:
    """The sum of given * normed [.., H] over all but H: the gradient of a norm's weight."""
    size = given.shape[-1]
    own: Array = np.einsum("nh,nh->h", given.reshape(-1, size), normed.reshape(-1, size))
    return own


def heads(
    joined: mx.array,
    norms: mx.array,
    num_heads: int,
    rope: Rope,
    offset: int | mx.array,
    eps: float,
) -> Sequence[mx.array]:
    """The product with q, k and v [B, L, ..] -> q, k, v [B, heads, L, D]; see `Attention.project`.

    norms [heads, 1, D]: the weights of q's and k's norms. On a full layer v is k, only normed.
    """
    rotated = norms.shape[0]

    def forward(joined: Array, norms: Array) -> tuple[Arrays, Any]:
        D = rope.head_dim
        cos, sin = _turns(rope.layer, np.asarray(offset), joined.shape[1])
        split = joined.reshape(*joined.shape[:2], -1, D).swapaxes(1, 2)
        normed, inverse = _normed(np.ascontiguousarray(split), eps)
        both = _turned(normed[:, :rotated] * norms, cos, sin)
        values = slice(rotated, None) if split.shape[1] > rotated else slice(num_heads, None)

        def backward(of_queries: Array, of_keys: Array, of_values: Array) -> Arrays:
            of_both = _turned(np.concatenate([of_queries, of_keys], axis=1), cos, -sin)
            own = np.einsum("bhld,bhld->hd", of_both, normed[:, :rotated])[:, None]
            given = np.zeros_like(normed)
            np.multiply(of_both, norms, out=given[:, :rotated])
            given[:, values] += of_values
            gradient = _normed_backward(given, normed, inverse)
            return gradient.swapaxes(1, 2).reshape(joined.shape), own

        return (both[:, :num_heads], both[:, num_heads:], normed[:, values]), backward

    found: Sequence[mx.array] = kept_op(forward)(joined, norms)
    return found


def _turned(x: Array, cos: Array, sin: Array) -> Array:
    """Pairs (d, d + D/2) of x [B, heads, L, D], turned; sin is negative for the first of a pair."""
    half = x.shape[-1] // 2
    crossed = np.concatenate([x[..., half:], x[..., :half]], axis=-1)
    crossed *= sin
    crossed += x * cos
    return crossed


def _turns(layer: LayerConfig, offset: Array, length: int) -> Arrays:
    """Cosines and sines [B or 1, 1, L, D] of positions offset, offset + 1, ...; see `_turned`."""
    places = offset.reshape(-1, 1) + np.arange(length)
    table = _turn_table(layer, 1 << int(places.max()).bit_length())
    cos, sin = (part[places][:, None] for part in table)
    return cos, sin


@lru_cache(maxsize=16)
def _turn_table(layer: LayerConfig, length: int) -> Arrays:
    """Cosines and sines [length, D]."""
    angles = np.arange(length)[:, None] / np.asarray(Rope(layer).periods, np.float64)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return np.concatenate([cos, cos], axis=-1), np.concatenate([-sin, sin], axis=-1)


def masked(
    queries: mx.array, keys: mx.array, values: mx.array, mask: mx.array | str | None
) -> mx.array:
    """See `attention.masked`."""
    if queries.shape[0] * queries.shape[2] <= FEW_ROWS:
        return attention.masked(queries, keys, values, mask)
    grouped = (keys.shape[1], queries.shape[1] // keys.shape[1])
    added = _added(mask, queries.shape[2], keys.shape[2])

    def forward(q: Array, k: Array, v: Array) -> tuple[Array, Any]:
        shape = (q.shape[0], *grouped)
        q = q.reshape(*shape, *q.shape[2:])
        scores = q @ k[:, :, None].swapaxes(-1, -2)
        if added is not None:
            scores += added
        parts, inverse = _exponentials(scores)
        out = (parts @ v[:, :, None]) * inverse

        def backward(given: Array) -> Arrays:
            given = given.reshape(out.shape) * inverse
            of_scores = given @ v[:, :, None].swapaxes(-1, -2)
            of_scores -= np.einsum("...d,...d->...", given, out)[..., None]
            of_scores *= parts
            of_queries = (of_scores @ k[:, :, None]).reshape(queries.shape)
            of_keys = (of_scores.swapaxes(-1, -2) @ q).sum(axis=2)
            return of_queries, of_keys, (parts.swapaxes(-1, -2) @ given).sum(axis=2)

        return out.reshape(queries.shape), backward

    found: mx.array = kept_op(forward)(queries, keys, values)
    return found


def behind(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    before_keys: mx.array,
    before_values: mx.array,
    seen: mx.array,
) -> mx.array:
    """See `Attention.behind`. The canvases of an example are one product with its prefix."""
    canvases, num_heads, C, D = queries.shape
    examples, kv_heads = before_keys.shape[:2]
    shape = (examples, canvases // examples, kv_heads, num_heads // kv_heads * C, D)
    longest = int(np.flatnonzero(np.any(np.asarray(seen), axis=0)).max(initial=-1)) + 1
    added = np.where(np.asarray(seen)[:, :longest], np.float32(0), np.float32(-np.inf))
    added = added.reshape(*shape[:2], 1, 1, longest).swapaxes(1, 2)

    def by_head(x: Array) -> Array:
        """[M, heads, C, D] -> [B, kv heads, each, rows, D]"""
        return x.reshape(*shape[:3], -1, D).swapaxes(1, 2)

    def by_canvas(x: Array, like: mx.array) -> Array:
        return x.swapaxes(1, 2).reshape(like.shape)

    def joined(x: Array) -> Array:
        """[B, kv heads, each, rows, ..] -> [B, kv heads, each * rows, ..]"""
        return x.reshape(*x.shape[:2], -1, x.shape[-1])

    def forward(q: Array, k: Array, v: Array, old_k: Array, old_v: Array) -> tuple[Array, Any]:
        q, k, v = np.ascontiguousarray(by_head(q)), by_head(k), by_head(v)
        old_k, old_v = old_k[:, :, :longest], old_v[:, :, :longest]
        scores = np.empty((*q.shape[:-1], longest + C), np.float32)
        old, own = scores[..., :longest], scores[..., longest:]
        np.add((joined(q) @ old_k.swapaxes(-1, -2)).reshape(old.shape), added, out=old)
        np.matmul(q, k.swapaxes(-1, -2), out=own)
        parts, inverse = _exponentials(scores)
        of_old, of_own = parts[..., :longest], parts[..., longest:]
        out = (joined(of_old) @ old_v).reshape(q.shape)
        out += of_own @ v
        out *= inverse

        def backward(given: Array) -> Arrays:
            given = by_head(given) * inverse
            gained = np.empty_like(parts)
            old, own = gained[..., :longest], gained[..., longest:]
            old[...] = (joined(given) @ old_v.swapaxes(-1, -2)).reshape(old.shape)
            np.matmul(given, v.swapaxes(-1, -2), out=own)
            gained -= np.einsum("...d,...d->...", given, out)[..., None]
            gained *= parts
            of_queries = (joined(old) @ old_k).reshape(q.shape) + own @ k
            of_before = [np.zeros(before_keys.shape, np.float32) for _ in range(2)]
            of_before[0][:, :, :longest] = joined(old).swapaxes(-1, -2) @ joined(q)
            of_before[1][:, :, :longest] = joined(of_old).swapaxes(-1, -2) @ joined(given)
            return (
                by_canvas(of_queries, queries),
                by_canvas(own.swapaxes(-1, -2) @ q, keys),
                by_canvas(of_own.swapaxes(-1, -2) @ given, values),
                *of_before,
            )

        return by_canvas(out, queries), backward

    found: mx.array = kept_op(forward)(queries, keys, values, before_keys, before_values)
    return found


def _exponentials(scores: Array) -> Arrays:
    """exp(scores - their maximum) [.., K], in their place, and one over the sums [.., 1]."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    return scores, 1 / (scores @ np.ones((scores.shape[-1], 1), np.float32))


def _added(mask: mx.array | str | None, length: int, count: int) -> Array | None:
    """What is added to scores [B, kv, shared, L, K]: 0 where a key is seen, -inf elsewhere."""
    if mask is None:
        return None
    seen = np.tri(length, count, count - length) if isinstance(mask, str) else np.asarray(mask)
    added = np.where(seen, np.float32(0), np.float32(-np.inf))
    return added[:, :, None] if added.ndim == 4 else added


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
        parts, inverse = _exponentials(np.take_along_axis(scores, experts, axis=-1))
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


def expert_bounds(experts: NDArray[np.integer[Any]], count: int) -> list[tuple[int, int]]:
    """The first row of each expert, and the one behind its last, of experts that ascend."""
    ends = np.searchsorted(experts, np.arange(count + 1))
    return list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))


def grouped(x: Array, weight: Array, bounds: list[tuple[int, int]]) -> Array:
    """Rows x [N, I] of each expert times its matrix of weight [E, I, O] -> [N, O]."""
    out = np.empty((len(x), weight.shape[-1]), np.float32)
    for matrix, (a, b) in zip(weight, bounds, strict=True):
        np.matmul(x[a:b], matrix, out=out[a:b])
    return out


def grouped_own(x: Array, given: Array, bounds: list[tuple[int, int]]) -> Array:
    """The gradients [E, I, O] of the matrices of `grouped`, from rows x [N, I] and given [N, O]."""
    return np.stack([x[a:b].T @ given[a:b] for a, b in bounds])


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
