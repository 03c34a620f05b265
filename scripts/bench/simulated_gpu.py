"""Whole steps with this project's Metal kernels: on the GPU, or simulated where there is none.

The simulator is tests/metal_sim of a clone. It runs a kernel at once when it is called, so that
nothing may be traced by mx.compile meanwhile, and no time that is taken says anything of a GPU. The
two products with the embedding are NumPy's: in 16 bits MLX takes seconds for 64 rows on a CPU.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import mlx.core as mx
import numpy as np
from graphs import gpu_everywhere

from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.machine import device
from mlx_diffgemma.model.tables import DenseTable

TESTS = Path(__file__).parents[2] / "tests"
SIMULATOR = TESTS / "metal_sim"
STAND_INS = (SIMULATOR, Path(__file__))  # what they read, a GPU would compute without the host


def simulator() -> Any:
    """The simulator's package; SystemExit where it is not there."""
    if not SIMULATOR.is_dir():
        raise SystemExit(
            f"{SIMULATOR} is missing, expected the simulator of the kernels, which run nowhere "
            "else without a Metal device; run this script in a clone."
        )
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    return import_module("metal_sim")


@contextmanager
def with_kernels() -> Iterator[None]:
    """Inside, the engine runs as on a GPU, and every kernel that covers a case is taken.

    SystemExit where the kernels have to be simulated and cannot be.
    """
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {dispatch.VARIABLE: "on"}))
        if not device.has_metal():
            stack.enter_context(gpu_everywhere())
            stack.enter_context(_uncompiled())
            stack.enter_context(_products_by_numpy())
            stack.enter_context(_simulated())
        yield


def macs_per_device_load() -> dict[str, float]:
    """Products of matrices for each load from device memory, by kernel of the experts.

    Counted by the simulator, on a Mac too; its expert_loads.py says of which sizes.
    """
    with _explained():
        found: dict[str, float] = import_module("metal_sim.expert_loads").macs_per_device_load()
    return found


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Let compiled functions run operation by operation."""
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


@contextmanager
def _products_by_numpy() -> Iterator[None]:
    def head(table: DenseTable, hidden: mx.array) -> mx.array:
        return _product(hidden, table.weight.T)

    def mix(table: DenseTable, weights: mx.array) -> mx.array:
        return _product(weights, table.weight)

    with mock.patch.multiple(DenseTable, head=head, mix=mix):
        yield


def _product(left: mx.array, right: mx.array) -> mx.array:
    """left @ right by float32 sums, in the dtype of `left`."""
    wide = [np.asarray(array.astype(mx.float32)) for array in (left, right)]
    return mx.array(wide[0] @ wide[1]).astype(left.dtype)


@contextmanager
def _simulated() -> Iterator[None]:
    with _explained() as made, made.simulated():
        yield


@contextmanager
def _explained() -> Iterator[Any]:
    """The simulator; SystemExit where it finds no compiler."""
    made = simulator()
    try:
        yield made
    except made.NoCompilerError as error:
        raise SystemExit(f"the kernels cannot be simulated here: {error}.") from None
