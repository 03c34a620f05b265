"""Packings that kernels read, and what is said of a checkpoint's before any kernel runs."""

import mlx.core as mx
import pytest
from facts import assert_says

from mlx_diffgemma.checkpoint.quantization import MODES, QuantizationConfig
from mlx_diffgemma.kernels.weights import READ_NAMES, coverage, readable
from mlx_diffgemma.model.matrices import PackedMatrix

PACKINGS = [
    QuantizationConfig(mode, bits, group)
    for mode, (widths, groups) in MODES.items()
    for bits in widths
    for group in groups
]
FOUR = QuantizationConfig("affine", 4, 64).name


@pytest.mark.parametrize("packing", PACKINGS, ids=lambda packing: packing.name)
def test_affine_4_and_8_bits_are_read(packing: QuantizationConfig) -> None:
    stored = PackedMatrix(mx.zeros((1, 1), mx.uint32), mx.zeros((1, 1)), None, packing)
    expected = packing.mode == "affine" and packing.bits in (4, 8)
    assert readable(stored) is (packing.name in READ_NAMES) is expected


def test_coverage_names_parts_and_packings() -> None:
    assert_says(
        coverage({"experts": (FOUR,), "embedding": ("bfloat16",), "router": ("whatever",)}),
        "made for the packing of experts and embedding",
        most=60,
    )
    assert_says(
        coverage({"experts": ("4-bit mxfp4, groups of 32", FOUR), "embedding": (FOUR,)}),
        "made for the packing of embedding",
        "not for experts in 4-bit mxfp4, groups of 32 ... MLX's own operations",
    )
    both = coverage({"experts": ("mxfp4",), "embedding": ("nvfp4",)})
    assert_says(both, "not for experts in mxfp4 and embedding in nvfp4")
    assert "made for" not in both
