"""Launching a Metal kernel: its text, its instantiation, its grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import mlx.core as mx

from ..errors import KernelError
from ..machine.dtypes import dtype_name
from ..metal import source

Template = Sequence[tuple[str, mx.Dtype | int | bool]]
Size = tuple[int, int, int]
Output = tuple[tuple[int, ...], mx.Dtype]


@dataclass(frozen=True)
class Kernel:
    """A kernel of metal/ and the names of its inputs and outputs, in the order of its contract."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    headers: tuple[str, ...] = ()

    def launch(
        self,
        inputs: Sequence[mx.array],
        outputs: Sequence[Output],
        *,
        template: Template = (),
        groups: Size,
        threads: Size,
    ) -> list[mx.array]:
        """Add one launch to the graph: `groups` threadgroups of `threads` threads each."""
        grid = tuple(g * t for g, t in zip(groups, threads, strict=True))
        launched: list[mx.array] = built(self)(
            inputs=list(inputs),
            template=list(template),
            grid=grid,
            threadgroup=threads,
            output_shapes=[shape for shape, _ in outputs],
            output_dtypes=[dtype for _, dtype in outputs],
        )
        return launched


@cache
def built(kernel: Kernel) -> Any:
    """The kernel as MLX's object: made once, compiled by Metal once an instantiation."""
    text = source(kernel.name, *kernel.headers)
    return mx.fast.metal_kernel(
        name=kernel.name,
        input_names=list(kernel.inputs),
        output_names=list(kernel.outputs),
        source=text.body,
        header=text.header,
    )


def expect_rank(kernel: str, name: str, array: mx.array, rank: int) -> None:
    """KernelError unless `array` has so many axes."""
    if array.ndim != rank:
        raise KernelError(f"{kernel}: {name} has {array.ndim} axes, expected {rank}.")


def expect(
    kernel: str, name: str, array: mx.array, shape: tuple[int, ...], *dtypes: mx.Dtype
) -> None:
    """KernelError unless `array` has this shape and one of these dtypes."""
    if array.shape != shape:
        raise KernelError(
            f"{kernel}: {name} has shape {list(array.shape)}, expected {list(shape)}."
        )
    if array.dtype not in dtypes:
        wanted = " or ".join(map(dtype_name, dtypes))
        raise KernelError(f"{kernel}: {name} is {dtype_name(array.dtype)}, expected {wanted}.")
