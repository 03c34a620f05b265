"""Attention as numpy computes it in float32, with gradients; see host_ops.

Axes: B examples, M canvases, L positions, C canvas positions, K keys, D head dimension.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np

from ..checkpoint.config import LayerConfig
from ..machine.device import kept_op
from . import attention
from .host_ops import FEW_ROWS, Array, Arrays, exponentials, normed, normed_backward
from .rope import Rope


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
        even, inverse = normed(np.ascontiguousarray(split), eps)
        both = _turned(even[:, :rotated] * norms, cos, sin)
        values = slice(rotated, None) if split.shape[1] > rotated else slice(num_heads, None)

        def backward(of_queries: Array, of_keys: Array, of_values: Array) -> Arrays:
            of_both = _turned(np.concatenate([of_queries, of_keys], axis=1), cos, -sin)
            own = np.einsum("bhld,bhld->hd", of_both, even[:, :rotated])[:, None]
            given = np.zeros_like(even)
            np.multiply(of_both, norms, out=given[:, :rotated])
            given[:, values] += of_values
            gradient = normed_backward(given, even, inverse)
            return gradient.swapaxes(1, 2).reshape(joined.shape), own

        return (both[:, :num_heads], both[:, num_heads:], even[:, values]), backward

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
        parts, inverse = exponentials(scores)
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
    """See `attention.behind`. The canvases of an example are one product with its prefix."""
    prefixes = Prefixes(queries, before_keys, seen)

    def forward(*arrays: Array) -> tuple[Array, Any]:
        q, k, v = map(prefixes.by_head, arrays[:3])
        old_k, old_v = (part[:, :, : prefixes.longest] for part in arrays[3:])
        scores = _times(q, old_k, k)
        scores[..., : prefixes.longest] += prefixes.added
        parts, inverse = exponentials(scores)
        out = _mixed(parts, old_v, v) * inverse

        def backward(given: Array) -> Arrays:
            given = prefixes.by_head(given) * inverse
            of_scores = _times(given, old_v, v)
            of_scores -= np.einsum("...d,...d->...", given, out)[..., None]
            of_scores *= parts
            of_old_k, of_k = _spread(of_scores, q, prefixes.longest)
            of_old_v, of_v = _spread(parts, given, prefixes.longest)
            own = (_mixed(of_scores, old_k, k), of_k, of_v)
            return *map(prefixes.by_canvas, own), *map(prefixes.whole, (of_old_k, of_old_v))

        return prefixes.by_canvas(out), backward

    found: mx.array = kept_op(forward)(queries, keys, values, before_keys, before_values)
    return found


class Prefixes:
    """Canvases by the example whose prefix they see: B examples, `each` canvases of each.

    longest: positions of the prefixes that a canvas sees; added [B, 1, each, 1, longest]: 0 for
    those, -inf for others.
    """

    def __init__(self, queries: mx.array, before_keys: mx.array, seen: mx.array) -> None:
        self.shape, (self.examples, self.kv_heads, self.length, _) = (
            queries.shape,
            before_keys.shape,
        )
        known = np.asarray(seen)
        self.longest = int(np.flatnonzero(np.any(known, axis=0)).max(initial=-1)) + 1
        added = np.where(known[:, : self.longest], np.float32(0), np.float32(-np.inf))
        self.added = added.reshape(self.examples, 1, -1, 1, self.longest)

    def by_head(self, x: Array) -> Array:
        """[M, heads, C, D] -> [B, kv heads, each, rows, D], rows of all heads that share a key."""
        M, heads, C, D = x.shape
        rows = heads // self.kv_heads * C
        grouped = x.reshape(self.examples, M // self.examples, self.kv_heads, rows, D)
        return np.ascontiguousarray(grouped.swapaxes(1, 2))

    def by_canvas(self, x: Array) -> Array:
        """The inverse of `by_head`."""
        M, _, C, D = self.shape
        return x.swapaxes(1, 2).reshape(M, -1, C, D)

    def whole(self, x: Array) -> Array:
        """[B, kv heads, longest, D] with zeros behind, for all positions."""
        return np.pad(x, [(0, 0), (0, 0), (0, self.length - self.longest), (0, 0)])


def _times(x: Array, old: Array, own: Array) -> Array:
    """Products of rows x [B, kv heads, each, rows, D] with those of the prefix and of the canvas.

    old [B, kv heads, longest, D], own [B, kv heads, each, C, D] -> [B, kv heads, each, rows, K].
    """
    longest = old.shape[2]
    out = np.empty((*x.shape[:-1], longest + own.shape[3]), np.float32)
    before = _joined(x) @ old.swapaxes(-1, -2)
    out[..., :longest] = before.reshape(*x.shape[:-1], longest)
    np.matmul(x, own.swapaxes(-1, -2), out=out[..., longest:])
    return out


def _mixed(parts: Array, old: Array, own: Array) -> Array:
    """Sums of the rows of prefix and canvas, weighed by parts [.., K] -> [.., D]; see `_times`."""
    longest = old.shape[2]
    out = (_joined(parts[..., :longest]) @ old).reshape(*parts.shape[:-1], -1)
    out += parts[..., longest:] @ own
    return out


def _spread(parts: Array, x: Array, longest: int) -> tuple[Array, Array]:
    """Sums of x over its rows, weighed by parts, for each row of prefix and canvas."""
    old = _joined(parts[..., :longest]).swapaxes(-1, -2) @ _joined(x)
    return old, parts[..., longest:].swapaxes(-1, -2) @ x


def _joined(x: Array) -> Array:
    """[B, kv heads, each, rows, ..] -> [B, kv heads, each * rows, ..]."""
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def _added(mask: mx.array | str | None, length: int, count: int) -> Array | None:
    """Numbers to add to scores [B, kv, shared, L, K]: 0 where a key is seen, -inf elsewhere."""
    if mask is None:
        return None
    seen = np.tri(length, count, count - length) if isinstance(mask, str) else np.asarray(mask)
    added = np.where(seen, np.float32(0), np.float32(-np.inf))
    return added[:, :, None] if added.ndim == 4 else added
