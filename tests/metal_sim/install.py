"""Replaces mx.fast.metal_kernel: what is built inside `simulated` runs on the CPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import mlx.core as mx

from mlx_diffgemma.kernels import launch
from mlx_diffgemma.machine import device

from .compiler import Sanitizer
from .errors import SimError
from .kernel import Mutation, SimulatedKernel, Simulation
from .reports import inherited
from .run import STACK_BYTES, Order, Schedule


@contextmanager
def simulated(
    *,
    order: Order = "forward",
    seed: int = 0,
    sanitizer: Sanitizer | None = None,
    mutate: Mutation | None = None,
    stack_bytes: int = STACK_BYTES,
    count_loads: bool = False,
) -> Iterator[Simulation]:
    """Inside, custom Metal kernels are simulated: each runs at once when it is called.

    order, seed: the order in which threads run. sanitizer: only in a process that `run_sanitized`
    started, where it is the default. mutate: changes the generated text before it is compiled.
    stack_bytes: the private memory of a thread. count_loads: compiles kernels as they are written,
    slow, so that launches say how often they read device memory. The package's own kernels are
    built anew inside, and again after; `device.has_metal` answers True. Nothing may be called
    inside mx.compile.
    """
    if sanitizer not in (None, inherited()):
        raise SimError(f"the {sanitizer} sanitizer is not in this process: use run_sanitized")
    simulation = Simulation(Schedule(order, seed, stack_bytes, count_loads), inherited(), mutate)
    replacement = simulated_metal_kernel(mx.fast.metal_kernel, simulation)
    launch.built.cache_clear()
    try:
        with (
            mock.patch.object(mx.fast, "metal_kernel", replacement),
            mock.patch.object(device, "has_metal", return_value=True),
        ):
            yield simulation
    finally:
        launch.built.cache_clear()


def simulated_metal_kernel(
    original: Callable[..., Any], simulation: Simulation
) -> Callable[..., SimulatedKernel]:
    """In place of mx.fast.metal_kernel, with the same arguments."""

    def metal_kernel(
        name: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        source: str,
        header: str = "",
        ensure_row_contiguous: bool = True,
        atomic_outputs: bool = False,
        **options: Any,
    ) -> SimulatedKernel:
        built = original(
            name=name,
            input_names=input_names,
            output_names=output_names,
            source=source,
            header=header,
            ensure_row_contiguous=ensure_row_contiguous,
            atomic_outputs=atomic_outputs,
            **options,
        )
        names = tuple(input_names), tuple(output_names)
        return SimulatedKernel(name, *names, ensure_row_contiguous, built, simulation)

    return metal_kernel
