"""Matrix products by numpy have the gradients of what they compute."""

import mlx.core as mx
import numpy as np
import pytest
from gradients import assert_gradients, random

from mlx_diffgemma.model.products import gather, gather_by, multiply, multiply_by

EXPERTS = mx.array([0, 0, 2, 2, 2], mx.uint32)  # ascending; the experts 1 and 3 get no row


def grouped(x: np.ndarray, right: np.ndarray) -> np.ndarray:
    return x @ right[np.array(EXPERTS)]


@pytest.mark.parametrize("shape", [(3, 5), (1, 3, 5), (2, 2, 3, 5), (1, 5), (0, 5)])
def test_a_product(shape: tuple[int, ...]) -> None:
    x, right = random(shape, 1), random((5, 4), 2)
    assert_gradients(multiply, np.matmul, [x, right])
    assert_gradients(multiply_by(mx.array(right)), lambda x: x @ right.astype(float), [x])


def test_a_product_with_a_transposed_weight() -> None:
    stored = random((4, 5), 2)
    by = multiply_by(mx.array(stored).swapaxes(0, 1))
    assert_gradients(by, lambda x: x @ stored.T.astype(float), [random((3, 5), 1)])
    assert_gradients(
        lambda x, w: multiply(x, w.T), lambda x, w: x @ w.T, [random((3, 5), 1), stored]
    )


def test_rows_times_the_matrix_of_their_expert() -> None:
    x, right = random((5, 1, 3), 1), random((4, 3, 2), 2)
    assert_gradients(lambda x, right: gather(x, right, EXPERTS), grouped, [x, right])
    by = gather_by(mx.array(right))
    assert_gradients(lambda x: by(x, EXPERTS), lambda x: grouped(x, right.astype(float)), [x])


def test_experts_without_rows_get_a_gradient_of_0() -> None:
    def summed(right: mx.array) -> mx.array:
        return gather(mx.array(random((5, 1, 3), 1)), right, EXPERTS).sum()

    gradient = np.array(mx.grad(summed)(mx.array(random((4, 3, 2), 2))))
    assert [bool(own.any()) for own in gradient] == [True, False, True, False]


def test_no_rows_at_all() -> None:
    none = mx.zeros((0, 1, 3)), mx.zeros((0,), mx.uint32)
    assert gather(none[0], mx.ones((4, 3, 2)), none[1]).shape == (0, 1, 2)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_products_in_16_bits_are_mlxs(dtype: mx.Dtype) -> None:
    x, right = mx.array(random((3, 5), 1)).astype(dtype), mx.array(random((5, 4), 2)).astype(dtype)
    gradients = mx.grad(lambda x, right: multiply(x, right).sum(), argnums=(0, 1))(x, right)
    assert [part.dtype for part in gradients] == [dtype, dtype]
    assert mx.array_equal(multiply(x, right), x @ right)
