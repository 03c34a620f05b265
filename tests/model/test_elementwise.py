"""Functions of single values have the gradients of what they compute."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
from gradients import assert_gradients, random

from mlx_diffgemma.model import elementwise, host_ops


def gelu(gate: np.ndarray) -> np.ndarray:
    inner = np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)
    return 0.5 * gate * (1 + np.tanh(inner))


def test_exp_and_tanh() -> None:
    assert_gradients(elementwise.exp, np.exp, [random((4, 5), 1)])
    assert_gradients(elementwise.tanh, np.tanh, [random((4, 5), 1)])


def test_logsumexp() -> None:
    def plain(x: np.ndarray) -> np.ndarray:
        return np.log(np.exp(x).sum(-1))

    assert_gradients(elementwise.logsumexp, plain, [random((3, 5), 1, 3.0)])


@pytest.mark.parametrize("cap", [30.0, 1.5])
def test_softcap(cap: float) -> None:
    def plain(x: np.ndarray) -> np.ndarray:
        return cap * np.tanh(x / cap)

    assert_gradients(lambda x: elementwise.softcap(x, cap), plain, [random((4, 5), 1, 3.0)])


@pytest.mark.parametrize("geglu", [elementwise.geglu, host_ops.gated], ids=["mlx", "numpy"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_geglu(geglu: Callable[..., mx.array], scale: float) -> None:
    inputs = [random((5, 6), 1, scale), random((5, 6), 2, scale)]
    assert_gradients(geglu, lambda gate, up: gelu(gate) * up, inputs)


@pytest.mark.parametrize("geglu", [elementwise.geglu, host_ops.gated], ids=["mlx", "numpy"])
def test_geglu_far_from_0_is_finite(geglu: Callable[..., mx.array]) -> None:
    gate, up = mx.array([[-200.0, -20.0, 20.0, 200.0]] * 5), mx.ones((5, 4))
    output, gradients = mx.vjp(lambda *both: geglu(*both), [gate, up], [mx.ones((5, 4))])
    assert np.array_equal(np.array(output[0]), [[0, 0, 20, 200]] * 5)
    assert np.array_equal(np.array(gradients[0]), [[0, 0, 1, 1]] * 5)
    assert np.array_equal(np.array(gradients[1]), [[0, 0, 20, 200]] * 5)
