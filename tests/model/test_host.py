"""A network by numpy computes what the one in MLX operations computes, gradients included."""

from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from gradients import assert_gradients, assert_near, random

import mlx_diffgemma as dg
from mlx_diffgemma.model.blocks import Layer
from mlx_diffgemma.model.host import (
    HostMatrix,
    HostTable,
    host_conditioning,
    host_embedding,
    host_layer,
)


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
