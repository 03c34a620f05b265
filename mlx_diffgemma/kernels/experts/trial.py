"""The experts' products in two launches, where a trial found them right and faster.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row, N = L * K.
"""

import math
from functools import cache, partial
from typing import Any

import mlx.core as mx
import numpy as np

from ...checkpoint.tensors import StoredWeight
from ...machine.choices import Preference
from ...machine.dtypes import dtype_name
from .. import dispatch
from ..check import Tolerance
from ..router.trial import distinct
from ..trial import Trial, rounded_up
from ..weights import packed_as, readable
from . import launch
from .launch import MAX_ROWS, MAX_VALUES, STEP
from .mixture import Mixture
from .plan import HEIGHTS, TILE_ROWS, Plan, plan_of, tiles_of

FAMILY = "experts"
OTHERS = {tiles_of(rows): rows for rows in HEIGHTS if rows != TILE_ROWS}

# By how much of a row's largest value kernels and MLX operations may differ: the operations round
# after each product and activation, too, and an M5 multiplies float32 with 11 bits of each factor.
AGREEMENT = {mx.float32: 2e-3, mx.float16: 4e-3, mx.bfloat16: 3e-2}
REASON = "MLX's operations round more often"


def tile_rows(mixture: Mixture[Any], preference: Preference = "auto") -> int | None:
    """The rows of a tile by which kernels multiply; None: MLX's operations do.

    Those of the height that won its trial; where none was made, TILE_ROWS.
    """
    reason = not_covered(mixture)
    key = instantiation(mixture) if reason is None else ""
    tried = partial(trial, mixture)
    if not dispatch.covered_and_chosen(FAMILY, reason, lambda: key, tried, preference):
        return None
    return OTHERS.get(dispatch.variant(FAMILY, key) or "", TILE_ROWS)


def tile_rows_of(rows: int) -> int:
    """The rows of a tile in this process's trials for so many rows; without one TILE_ROWS."""
    of_rows = f"{rounded_up(rows)} rows, "
    found = [name for key, name in dispatch.variants(FAMILY).items() if key.startswith(of_rows)]
    return OTHERS.get(found[-1] or "", TILE_ROWS) if found else TILE_ROWS


def in_kernels(x: mx.array, gate_up: StoredWeight, down: StoredWeight, plan: Plan) -> mx.array:
    """The outputs of the experts [N, H] in the order of the plan's rows, in two launches."""
    return launch.down(launch.gate_up(x, gate_up, plan), down, plan)


def not_covered(mixture: Mixture[Any]) -> str | None:
    """The reason why the kernels cannot multiply; None where they can."""
    hidden, inner = mixture.down.shape[1:]
    if not (readable(mixture.gate_up) and readable(mixture.down)):
        return "experts packed in another way than affine in 4 or 8 bits"
    if mixture.x.shape[0] > MAX_ROWS:  # tiles are made for the few rows an expert has of a canvas
        return f"more than {MAX_ROWS} rows at once"
    if hidden % STEP or inner % STEP:
        return f"a hidden size of {hidden} with experts of {inner}, not multiples of {STEP}"
    if math.prod(mixture.gate_up.shape) > MAX_VALUES:
        return f"experts of more than {MAX_VALUES} values a layer"
    return None


def instantiation(mixture: Mixture[Any]) -> str:
    """Key of a verdict: shapes, dtype and packing; rows up to the next power of two."""
    x, gate_up, down = mixture.x, mixture.gate_up, mixture.down
    rows, packings = rounded_up(x.shape[0]), (packed_as(gate_up), packed_as(down))
    counts = (rows, mixture.routing.top_k, mixture.num_experts)
    return _described(counts, down.shape[1:], x.dtype, packings, mixture.described)


@cache
def _described(
    counts: tuple[int, int, int],
    widths: tuple[int, ...],
    dtype: mx.Dtype,
    packings: tuple[str, str],
    part: str,
) -> str:
    """The key in words, made once: every layer asks for it at every step."""
    (rows, top_k, num_experts), (hidden, inner) = counts, widths
    return (
        f"{rows} rows, {top_k} of {num_experts} experts{part}, {hidden} x {inner}, "
        f"{dtype_name(dtype)}, gate and up {packings[0]}, down {packings[1]}"
    )


def trial(mixture: Mixture[Any]) -> Trial:
    """The trial on random rows of the number that a verdict holds for, and the weights at hand.

    Both sides get a plan, the kernels one for each height of tiles. Outputs of experts that are not
    own, which the kernels do not make, are left out on both sides.
    """
    random, rows = np.random.default_rng(0), rounded_up(mixture.x.shape[0])
    noise = random.standard_normal((rows, mixture.x.shape[1]), dtype=np.float32)
    x, operations = mx.array(noise).astype(mixture.x.dtype), mixture.operations
    routing = distinct(mixture.routing, rows, random)
    choices = operations.route(routing)
    plans = [plan_of(*choices, mixture.num_experts, mixture.own, height) for height in HEIGHTS]
    plan, own = plans[0], _own_rows(plans[0])
    mx.eval(x, own, [each.arrays for each in plans])

    def outputs(plan: Plan) -> list[mx.array]:
        made = in_kernels(x, mixture.gate_up, mixture.down, plan)
        return [made if own is None else mx.where(own, made, 0)]

    def reference() -> list[mx.array]:
        made = operations.products(x, plan.experts, plan.rows)
        return [made if own is None else mx.where(own, made, 0)]

    return Trial(
        kernel=lambda: outputs(plan),
        reference=reference,
        tolerances=[Tolerance("outputs", AGREEMENT[x.dtype], REASON)],
        others={tiles_of(each.tile_rows): partial(outputs, each) for each in plans[1:]},
    )


def _own_rows(plan: Plan) -> mx.array | None:
    """True for the rows [N, 1] that own experts make, in the plan's order; None: all."""
    if plan.own is None:
        return None
    experts = plan.experts.flatten()[plan.rows][:, None]
    return (experts >= plan.own.start) & (experts < plan.own.stop)
