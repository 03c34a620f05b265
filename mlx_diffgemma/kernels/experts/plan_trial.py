"""What stands around the experts' products, in two launches, where a trial found them better.

Before them the plan: which experts a row has, and the rows of each. Behind them the weighted sum of
a row's outputs, and its norm.
Axes: L rows, H hidden size, E experts, K experts a row, N = L * K.
"""

from functools import cache, partial
from typing import Any

import mlx.core as mx
import numpy as np

from ...machine.choices import Preference
from ...machine.dtypes import dtype_name
from .. import dispatch
from ..check import Tolerance, mismatches
from ..router.launch import MAX_EXPERTS, MAX_TOP_K
from ..router.trial import distinct
from ..trial import Trial, rounded_up
from . import launch
from .launch import MAX_ROWS, NEIGHBOURS
from .mixture import Mixture
from .plan import TILE_ROWS, places_of, plan_of, tiles_of
from .trial import AGREEMENT, REASON

FAMILY = "expert_plan"


def chosen(
    mixture: Mixture[Any], preference: Preference = "auto", tile_rows: int = TILE_ROWS
) -> bool:
    """Choose the kernels for plan and combination of a mixture, or not; tile_rows: of the plan."""
    key, tried = partial(instantiation, mixture, tile_rows), partial(trial, mixture, tile_rows)
    return dispatch.covered_and_chosen(FAMILY, not_covered(mixture), key, tried, preference)


def not_covered(mixture: Mixture[Any]) -> str | None:
    """The reason why the kernels cannot plan and combine; None where they can."""
    rows, hidden = mixture.x.shape
    if rows > MAX_ROWS:
        return f"more than {MAX_ROWS} rows at once"
    if mixture.num_experts > MAX_EXPERTS or mixture.routing.top_k > MAX_TOP_K:
        return f"more than {MAX_EXPERTS} experts, or more than {MAX_TOP_K} a row"
    if hidden % NEIGHBOURS:
        return f"a hidden size of {hidden}, not a multiple of {NEIGHBOURS}"
    return None


def instantiation(mixture: Mixture[Any], tile_rows: int = TILE_ROWS) -> str:
    """Key of a verdict: shapes and dtypes; rows up to the next power of two."""
    (rows, hidden), routing = mixture.x.shape, mixture.routing
    counts = (rounded_up(rows), routing.top_k, mixture.num_experts, hidden)
    tiles = "" if tile_rows == TILE_ROWS else f", {tiles_of(tile_rows)}"
    part = mixture.described + tiles
    return _described(counts, mixture.x.dtype, routing.scores.dtype, part)


@cache
def _described(
    counts: tuple[int, int, int, int], dtype: mx.Dtype, scores: mx.Dtype, part: str
) -> str:
    """The key in words, made once: every layer asks for it at every step."""
    rows, top_k, num_experts, hidden = counts
    return (
        f"{rows} rows of {hidden}, {top_k} of {num_experts} experts{part}, {dtype_name(dtype)}, "
        f"scores {dtype_name(scores)}"
    )


def trial(mixture: Mixture[Any], tile_rows: int = TILE_ROWS) -> Trial:
    """The trial on random scores and outputs, of the number of rows that a verdict holds for.

    All scores differ, so that no tie decides. All outputs of an expert are one row: the order of
    its rows says nothing. A norm's own weight may be far from even; one near 1 compares all values.
    Tiles are compared, but made before: MLX's products need none.
    """
    random, (rows, hidden) = np.random.default_rng(0), mixture.x.shape
    routing = distinct(mixture.routing, rounded_up(rows), random)
    operations, dtype, eps = mixture.operations, mixture.x.dtype, mixture.eps
    own = mixture.own
    made = plan_of(*operations.route(routing), mixture.num_experts, own, tile_rows)
    numbers = random.standard_normal((mixture.num_experts + 1, hidden), dtype=np.float32)
    even = mx.array(1 + numbers[0] / 4).astype(dtype)
    norm = None if mixture.norm is None else even
    outputs = mx.array(numbers[1:]).astype(dtype)[made.experts.flatten()[made.rows]]
    mx.eval(even, outputs, made.tiles)

    def in_kernels() -> list[mx.array]:
        plan = launch.plan(routing.scores, routing.scale, routing.top_k, own, tile_rows)
        mixed = launch.combine(outputs, plan.places, plan.weights, norm, eps, part=plan.part)
        return [mixed, plan.experts.flatten()[plan.rows], plan.tiles]

    def in_operations() -> list[mx.array]:
        experts, weights = operations.route(routing)
        rows = mx.argsort(experts.flatten())
        places = places_of(rows, experts, own)
        mixed = operations.combined(outputs, places, weights, norm, eps)
        return [mixed, experts.flatten()[rows], made.tiles]

    exact = "whole numbers"
    return Trial(
        kernel=in_kernels,
        reference=in_operations,
        tolerances=[
            Tolerance("mixed", AGREEMENT[dtype], REASON),
            Tolerance("experts in order", 0.0, exact, mismatches),
            Tolerance("tiles", 0.0, exact, mismatches),
        ],
    )
