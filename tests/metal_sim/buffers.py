"""The buffers of a kernel: MLX's arrays as bytes, and bytes as MLX's arrays."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from .errors import SimError

# An array's bits as unsigned integers, which every dtype has, by the bytes of an element.
UNSIGNED = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}


@dataclass(frozen=True)
class Buffer:
    """A buffer: its name among the kernel's parameters, its bytes, whether the kernel writes it.

    copied_bytes: what MLX would copy to make it, in bytes. in_device: not in constant memory.
    """

    name: str
    values: NDArray[Any]
    written: bool = False
    copied_bytes: int = 0
    in_device: bool = True


def input_buffers(name: str, array: mx.array, *, contiguous: bool) -> list[Buffer]:
    """An input, copied where it has to be contiguous and is not; its shape, strides and rank."""
    values = bits(array)
    copied = 0
    if contiguous and not values.flags.c_contiguous:
        values = np.ascontiguousarray(values)
        copied = values.nbytes
    strides = [stride // values.itemsize for stride in values.strides]
    return [
        Buffer(name, values if contiguous else span(name, values), copied_bytes=copied),
        Buffer(f"{name}_shape", np.array(values.shape, np.int32)),
        Buffer(f"{name}_strides", np.array(strides, np.int64)),
        Buffer(f"{name}_ndim", np.array(values.ndim, np.int32)),
    ]


def span(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """The memory from the first element of a view to its last, with what lies in between."""
    low, high = np.lib.array_utils.byte_bounds(values)
    if low != values.ctypes.data:
        raise SimError(f"{name} runs backwards through memory: such inputs are not simulated")
    return np.frombuffer(ctypes.string_at(low, high - low), np.uint8)


def output_buffer(
    name: str, shape: Sequence[int], dtype: mx.Dtype, init_value: float | None
) -> Buffer:
    """An output before the kernel runs, flat: its initial value, or what nobody wrote (NaN, -1)."""
    size = int(np.prod(shape))
    if init_value is not None:
        return Buffer(name, np.array(bits(mx.full((size,), init_value, dtype))), written=True)
    nobody = np.full(size * dtype.size, 0xFF, np.uint8)
    return Buffer(name, nobody.view(np.dtype(f"u{dtype.size}")), written=True)


def output_array(buffer: Buffer, shape: Sequence[int], dtype: mx.Dtype) -> mx.array:
    """What the kernel wrote, as MLX's array."""
    return mx.array(buffer.values).view(dtype).reshape(tuple(shape))


def bits(array: mx.array) -> NDArray[Any]:
    """An array's memory, with its strides; evaluates it."""
    if array.ndim == 0:
        return bits(array.reshape(1)).reshape(())
    return np.array(array.view(UNSIGNED[array.dtype.size]), copy=False)
