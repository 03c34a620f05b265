"""Attention by numpy: it is that in MLX operations, and its gradients are right."""

from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from gradients import assert_gradients, assert_near, random

from mlx_diffgemma.checkpoint.config import LayerConfig
from mlx_diffgemma.model import attention, host_attention
from mlx_diffgemma.model.host_ops import normed
from mlx_diffgemma.model.rope import Rope

EPS = 1e-6
Plain = np.ndarray
LAYER = LayerConfig(True, 4, 1, 10.0, 1.0)


@pytest.mark.parametrize("sliding", [True, False])
@pytest.mark.parametrize("offset", [3, [0, 7]])
def test_heads(sliding: bool, offset: int | list[int]) -> None:
    rope, places = Rope(LAYER), mx.array(offset) if isinstance(offset, list) else offset

    def joined(*parts: mx.array) -> mx.array:
        return mx.concatenate([part.reshape(2, -1) for part in parts], axis=-1)

    def function(x: mx.array, norms: mx.array) -> mx.array:
        return joined(*host_attention.heads(x, norms, 2, rope, places, EPS))

    def in_operations(x: mx.array, norms: mx.array) -> mx.array:
        heads = mx.fast.rms_norm(x.reshape(2, 3, -1, 4), None, EPS).swapaxes(1, 2)
        turned = rope(heads[:, :3] * norms, places)
        return joined(turned[:, :2], turned[:, 2:], heads[:, 3:] if sliding else heads[:, 2:])

    def plain(x: Plain, norms: Plain) -> Plain:
        heads = normed(x.reshape(2, 3, -1, 4), EPS)[0].swapaxes(1, 2)
        at = np.reshape(offset, (-1, 1)) + np.arange(3)
        angles = (at[..., None] / 10.0 ** (np.arange(2) / 2))[:, None]
        cos, sin = np.cos(angles), np.sin(angles)
        first, second = np.split(heads[:, :3] * norms, 2, axis=-1)
        turned = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        values = heads[:, 3:] if sliding else heads[:, 2:]
        parts = turned[:, :2], turned[:, 2:], values
        return np.concatenate([part.reshape(2, -1) for part in parts], axis=-1)

    inputs = [random((2, 3, 16 if sliding else 12), 1), random((3, 1, 4), 2)]
    assert_gradients(function, plain, inputs)
    given = list(map(mx.array, inputs))
    assert_near(function(*given), in_operations(*given), 1e-5, "heads")


BEFORE = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]], bool)


@pytest.mark.parametrize("length", [3, 5])
def test_canvases_behind_prefixes(length: int) -> None:
    """Two of each of two prefixes; the last canvas has nothing before it."""
    seen = np.pad(BEFORE, [(0, 0), (0, length - 3)])
    shapes = (4, 4, 2, 2), (4, 2, 2, 2), (4, 2, 2, 2), (2, 2, length, 2), (2, 2, length, 2)
    inputs = [random(shape, seed) for seed, shape in enumerate(shapes)]

    def plain(q: Plain, k: Plain, v: Plain, old_k: Plain, old_v: Plain) -> Plain:
        keys = np.concatenate([old_k.repeat(2, 0), k], axis=2).repeat(2, 1)
        values = np.concatenate([old_v.repeat(2, 0), v], axis=2).repeat(2, 1)
        mask = np.pad(seen, [(0, 0), (0, 2)], constant_values=True)[:, None, None]
        scores = np.where(mask, q @ keys.swapaxes(-1, -2), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True) @ values

    for behind in (host_attention.behind, attention.behind):
        assert_gradients(lambda *all_, behind=behind: behind(*all_, mx.array(seen)), plain, inputs)


SEEN = random((3, 4), 3) > -0.3
SEEN[:, 0] = True  # a query that sees nothing has no softmax


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
    """Attention with scale 1, keys and values repeated for the heads that share them."""
    shared = q.shape[1] // k.shape[1]
    scores = q @ np.repeat(k, shared, 1).swapaxes(-1, -2)
    if seen is not None:
        scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ np.repeat(v, shared, 1)


MASKS = {
    "all": (None, None),
    "causal": ("causal", np.tri(3, 4, 1, dtype=bool)),
    "of the queries": (mx.array(SEEN), SEEN),
    "of each of the batch": (
        mx.array(np.stack([SEEN, SEEN[::-1]])[:, None]),
        np.stack([SEEN, SEEN[::-1]])[:, None],
    ),
    "of all queries of each": (
        mx.array(SEEN[:2, None, None]),
        SEEN[:2, None, None],
    ),
}


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (2, 1), (4, 2), (2, 2)])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(heads: int, kv_heads: int, mask: str) -> None:
    given, seen = MASKS[mask]
    shapes = (2, heads, 3, 2), (2, kv_heads, 4, 2), (2, kv_heads, 4, 2)
    inputs = [random(shape, seed) for seed, shape in enumerate(shapes)]
    for core in (host_attention.masked, attention.masked):
        assert_gradients(
            lambda q, k, v, core=core: core(q, k, v, given),
            lambda q, k, v: attended(q, k, v, seen),
            inputs,
        )


def test_attention_of_large_scores_is_finite() -> None:
    inputs = [mx.array(random((2, 1, 3, 2), seed, 40.0)) for seed in range(3)]
    function = partial(host_attention.masked, mask="causal")
    _, gradients = mx.vjp(lambda *all_: function(*all_), inputs, [mx.ones((2, 1, 3, 2))])
    assert all(np.isfinite(np.array(part)).all() for part in gradients)


def test_the_gradient_of_attention_is_taken_twice() -> None:
    """What the forward pass keeps for the backward one is not used up, nor another call's."""
    inputs = [mx.array(random((2, 2, 3, 2), seed)) for seed in range(3)]
    other = [mx.array(random((2, 2, 3, 2), seed + 9)) for seed in range(3)]

    def both(q: mx.array) -> mx.array:
        first = host_attention.masked(q, *inputs[1:], "causal")
        return (first * host_attention.masked(other[0], q, other[2], None)).sum()

    def plain(q: mx.array) -> mx.array:
        first = attention.masked(q, *inputs[1:], "causal")
        return (first * attention.masked(other[0], q, other[2], None)).sum()

    for function in (both, lambda q: both(q) + both(2 * q)):
        twin = plain if function is both else lambda q: plain(q) + plain(2 * q)
        assert_near(mx.grad(function)(inputs[0]), mx.grad(twin)(inputs[0]), 1e-5, "gradient")
