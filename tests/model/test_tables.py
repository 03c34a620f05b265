"""The three ways in which distributions are multiplied by a packed embedding, against float64."""

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close

from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.checkpoint.tensors import StoredWeight
from mlx_diffgemma.kernels.check import as_float64, unpacked_exactly
from mlx_diffgemma.machine.choices import SoftProduct
from mlx_diffgemma.model import tables
from mlx_diffgemma.model.tables import CopiedTable, PackedTable, multiplied_by, table

VOCAB, HIDDEN = 1003, 64
DTYPES = {mx.float32: 2.0**-22, mx.bfloat16: 2.0**-8, mx.float16: 2.0**-11}  # an ulp at 1, or 2


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> mx.Dtype:
    given: mx.Dtype = request.param
    return given


def packed(dtype: mx.Dtype) -> PackedTable:
    weight = np.random.default_rng(1).normal(0, 1, (VOCAB, HIDDEN)).astype(np.float32)
    parts = mx.quantize(mx.array(weight).astype(dtype), 32, 8)
    made = table(StoredWeight(*parts, QuantizationConfig("affine", 8, 32)))
    assert isinstance(made, PackedTable)
    return made


def shares(dtype: mx.Dtype) -> mx.array:
    """Distributions [3, V]: flat, less so, and certain."""
    logits = np.random.default_rng(2).normal(0, 1, (3, VOCAB)) * [[0], [2], [90]]
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return mx.array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)).astype(dtype)


@pytest.mark.parametrize("how", ["slices", "16-bit"])
def test_products_are_within_roundings_of_float64(
    dtype: mx.Dtype, how: SoftProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacked rows and the sum are rounded once each, and so is the product of each slice."""
    monkeypatch.setattr(tables, "SLICE", 96)  # the last one is shorter
    plain, given = packed(dtype), shares(dtype)
    found = multiplied_by(plain, how, dtype).mix(given)
    exact = as_float64(given) @ unpacked_exactly(plain.stored, mx.arange(VOCAB))
    size = np.linalg.norm(exact, axis=1, keepdims=True) / HIDDEN**0.5
    assert (found.shape, found.dtype) == ((3, HIDDEN), dtype)
    assert_close(as_float64(found) / size, exact / size, 8 * DTYPES[dtype], how)


def test_a_slice_left_out_would_show() -> None:
    plain, given = packed(mx.bfloat16), shares(mx.bfloat16)
    whole = as_float64(given) @ unpacked_exactly(plain.stored, mx.arange(VOCAB))
    part = as_float64(given[:, :-43]) @ unpacked_exactly(plain.stored, mx.arange(VOCAB - 43))
    size = np.linalg.norm(whole, axis=1) / HIDDEN**0.5
    assert (np.abs(whole - part).max(axis=1) / size)[:2].min() > 8 * DTYPES[mx.bfloat16]


@pytest.mark.parametrize("how", ["packed", "slices", "16-bit"])
def test_head_lookup_and_what_kernels_read_stay_packed(how: SoftProduct) -> None:
    plain = packed(mx.bfloat16)
    made = multiplied_by(plain, how, mx.bfloat16)
    assert made.stored == plain.stored
    hidden = mx.ones((1, 2, HIDDEN), mx.bfloat16)
    assert mx.array_equal(made.head(hidden), plain.head(hidden)).item()
    assert isinstance(made, CopiedTable) == (how == "16-bit")
