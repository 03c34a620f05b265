"""The table of dtypes, against MLX and numpy."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_diffgemma.machine.dtypes import (
    FLOAT_BYTES,
    FLOAT_NAMES,
    FLOATS,
    ITEM_BYTES,
    dtype_name,
    mlx_dtype,
    numpy_name,
)


@pytest.mark.parametrize("name", FLOAT_NAMES)
def test_a_name_is_mlx_own(name: str) -> None:
    assert dtype_name(mlx_dtype(name)) == name
    assert mlx_dtype(name).size == FLOAT_BYTES[name]


def test_every_float_has_letters() -> None:
    assert sorted(FLOATS.values()) == sorted(FLOAT_NAMES)


@pytest.mark.parametrize("letters", ["BF16", "F16", "F32", "U8", "U32"])
def test_numpy_reads_as_many_bytes(letters: str) -> None:
    assert np.dtype(numpy_name(letters)).itemsize == ITEM_BYTES[letters]


def test_numpy_has_no_bfloat16() -> None:
    bits = np.array([0x3F80], numpy_name("BF16"))
    assert mx.array(bits).view(mx.bfloat16).item() == 1.0
