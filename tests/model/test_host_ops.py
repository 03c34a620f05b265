"""Parts of a layer by numpy: they are those in MLX operations, and their gradients are right."""

from functools import partial

import mlx.core as mx
import numpy as np
from gradients import assert_gradients, assert_near, random

from mlx_diffgemma.model import host_ops
from mlx_diffgemma.model.experts import Routing, mix, route
from mlx_diffgemma.model.matrices import AdaptedMatrix, Adapter, DenseMatrix

EPS = 1e-6
Plain = np.ndarray


def normed(x: Plain) -> Plain:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)


# --- norms


def test_a_norm() -> None:
    x, weight = random((2, 3, 4), 1), random((4,), 2)
    weighed = partial(host_ops.rms_norm, eps=EPS)
    assert_gradients(weighed, lambda x, weight: normed(x) * weight, [x, weight])
    assert_gradients(lambda x: host_ops.rms_norm(x, None, EPS), normed, [x])


def test_norms_of_one_input() -> None:
    def function(x: mx.array, weights: mx.array) -> mx.array:
        return mx.stack(list(host_ops.rms_norms(x, weights, EPS)))

    def plain(x: Plain, weights: Plain) -> Plain:
        return normed(x) * weights[:, None]

    assert_gradients(function, plain, [random((1, 6, 4), 1), random((3, 1, 4), 2)])


# --- the rest of a layer


def test_gate_and_up_side_by_side() -> None:
    def plain(joined: Plain) -> Plain:
        gate, up = np.split(joined, 2, axis=-1)
        inner = np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)
        return 0.5 * gate * (1 + np.tanh(inner)) * up

    assert_gradients(host_ops.geglu, plain, [random((5, 6), 1, 2.0)])
    gate, up = (mx.array(random((5, 3), seed)) for seed in (2, 3))
    beside = host_ops.geglu(mx.concatenate([gate, up], axis=-1))
    assert_near(host_ops.gated(gate, up), beside, 1e-6, "gate and up apart")


SCORES, SCALE = random((6, 4), 1), random((4,), 2) + 2
SCORES[0] = 1.0  # a tie goes to the lowest


def test_weights_of_experts() -> None:
    experts, weights = host_ops.route(mx.array(SCORES), mx.array(SCALE), 2)
    want_experts, want = route(Routing(mx.array(SCORES), mx.array(SCALE), 2))
    assert experts.tolist() == want_experts.tolist()
    assert_near(weights, want, 1e-6, "weights")

    def plain(scores: Plain, scale: Plain) -> Plain:
        chosen = np.exp(np.take_along_axis(scores, experts, axis=-1))
        return chosen / chosen.sum(-1, keepdims=True) * scale[experts]

    assert_gradients(lambda s, f: host_ops.route(s, f, 2)[1], plain, [SCORES, SCALE])


def test_a_mixture_of_experts() -> None:
    """One of the four experts has no row."""
    experts = np.array([[0, 1], [3, 0], [1, 0], [0, 3], [1, 3]])
    x, weights = random((5, 4), 1), random((5, 2), 2)
    first, second = random((4, 4, 6), 3), random((4, 3, 4), 4)

    def function(x: mx.array, weights: mx.array, *given: mx.array) -> mx.array:
        rights = given or tuple(map(mx.array, (first, second)))
        return host_ops.mix(x, experts, weights, *rights, trained=bool(given))

    def plain(x: mx.array, weights: mx.array, first: mx.array, second: mx.array) -> mx.array:
        matrices = [DenseMatrix(part.swapaxes(1, 2)) for part in (first, second)]
        return mix(x, mx.array(experts, mx.uint32), weights, *matrices)

    inputs = list(map(mx.array, (x, weights, first, second)))
    given = [mx.array(random((5, 4), 9))]
    (want,), gradients = mx.vjp(plain, inputs, given)
    for count in (4, 2):
        (got,), found = mx.vjp(function, inputs[:count], given)
        assert_near(got, want, 3e-6, "output")
        for number, gradient in enumerate(found):
            assert_near(gradient, gradients[number], 3e-6, f"gradient by input {number}")


def test_rows_of_a_table() -> None:
    ids = np.array([[3, 0, 3], [3, 2, 0]])
    taken = partial(host_ops.rows, ids=mx.array(ids))
    assert_gradients(lambda weight: taken(weight), lambda weight: weight[ids], [random((5, 4), 1)])


def test_a_product_with_adapters() -> None:
    """Adapters of two ranks on the first and the last of three parts."""
    right, shapes = random((4, 6), 1), [(4, 2), (2, 2), (4, 3), (3, 1)]
    inputs = [random((5, 4), 2), *(random(shape, seed) for seed, shape in enumerate(shapes, 3))]
    widths = [2, 3, 1]

    def adapters(*factors: mx.array) -> list[Adapter | None]:
        return [Adapter(*factors[:2], 2.0), None, Adapter(*factors[2:], 0.5)]

    def function(x: mx.array, *factors: mx.array) -> mx.array:
        return host_ops.adapted(mx.array(right), x, adapters(*factors), widths)

    def plain(x: Plain, a: Plain, b: Plain, c: Plain, d: Plain) -> Plain:
        out = x @ right.astype(np.float64)
        out[:, :2] += 2.0 * (x @ a @ b)
        out[:, 5:] += 0.5 * (x @ c @ d)
        return out

    assert_gradients(function, plain, inputs)
    x, *factors = map(mx.array, inputs)
    matrix = AdaptedMatrix(DenseMatrix(mx.array(right.T)), adapters(*factors), widths)
    assert_near(function(x, *factors), matrix(x), 1e-6, "product")
