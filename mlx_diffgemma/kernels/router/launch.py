"""The launch of the router's kernel: metal/moe_route.metal says what it computes.

Axes: L rows, E experts, K experts a row.
"""

import mlx.core as mx

from ...errors import KernelError
from ..launch import Kernel, expect, expect_rank
from ..weights import DTYPES

MAX_EXPERTS, MAX_TOP_K = 256, 16  # scores in a lane's registers, a softmax in one simdgroup
MAX_ROWS = 1 << 16  # a threadgroup each; few are meant

ROUTE = Kernel("moe_route", ("scores", "scale"), ("experts", "weights"), headers=("top_experts",))


def route(scores: mx.array, scale: mx.array, top_k: int) -> tuple[mx.array, mx.array]:
    """The experts [L, K] of each row by its scores [L, E], and their weights, times scale [E]."""
    expect_sizes(ROUTE.name, scores, top_k, MAX_ROWS)
    rows, num_experts = scores.shape
    expect(ROUTE.name, "scores", scores, (rows, num_experts), *DTYPES)
    expect(ROUTE.name, "scale", scale, (num_experts,), mx.float32)
    experts, weights = ROUTE.launch(
        (scores, scale),
        [((rows, top_k), mx.uint32), ((rows, top_k), mx.float32)],
        template=[("E", num_experts), ("TOP_K", top_k)],
        groups=(rows, 1, 1),
        threads=(32, 1, 1),
    )
    return experts, weights


def expect_sizes(kernel: str, scores: mx.array, top_k: int, max_rows: int) -> None:
    """KernelError unless scores [L, E] and the experts a row are within a kernel's limits."""
    expect_rank(kernel, "scores", scores, 2)
    rows, num_experts = scores.shape
    for what, size, most in (
        ("rows", rows, max_rows),
        ("experts", num_experts, MAX_EXPERTS),
        ("experts a row", top_k, min(MAX_TOP_K, num_experts)),
    ):
        if not 1 <= size <= most:
            raise KernelError(f"{kernel}: {size} {what}, expected 1 to {most}.")
