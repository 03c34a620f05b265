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
from .plan import Plan, plan_of

FAMILY = "experts"

# By how much of a row's largest value kernels and MLX operations may differ: the operations round
# after each product and activation, too, and an M5 multiplies float32 with 11 bits of each factor.
AGREEMENT = {mx.float32: 2e-3, mx.float16: 4e-3, mx.bfloat16: 3e-2}
REASON = "MLX's operations round more often"


def chosen(mixture: Mixture[Any], preference: Preference = "auto") -> bool:
    """Choose the kernels for the products of a mixture, or not."""
    key, tried = partial(instantiation, mixture), partial(trial, mixture)
    return dispatch.covered_and_chosen(FAMILY, not_covered(mixture), key, tried, preference)


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
    return _described(rows, mixture.routing.top_k, down.shape, x.dtype, packings)


@cache
def _described(
    rows: int, top_k: int, shape: tuple[int, ...], dtype: mx.Dtype, packings: tuple[str, str]
) -> str:
    """The key in words, made once: every layer asks for it at every step."""
    num_experts, hidden, inner = shape
    return (
        f"{rows} rows, {top_k} of {num_experts} experts, {hidden} x {inner}, {dtype_name(dtype)}, "
        f"gate and up {packings[0]}, down {packings[1]}"
    )


def trial(mixture: Mixture[Any]) -> Trial:
    """The trial on random rows of the number that a verdict holds for, and the weights at hand.

    Both sides get a plan.
    """
    random, rows = np.random.default_rng(0), rounded_up(mixture.x.shape[0])
    noise = random.standard_normal((rows, mixture.x.shape[1]), dtype=np.float32)
    x, operations = mx.array(noise).astype(mixture.x.dtype), mixture.operations
    routing = distinct(mixture.routing, rows, random)
    plan = plan_of(*operations.route(routing), mixture.num_experts)
    mx.eval(x, plan.arrays)
    return Trial(
        kernel=lambda: [in_kernels(x, mixture.gate_up, mixture.down, plan)],
        reference=lambda: [operations.products(x, plan.experts, plan.rows)],
        tolerances=[Tolerance("outputs", AGREEMENT[x.dtype], REASON)],
    )
