"""The mixture of experts in four launches, where a trial found them right and faster.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic

import mlx.core as mx
import numpy as np

from ...checkpoint.tensors import StoredWeight
from ...machine.choices import Preference
from ...machine.dtypes import dtype_name
from .. import dispatch
from ..check import Tolerance
from ..router.launch import MAX_EXPERTS, MAX_TOP_K
from ..router.trial import R, distinct
from ..trial import Trial, rounded_up
from ..weights import packed_as, readable
from . import launch
from .launch import MAX_ROWS, MAX_VALUES, STEP

FAMILY = "experts"

# By how much of a row's largest value kernels and MLX operations may differ: the operations round
# after each product and activation, too, and an M5 multiplies float32 with 11 bits of each factor.
AGREEMENT = {mx.float32: 2e-3, mx.float16: 4e-3, mx.bfloat16: 3e-2}


@dataclass(frozen=True)
class Mixture(Generic[R]):
    """One mixture: x [L, H], its routing, gate_up [E, 2I, H] with gate rows first, down [E, H, I].

    reference: the same mixture of other rows and another routing, in MLX operations -> [L, H].
    """

    x: mx.array
    routing: R
    gate_up: StoredWeight
    down: StoredWeight
    reference: Callable[[mx.array, R], mx.array]


def mix(
    x: mx.array,
    routing: R,
    gate_up: StoredWeight,
    down: StoredWeight,
    reference: Callable[[mx.array, R], mx.array],
    preference: Preference = "auto",
) -> mx.array:
    """Weighted sum of each row's experts [L, H], by the kernels or by `reference`; see Mixture."""
    mixture = Mixture(x, routing, gate_up, down, reference)
    if (reason := not_covered(mixture)) is not None:
        dispatch.unsupported(FAMILY, reason)
    elif dispatch.chosen(FAMILY, instantiation(mixture), lambda: trial(mixture), preference):
        return mix_in_kernels(mixture)
    return reference(x, routing)


def mix_in_kernels(mixture: Mixture[Any]) -> mx.array:
    """The mixture in four launches."""
    routing = mixture.routing
    plan = launch.plan(routing.scores, routing.scale, routing.top_k)
    inner = launch.gate_up(mixture.x, mixture.gate_up, plan)
    return launch.combine(launch.down(inner, mixture.down, plan), plan.weights)


def not_covered(mixture: Mixture[Any]) -> str | None:
    """The reason why the kernels cannot compute a mixture; None where they can."""
    num_experts, hidden, inner = mixture.down.shape
    if not (readable(mixture.gate_up) and readable(mixture.down)):
        return "experts packed in another way than affine in 4 or 8 bits"
    if mixture.x.shape[0] > MAX_ROWS:
        return f"more than {MAX_ROWS} rows at once"
    if num_experts > MAX_EXPERTS or mixture.routing.top_k > MAX_TOP_K:
        return f"more than {MAX_EXPERTS} experts, or more than {MAX_TOP_K} a row"
    if hidden % STEP or inner % STEP:
        return f"a hidden size of {hidden} with experts of {inner}, not multiples of {STEP}"
    if math.prod(mixture.gate_up.shape) > MAX_VALUES:
        return f"experts of more than {MAX_VALUES} values a layer"
    return None


def instantiation(mixture: Mixture[Any]) -> str:
    """Key of a verdict: shapes, dtypes and packing; rows up to the next power of two."""
    x, routing, gate_up, down = mixture.x, mixture.routing, mixture.gate_up, mixture.down
    rows, dtypes = rounded_up(x.shape[0]), (x.dtype, routing.scores.dtype)
    return _described(
        rows, routing.top_k, down.shape, dtypes, (packed_as(gate_up), packed_as(down))
    )


@cache
def _described(
    rows: int,
    top_k: int,
    shape: tuple[int, ...],
    dtypes: tuple[mx.Dtype, mx.Dtype],
    packings: tuple[str, str],
) -> str:
    """The key in words, made once: every layer asks for it at every step."""
    num_experts, hidden, inner = shape
    x, scores = map(dtype_name, dtypes)
    return (
        f"{rows} rows, {top_k} of {num_experts} experts, {hidden} x {inner}, {x}, scores {scores}, "
        f"gate and up {packings[0]}, down {packings[1]}"
    )


def trial(mixture: Mixture[Any]) -> Trial:
    """The trial on random rows of the number that a verdict holds for, and the weights at hand.

    All scores differ, so that no tie decides which results are compared.
    """
    random, rows = np.random.default_rng(0), rounded_up(mixture.x.shape[0])
    noise = random.standard_normal((rows, mixture.x.shape[1]), dtype=np.float32)
    routing = distinct(mixture.routing, rows, random)
    tried = replace(mixture, x=mx.array(noise).astype(mixture.x.dtype), routing=routing)
    reason = "MLX's operations round more often"
    return Trial(
        kernel=lambda: [mix_in_kernels(tried)],
        reference=lambda: [tried.reference(tried.x, tried.routing)],
        tolerances=[Tolerance("mixed", AGREEMENT[tried.x.dtype], reason)],
    )
