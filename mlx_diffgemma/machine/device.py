"""The device that arrays live on, and ways to compute that depend on it."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

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


Arrays = tuple[NDArray[Any], ...]


def in_host(x: mx.array) -> NDArray[Any]:
    """An array as numpy sees it, evaluated before.

    numpy would swallow what MLX raises meanwhile, such as the loss of another Mac, and see whatever
    was in memory.
    """
    mx.eval(x)
    return np.asarray(x)


def numpy_op(
    forward: Callable[..., NDArray[Any]], backward: Callable[..., Arrays] | None = None
) -> Callable[..., mx.array]:
    """A function of float32 arrays, evaluated at once by numpy: for heavy work on the CPU.

    There MLX's exp and tanh go value by value and its BLAS is the reference one: numpy's are 20 to
    40 times as fast, and closer (docs/log.md). What is not finite is found later, by its entropy.
    backward: (cotangent, output, *inputs) -> a gradient for each input. Without it a gradient is
    refused with a RuntimeError, never silently 0.
    """

    def call(*inputs: mx.array) -> mx.array:
        with np.errstate(all="ignore"):
            return mx.array(forward(*map(in_host, inputs)))

    op = mx.custom_function(call)

    @op.vjp
    def gradients(primals: Any, cotangent: mx.array, output: mx.array) -> Any:
        if backward is None:
            raise RuntimeError("this function of numpy has no gradient; give it one.")
        inputs = primals if isinstance(primals, list | tuple) else (primals,)
        with np.errstate(all="ignore"):
            found = backward(*map(in_host, (cotangent, output, *inputs)))
        arrays = tuple(map(mx.array, found))
        return arrays if len(inputs) > 1 else arrays[0]

    return cast("Callable[..., mx.array]", op)


def kept_op(forward: Callable[..., tuple[Any, Callable[..., Arrays]]]) -> Callable[..., Any]:
    """A function of float32 arrays by numpy, whose gradient uses what the function kept.

    forward: arrays -> (an output or a tuple of them, backward); backward: a cotangent for each
    output -> a gradient for each input. To be made anew for each use; see `numpy_op`.
    """
    kept: list[Callable[..., Arrays]] = []

    def call(*inputs: mx.array) -> Any:
        with np.errstate(all="ignore"):
            outputs, backward = forward(*map(in_host, inputs))
        kept[:] = [backward]
        return tuple(map(mx.array, outputs)) if isinstance(outputs, tuple) else mx.array(outputs)

    op = mx.custom_function(call)

    @op.vjp
    def gradients(primals: Any, cotangents: Any, outputs: Any) -> Any:
        given = cotangents if isinstance(cotangents, list | tuple) else (cotangents,)
        with np.errstate(all="ignore"):
            arrays = tuple(map(mx.array, kept[0](*map(in_host, given))))
        return arrays if isinstance(primals, list | tuple) else arrays[0]

    return cast("Callable[..., Any]", op)


def in_numpy(function: Callable[..., NDArray[Any]], *inputs: mx.array) -> mx.array:
    """`function` of float32 arrays by numpy; see `numpy_op`. It has no gradient."""
    return numpy_op(function)(*inputs)
