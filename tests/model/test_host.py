"""A network by numpy computes what the one in MLX operations computes, gradients included."""

from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from gradients import assert_gradients, assert_near, random

import mlx_diffgemma as dg
from mlx_diffgemma.model import attention
from mlx_diffgemma.model.blocks import Layer
from mlx_diffgemma.model.host import (
    HostMatrix,
    HostTable,
    host_conditioning,
    host_embedding,
    host_layer,
)
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


# --- whole parts


@pytest.fixture(scope="module", params=["dense", "packed"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dg.Model:
    sizes = Sizes("sf", 37, 32, head_dim=8, intermediate_size=32, moe_intermediate_size=32)
    folder = write_checkpoint(tmp_path_factory.mktemp("network"), sizes)
    if request.param == "packed":
        packing = Packing("affine", 4, 32)
        folder = quantise_folder(folder, folder / "packed", packing, published(packing))
    return dg.load_model(folder)


LAYERS = 3e-6  # of the largest number: float32 in another order


@pytest.mark.parametrize("number", [0, 1])
def test_a_layer(model: dg.Model, number: int) -> None:
    layer = model.layers[number]
    experts = replace(layer.after_attention.experts, in_operations=True)
    layer = replace(layer, after_attention=replace(layer.after_attention, experts=experts))
    twins = [causal(one) for one in (layer, host_layer(layer), host_layer(layer, trained=True))]
    x, given = mx.array(random((2, 5, 32), 1)), mx.array(random((2, 5, 32), 2))
    wanted, *others = [mx.vjp(twin, [x], [given]) for twin in twins]
    for outputs, gradients in others:
        assert_near(outputs[0], wanted[0][0], LAYERS, "output")
        assert_near(gradients[0], wanted[1][0], LAYERS, "gradient")


def causal(layer: Layer) -> Callable[[mx.array], mx.array]:
    """The layer in the encoder, x [2, L, H] -> [2, L, H], without a cache."""

    def run(x: mx.array) -> mx.array:
        part = layer.attention
        q, k, v = part.project(mx.fast.rms_norm(x, layer.input_norm, part.eps), 0)
        attended = part.out(part.core(q, k, v, "causal").swapaxes(1, 2).flatten(2))
        flat = [rows.reshape(1, -1, x.shape[-1]) for rows in (x, attended)]
        return layer.after_attention(*flat, layer.encoder_scalar).reshape(x.shape)

    return run


def test_self_conditioning(model: dg.Model) -> None:
    plain = model.self_conditioning
    inputs = [mx.array(random((2, 5, 32), seed)) for seed in (1, 2)]
    twins = [plain, host_conditioning(plain), host_conditioning(plain, trained=True)]
    given = [mx.array(random((2, 5, 32), 3))]
    wanted, *others = [mx.vjp(lambda x, soft, t=t: t(x, soft), inputs, given) for t in twins]
    for outputs, gradients in others:
        assert_near(outputs[0], wanted[0][0], LAYERS, "output")
        for got, want in zip(gradients, wanted[1], strict=True):
            assert_near(got, want, LAYERS, "gradient")


def test_the_embedding(model: dg.Model) -> None:
    plain, host = model.embedding, host_embedding(model.embedding)
    hidden, logits = mx.array(random((1, 3, 32), 1)), mx.array(random((1, 3, 37), 2))
    ids = mx.array([[1, 36, 1]])
    assert_near(host.lookup(ids), plain.lookup(ids), LAYERS, "lookup")
    assert_near(host.head(hidden), plain.head(hidden), LAYERS, "head")
    assert_near(host.soft(logits), plain.soft(logits), LAYERS, "soft embedding")
