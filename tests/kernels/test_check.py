"""How the distance between a result and the right one is measured."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_diffgemma.kernels.check import (
    Tolerance,
    absolute_error,
    as_float64,
    mismatches,
    row_error,
    worst,
)
from mlx_diffgemma.kernels.trial import Trial


def disagreement(
    results: Sequence[Any], right: Sequence[Any], tolerances: Sequence[Tolerance]
) -> str | None:
    """What a trial with these tolerances says."""
    return Trial(list, list, tolerances).disagreement(results, right)


RIGHT = np.array([[1.0, -4.0], [0.0, 0.0]])


def test_an_error_is_relative_to_the_largest_of_its_row() -> None:
    assert row_error(np.array([[1.0, -3.0], [0.0, 0.0]]), RIGHT) == 0.25
    assert row_error(np.array([[1.0, -4.0], [0.0, 0.5]]), RIGHT) == 0.5  # of zeros: as it is
    assert absolute_error(np.array([[1.0, -3.0], [0.0, 0.5]]), RIGHT) == 1.0


@pytest.mark.parametrize("measure", [row_error, absolute_error])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_infinitely_wrong(measure: object, value: float) -> None:
    got = RIGHT.copy()
    got[1, 1] = value
    tolerance = Tolerance("out", 1e9, "any", measure)  # type: ignore[arg-type]
    assert disagreement([got], [RIGHT], [tolerance]) == "out: error inf, allowed 1e+09"
    assert disagreement([RIGHT], [got], [tolerance]) is not None


def test_equal_infinities_are_equal() -> None:
    infinite = np.array([[np.inf, -np.inf]])
    assert absolute_error(infinite, infinite) == 0.0
    assert absolute_error(-infinite, infinite) == np.inf
    assert row_error(np.array([[-np.inf, 1.0]]), np.array([[-np.inf, 2.0]])) == 0.5


def test_ids_are_counted() -> None:
    got, want = np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 4.0])
    assert mismatches(got, want) == 2
    exact = Tolerance("ids", 0, "integers", mismatches)
    assert disagreement([mx.array([1, 2])], [np.array([1, 2])], [exact]) is None
    assert disagreement([mx.array([1, 3])], [np.array([1, 2])], [exact]) is not None


def test_the_worst_output_is_the_one_furthest_beyond_its_own_limit() -> None:
    loose = Tolerance("loose", 1.0, "r", absolute_error)
    tight = Tolerance("tight", 1e-3, "r", absolute_error)
    got = [RIGHT + 0.5, RIGHT + 2e-3]
    assert worst(got, [RIGHT, RIGHT], [loose, tight]).tolerance is tight
    assert disagreement(got, [RIGHT, RIGHT], [loose, tight]) == "tight: error 0.002, allowed 0.001"
    assert disagreement(got[:1], [RIGHT], [loose]) is None


def test_another_shape_is_wrong_even_where_it_would_broadcast() -> None:
    any_error = Tolerance("out", 1e9, "r")
    assert disagreement([RIGHT[:1]], [RIGHT], [any_error]) is not None
    with pytest.raises(ValueError, match="longer"):
        disagreement([RIGHT], [RIGHT, RIGHT], [any_error, any_error])


def test_empty_results_agree() -> None:
    empty = np.zeros((0, 4))
    assert disagreement([empty], [empty], [Tolerance("out", 0.0, "r")]) is None


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16, mx.uint32, mx.bool_])
def test_every_dtype_is_read(dtype: mx.Dtype) -> None:
    read = as_float64(mx.array([0, 1]).astype(dtype))
    assert (read.dtype, read.tolist()) == (np.float64, [0.0, 1.0])
