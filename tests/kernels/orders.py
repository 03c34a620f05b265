"""Kernels in every order in which threads may be scheduled."""

from collections.abc import Callable, Iterable
from typing import Any

import mlx.core as mx
import numpy as np
from metal_sim import ORDERS, simulated
from numpy.typing import NDArray


def in_all_orders(run: Callable[[], Iterable[mx.array]]) -> list[NDArray[Any]]:
    """The results of `run`, which must be the same to the bit however threads are scheduled."""
    results = []
    for order in ORDERS:
        with simulated(order=order):
            results.append([np.array(array) for array in run()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(a.view(np.uint8), b.view(np.uint8))
    return results[0]
