"""Exponentials that are the same bits everywhere: those of one operation after the other."""

import math

import numpy as np

from mlx_diffgemma.share import alike

X = np.concatenate([-np.geomspace(1e-18, 744, 4000), [0.0, -math.log(2) / 2, -1.0, -745.0]])


def one_by_one(x: float) -> float:
    """Python's own additions, products and powers of two, which no compiler joins."""
    power = round(x * alike.LOG2_E)
    rest = (x - power * alike.LN2_HIGH) - power * alike.LN2_LOW
    series = 1.0
    for number in range(alike.DEGREE, 0, -1):
        series = series * rest / number + 1
    return math.ldexp(series, power)


def test_every_bit_follows_from_additions_and_products() -> None:
    assert alike.exp(X).tolist() == [one_by_one(x) for x in X.tolist()]


def test_it_is_the_exponential() -> None:
    normal = X[X > -700]
    away = np.abs(alike.exp(normal) / np.exp(normal) - 1)
    assert away.max() < 1e-15, (away.max(), away.mean())
    assert np.array_equal(alike.exp(np.array([0.0, -np.inf, -800.0])), [1, 0, 0])
    assert np.isnan(alike.exp(np.array([np.nan]))).all()
