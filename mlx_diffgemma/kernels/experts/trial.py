"""The mixture of experts from router scores to the weighted sum: four launches, or MLX operations.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row.
"""

import math
from collections.abc import Sequence
from functools import cache

import mlx.core as mx
import numpy as np

from ...machine import device
from ...machine.choices import Wish
from ...machine.dtypes import dtype_name
from ...model import experts as experts_ops
from ...model.experts import Routing
from ...model.matrices import AnyMatrix
from .. import dispatch
from ..check import Tolerance, disagreement
from ..trial import rounded_up
from . import launch as experts_launch
from .launch import (
    MAX_EXPERTS,
    MAX_ROWS,
    MAX_TOP_K,
    MAX_VALUES,
    STEP,
    packing,
    readable,
    sizes,
    stored,
)

FAMILY = "experts"

# By how much of a row's largest value kernels and operations may differ: operations round after
# each product and activation, too, and an M5 multiplies float32 with 11 bits of each factor.
AGREEMENT = {mx.float32: 2e-3, mx.float16: 4e-3, mx.bfloat16: 3e-2}


def mix(
    x: mx.array, routing: Routing, gate_up: AnyMatrix, down: AnyMatrix, wish: Wish = "auto"
) -> mx.array:
    """x [L, H] -> the weighted sum of each row's experts [L, H].

    gate_up [E, 2I, H], gate rows first; down [E, H, I].
    """
    case = (x, routing, gate_up, down)
    if not device.has_metal():  # first: the rest costs a hundredth of a small layer's time
        return experts_ops.mix(*case)
    if (reason := not_covered(*case)) is not None:
        dispatch.unsupported(FAMILY, reason)
    elif dispatch.chosen(FAMILY, instantiation(*case), lambda: MixTrial(*case), wish):
        return mix_in_kernels(*case)
    return experts_ops.mix(*case)


def mix_in_kernels(x: mx.array, routing: Routing, gate_up: AnyMatrix, down: AnyMatrix) -> mx.array:
    """The same in four launches."""
    plan = experts_launch.plan(routing)
    inner = experts_launch.gate_up(x, stored(gate_up), plan)
    outputs = experts_launch.down(inner, stored(down), plan)
    return experts_launch.combine(outputs, plan.weights)


def not_covered(x: mx.array, routing: Routing, gate_up: AnyMatrix, down: AnyMatrix) -> str | None:
    """Why the kernels cannot compute this; None where they can."""
    num_experts, hidden, inner = sizes(down)
    if not (readable(gate_up) and readable(down)):
        return "experts packed in another way than affine in 4 or 8 bits"
    if x.shape[0] > MAX_ROWS:
        return f"more than {MAX_ROWS} rows at once"
    if num_experts > MAX_EXPERTS or routing.top_k > MAX_TOP_K:
        return f"more than {MAX_EXPERTS} experts, or more than {MAX_TOP_K} a row"
    if hidden % STEP or inner % STEP:
        return f"a hidden size of {hidden} with experts of {inner}, not multiples of {STEP}"
    if math.prod(sizes(gate_up)) > MAX_VALUES:
        return f"experts of more than {MAX_VALUES} values a layer"
    return None


def instantiation(x: mx.array, routing: Routing, gate_up: AnyMatrix, down: AnyMatrix) -> str:
    """What a verdict holds for: shapes, dtypes and packing; rows up to the next power of two."""
    rows, dtypes = rounded_up(x.shape[0]), (x.dtype, routing.scores.dtype)
    return described(rows, routing.top_k, sizes(down), dtypes, (packing(gate_up), packing(down)))


@cache
def described(
    rows: int,
    top_k: int,
    sizes: tuple[int, int, int],
    dtypes: tuple[mx.Dtype, mx.Dtype],
    packings: tuple[str, str],
) -> str:
    """The same in words; asked for by every layer at every step, so made once."""
    num_experts, hidden, inner = sizes
    x, scores = (dtype_name(dtype) for dtype in dtypes)
    return (
        f"{rows} rows, {top_k} of {num_experts} experts, {hidden} x {inner}, {x}, scores {scores}, "
        f"gate and up {packings[0]}, down {packings[1]}"
    )


class MixTrial:
    """One instantiation on random rows and the weights at hand.

    Scores are all different, so that no order of ties decides what is compared.
    """

    def __init__(self, x: mx.array, routing: Routing, gate_up: AnyMatrix, down: AnyMatrix) -> None:
        random = np.random.default_rng(0)
        rows, num_experts = rounded_up(x.shape[0]), routing.scores.shape[1]
        noise = random.standard_normal((rows, x.shape[1]), dtype=np.float32)
        ranks = random.permuted(np.tile(np.arange(num_experts), (rows, 1)), axis=1)
        self.x = mx.array(noise).astype(x.dtype)
        scores = mx.array(ranks.astype(np.float32) / 16).astype(routing.scores.dtype)
        self.routing = Routing(scores, mx.ones(num_experts), routing.top_k)
        self.gate_up, self.down = gate_up, down

    def kernel(self) -> Sequence[mx.array]:
        return [mix_in_kernels(self.x, self.routing, self.gate_up, self.down)]

    def twin(self) -> Sequence[mx.array]:
        return [experts_ops.mix(self.x, self.routing, self.gate_up, self.down)]

    def disagreement(self, kernel: Sequence[mx.array], twin: Sequence[mx.array]) -> str | None:
        reason = "the operations round more often"
        tolerance = Tolerance("mixed", AGREEMENT[self.x.dtype], reason)
        return disagreement(kernel, twin, [tolerance])
