"""Whole steps with this project's Metal kernels: on the GPU, or simulated where there is none.

The simulator is tests/metal_sim of a clone. It runs a kernel at once when it is called, so that
nothing may be traced by mx.compile meanwhile, and no time that is taken says anything of a GPU.
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
from graphs import gpu_everywhere

from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.machine import device

TESTS = Path(__file__).parents[2] / "tests"
SIMULATOR = TESTS / "metal_sim"


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
            stack.enter_context(_simulated())
        yield


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Let compiled functions run operation by operation."""
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


@contextmanager
def _simulated() -> Iterator[None]:
    made = simulator()
    try:
        with made.simulated():
            yield
    except made.NoCompilerError as error:
        raise SystemExit(f"the kernels cannot be simulated here: {error}.") from None
