"""A network by numpy computes what the one in MLX operations computes, gradients included."""

import mlx.core as mx
import numpy as np
import pytest
from gradients import assert_gradients, assert_near, random

from mlx_diffgemma.model import attention
from mlx_diffgemma.model.host import HostMatrix, HostTable
from mlx_diffgemma.model.host_ops import masked

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
    for core in (masked, attention.masked):
        assert_gradients(
            lambda q, k, v, core=core: core(q, k, v, given),
            lambda q, k, v: attended(q, k, v, seen),
            inputs,
        )


def test_attention_of_large_scores_is_finite() -> None:
    q, k, v = (mx.array(random((1, 1, 3, 2), seed, 40.0)) for seed in range(3))
    _, gradients = mx.vjp(lambda *all_: masked(*all_, "causal"), [q, k, v], [mx.ones((1, 1, 3, 2))])
    assert all(np.isfinite(np.array(part)).all() for part in gradients)


def test_the_gradient_of_attention_is_taken_twice() -> None:
    """What the forward pass keeps for the backward one is not used up, nor another call's."""
    inputs = [mx.array(random((1, 2, 3, 2), seed)) for seed in range(3)]
    other = [mx.array(random((1, 2, 3, 2), seed + 9)) for seed in range(3)]

    def both(q: mx.array) -> mx.array:
        first = masked(q, *inputs[1:], "causal")
        return (first * masked(other[0], q, other[2], None)).sum()

    def plain(q: mx.array) -> mx.array:
        first = attention.masked(q, *inputs[1:], "causal")
        return (first * attention.masked(other[0], q, other[2], None)).sum()

    for function in (both, lambda q: both(q) + both(2 * q)):
        twin = plain if function is both else lambda q: plain(q) + plain(2 * q)
        assert_near(mx.grad(function)(inputs[0]), mx.grad(twin)(inputs[0]), 1e-5, "gradient")


@pytest.mark.parametrize("trained", [True, False])
def test_a_table(trained: bool) -> None:
    table = HostTable(mx.array(random((6, 4), 1)), trained)
    exact = random((6, 4), 1).astype(np.float64)
    assert_gradients(table.head, lambda x: x @ exact.T, [random((2, 3, 4), 2)])
    assert_gradients(table.mix, lambda x: x @ exact, [random((2, 3, 6), 2)])


def test_a_trained_table_gets_a_gradient_of_each_of_its_uses() -> None:
    x, ids = random((2, 3, 4), 2), np.array([[1, 5, 1], [0, 2, 2]])

    def used(weight: mx.array) -> mx.array:
        table = HostTable(weight, trained=True)
        looked_up = table.rows(mx.array(ids), mx.float32)
        return table.mix(table.head(mx.array(x))) + looked_up

    def plain(weight: np.ndarray) -> np.ndarray:
        return x @ weight.T @ weight + weight[ids]

    assert_gradients(used, plain, [random((6, 4), 1)])


def test_a_trained_matrix_gets_a_gradient() -> None:
    x, experts = random((3, 1, 4), 1), mx.array([0, 1, 1], mx.uint32)
    flat, stacked = random((4, 5), 2), random((2, 4, 5), 3)

    def by_one(right: mx.array) -> mx.array:
        return HostMatrix(right, True)(mx.array(x))

    def by_two(right: mx.array) -> mx.array:
        return HostMatrix(right, True).gather(mx.array(x), None, experts)

    assert_gradients(by_one, lambda right: x @ right, [flat])
    assert_gradients(by_two, lambda right: x @ right[[0, 1, 1]], [stacked])
