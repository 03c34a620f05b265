"""The device that arrays live on, and ways to compute that depend on it."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")


def on_gpu() -> bool:
    """True where the default device is a GPU (Metal or CUDA)."""
    return mx.default_device().type == mx.DeviceType.gpu


def has_metal() -> bool:
    """True where custom Metal kernels can run: a Metal device, and it is the default one."""
    return on_gpu() and mx.metal.is_available()


def compiled_on_gpu(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, on a GPU compiled by MLX: traced once a shape, one kernel for elementwise runs.

    On the CPU it runs operation by operation: there MLX would call the system's C++ compiler, a
    second a kernel, and gain nothing (docs/log.md).
    """
    compiled: Callable[P, R] = mx.compile(function)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return compiled(*args, **kwargs) if on_gpu() else function(*args, **kwargs)

    return run


def in_numpy(function: Callable[..., NDArray[Any]], *inputs: mx.array) -> mx.array:
    """`function` of float32 arrays, evaluated by numpy: for vocabulary-wide work on the CPU.

    There MLX's exp and tanh go value by value and its BLAS is the reference one: numpy's are 20 to
    40 times as fast, and closer (docs/log.md). What is not finite is found later, by its entropy.
    """
    with np.errstate(all="ignore"):
        return mx.array(function(*(np.asarray(x) for x in inputs)))
