"""Checks of the router's kernel for the selftest: all dtypes, small and 26B.

Axes: L rows, E experts, K experts a row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..check import Check, as_float64
from ..weights import DTYPES
from .trial import TOLERANCES, Routing, described, in_kernel

Size = Literal["small", "26B"]
Shape = tuple[int, int, int]

# L, E, K: odd sizes, the embedded checkpoints' (tiny-sudoku, tiny-chat), and the 26B model's: a
# token, and as many as are checked at once.
SIZES: tuple[tuple[Size, Shape], ...] = (
    ("small", (5, 33, 3)),
    ("small", (1, 8, 2)),
    ("small", (1, 64, 2)),
    ("26B", (1, 128, 8)),
    ("26B", (7, 128, 8)),
)


def checks(reference: ModuleType) -> Iterator[Check]:
    """Every instantiation: one a dtype and number of experts."""
    for size, shape in SIZES:
        for dtype in DTYPES:
            yield _check(size, shape, dtype, reference)


@dataclass(frozen=True)
class RouteCase:
    """The routing of some rows with a reference implementation, and the results in float64."""

    routing: Routing
    given: ModuleType

    @classmethod
    def of(cls, shape: Shape, dtype: mx.Dtype, reference: ModuleType) -> "RouteCase":
        """Random scores; see `random_scores`."""
        return cls(reference.Routing(*random_scores(shape, dtype)), reference)

    def kernel(self) -> Sequence[mx.array]:
        return in_kernel(self.routing)

    def reference(self) -> Sequence[mx.array]:
        routed: Sequence[mx.array] = self.given.route(self.routing)
        return routed

    def exact(self) -> Sequence[NDArray[Any]]:
        return routed_exactly(self.routing)


def random_scores(shape: Shape, dtype: mx.Dtype) -> tuple[mx.array, mx.array, int]:
    """Scores [L, E] of which many are equal, all exact in 16 bits; scale [E], and K."""
    rows, num_experts, top_k = shape
    random = np.random.default_rng(1)
    scores = np.round(8 * random.standard_normal((rows, num_experts))) / 8
    scale = 1 + 0.25 * random.standard_normal(num_experts)
    return mx.array(scores).astype(dtype), mx.array(scale).astype(mx.float32), top_k


def routed_exactly(routing: Routing) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Experts, ties to the lowest, and weights [L, K] in float64."""
    scores, scale = as_float64(routing.scores), as_float64(routing.scale)
    experts = np.argsort(-scores, axis=1, kind="stable")[:, : routing.top_k]
    powers = np.exp(np.take_along_axis(scores, experts, 1) - scores.max(axis=1, keepdims=True))
    return experts, powers / powers.sum(axis=1, keepdims=True) * scale[experts]


def _check(size: Size, shape: Shape, dtype: mx.Dtype, reference: ModuleType) -> Check:
    rows, num_experts, top_k = shape
    return Check(
        kernel="moe_route",
        instantiation=described(rows, top_k, num_experts, dtype),
        size=size,
        memory_bytes=128 * rows * num_experts,
        flops=4 * rows * top_k,
        bytes_moved=rows * num_experts * dtype.size + 4 * num_experts + 8 * rows * top_k,
        tolerances=TOLERANCES,
        prepare=partial(RouteCase.of, shape, dtype, reference),
    )
