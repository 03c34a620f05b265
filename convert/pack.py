"""Conversions between rows of bytes, plain numbers and numbers packed by MLX."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from ..checkpoint.quantization import QuantizationConfig
from ..machine.dtypes import numpy_name
from .read import Block


def to_array(rows: Block, dtype: str) -> mx.array:
    """Rows of bytes as an array [rows, width] of safetensors' `dtype`."""
    array = mx.array(rows.view(numpy_name(dtype)))
    return array.view(mx.bfloat16) if dtype == "BF16" else array


def to_bytes(array: mx.array) -> memoryview:
    """The bytes of an evaluated array."""
    if array.dtype == mx.bfloat16:  # which numpy does not know
        array = array.view(mx.uint16)
    return np.ascontiguousarray(array).data.cast("B")


def mlx_version() -> str:
    """The version of MLX, which decides what packed bits are."""
    version: str = mx.__version__  # type: ignore[attr-defined]
    return version


def pack(numbers: mx.array, packing: QuantizationConfig) -> Sequence[mx.array]:
    """Rows packed by MLX: U32 weight, scales and, in affine mode, biases in the rows' dtype."""
    parts = mx.quantize(numbers, packing.group_size, packing.bits, packing.mode)
    mx.eval(parts)
    return parts
