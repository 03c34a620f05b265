"""Gradients compared with central differences of the same function in float64."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
STEP = 1e-5  # in float64: the differences are right to about 1e-10 of themselves
TOLERANCE = 3e-6  # of the largest number: a few roundings of float32


def assert_gradients(
    function: Callable[..., mx.array],
    plain: Callable[..., Any],
    inputs: Sequence[NDArray[np.float32]],
    tolerance: float = TOLERANCE,
) -> None:
    """`function` of MLX arrays is `plain` of float64 ones, and so is its gradient by each input."""
    exact = [array.astype(np.float64) for array in inputs]
    want: F64 = np.asarray(plain(*exact))
    given = random(want.shape, 99)
    outputs, found = mx.vjp(function, list(map(mx.array, inputs)), [mx.array(given)])
    assert_near(outputs[0], want, tolerance, "output")
    for number, gradient in enumerate(found):
        differences = central_differences(plain, exact, number, given)
        assert_near(gradient, differences, tolerance, f"gradient by input {number}")


def central_differences(
    plain: Callable[..., Any], inputs: Sequence[F64], number: int, given: NDArray[np.float32]
) -> F64:
    """The gradient of (plain(*inputs) * given).sum() by input `number`, entry by entry."""
    gradient = np.zeros_like(inputs[number])
    moved = [array.copy() for array in inputs]
    for place in np.ndindex(gradient.shape):
        at = inputs[number][place]
        moved[number][place] = at + STEP
        above = np.asarray(plain(*moved))
        moved[number][place] = at - STEP
        gradient[place] = ((above - plain(*moved)) * given).sum() / (2 * STEP)
        moved[number][place] = at
    return gradient


def assert_near(got: Any, want: Any, tolerance: float, what: str) -> None:
    """The largest difference is at most `tolerance` of the largest number that is wanted."""
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
    size, away = np.abs(b).max(initial=0.0), np.abs(a - b)
    assert away.max(initial=0.0) <= tolerance * max(size, 1e-30), (
        f"{what}: largest difference {away.max():.3g}, mean {away.mean():.3g}, expected at most "
        f"{tolerance:.3g} of {size:.3g}"
    )


def random(shape: Sequence[int], seed: int, scale: float = 1.0) -> NDArray[np.float32]:
    """Normal numbers, float32."""
    return (scale * np.random.default_rng(seed).normal(size=tuple(shape))).astype(np.float32)
