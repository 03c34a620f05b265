"""Random inputs for the expert kernels, and the results in float64.

The reference implementation that a case is given is model/experts.py.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row, N = L * K.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...checkpoint.quantization import QuantizationConfig
from ...checkpoint.tensors import StoredWeight
from ...machine.dtypes import dtype_name
from ..check import as_float64, unpacked_exactly
from ..router.checks import random_scores, routed_exactly
from . import launch
from .plan import TILE_ROWS, Plan, max_tiles, plan_of

Arrays = Sequence[NDArray[Any]]
EPS = 1e-6  # of the norm of a sum


@dataclass(frozen=True)
class Sizes:
    """Of one case; bits and group 0: weights that are not packed."""

    L: int
    E: int
    K: int
    H: int
    I: int  # noqa: E741
    dtype: mx.Dtype
    bits: int = 0
    group: int = 0

    @property
    def num_rows(self) -> int:
        """N, what the experts compute."""
        return self.L * self.K

    def __str__(self) -> str:
        packing = f"{self.bits}-bit groups of {self.group}" if self.bits else "not packed"
        return (
            f"{dtype_name(self.dtype)}, {packing}, {self.L} rows, {self.K} of {self.E} experts, "
            f"{self.H} x {self.I}"
        )


# --- inputs --------------------------------------------------------------------------------------


def random_routing(sizes: Sizes) -> tuple[mx.array, mx.array, int]:
    """Scores [L, E] of which many are equal, scale [E] and top_k."""
    return random_scores((sizes.L, sizes.E, sizes.K), sizes.dtype)


def random_rows(rows: int, width: int, dtype: mx.Dtype) -> mx.array:
    """Normally distributed, [rows, width]."""
    noise = np.random.default_rng(2).standard_normal((rows, width), dtype=np.float32)
    return mx.array(noise).astype(dtype)


def random_weight(sizes: Sizes, outputs: int, width: int) -> StoredWeight:
    """[E, outputs, width] of about unit gain; packed ones of random bits."""
    random = np.random.default_rng(3)
    shape = (sizes.E, outputs)
    if not sizes.bits:
        noise = random.standard_normal((*shape, width), dtype=np.float32)
        noise *= np.float32(width**-0.5)
        return StoredWeight(mx.array(noise).astype(sizes.dtype))
    words = random.integers(0, 2**32, (*shape, width * sizes.bits // 32), dtype=np.uint32)
    levels = 2**sizes.bits - 1
    scales = (0.75 + 0.5 * random.random((*shape, width // sizes.group))) * (12 / width) ** 0.5
    scales, biases = scales / levels, -scales * (0.4 + 0.2 * random.random(scales.shape))
    return StoredWeight(
        mx.array(words),
        mx.array(scales).astype(sizes.dtype),
        mx.array(biases).astype(sizes.dtype),
        QuantizationConfig("affine", sizes.bits, sizes.group),
    )


def random_plan(sizes: Sizes, reference: ModuleType) -> Plan:
    """The plan for random scores, evaluated."""
    scores, scale, top_k = random_routing(sizes)
    experts, weights = reference.route(reference.Routing(scores, scale, top_k))
    plan = plan_of(experts, weights, sizes.E)
    mx.eval(plan.arrays)
    return plan


# --- cases ---------------------------------------------------------------------------------------


class PlanCase:
    """moe_plan."""

    def __init__(self, sizes: Sizes, reference: ModuleType) -> None:
        self.scores, self.scale, self.top_k = random_routing(sizes)
        self.given = reference

    def kernel(self) -> Sequence[mx.array]:
        return launch.plan(self.scores, self.scale, self.top_k).arrays

    def reference(self) -> Sequence[mx.array]:
        routing = self.given.Routing(self.scores, self.scale, self.top_k)
        experts, weights = self.given.route(routing)
        return plan_of(experts, weights, self.scores.shape[1]).arrays

    def exact(self) -> Arrays:
        experts, weights = routed_exactly(self.given.Routing(self.scores, self.scale, self.top_k))
        rows = np.argsort(experts.reshape(-1), kind="stable")
        places = np.argsort(rows).reshape(experts.shape)
        return experts, weights, rows, places, tile_table(experts, self.scores.shape[1])


class GateUpCase:
    """moe_gate_up."""

    def __init__(self, sizes: Sizes, reference: ModuleType) -> None:
        self.plan, self.given = random_plan(sizes, reference), reference
        self.x = random_rows(sizes.L, sizes.H, sizes.dtype)
        self.weight = random_weight(sizes, 2 * sizes.I, sizes.H)
        self.matrix = reference.matrix(self.weight)

    def kernel(self) -> Sequence[mx.array]:
        return [launch.gate_up(self.x, self.matrix.stored, self.plan)]

    def reference(self) -> Sequence[mx.array]:
        plan = self.plan
        return [self.given.gate_up_sorted(self.x, self.matrix, plan.experts, plan.rows)]

    def exact(self) -> Arrays:
        rows = np.asarray(self.plan.rows)
        own = as_float64(self.x)[rows // self.plan.top_k]
        gate, up = np.split(products(own, self.weight, self.plan), 2, axis=1)
        return [gelu_tanh(gate) * up]


class DownCase:
    """moe_down."""

    def __init__(self, sizes: Sizes, reference: ModuleType) -> None:
        self.plan, self.given = random_plan(sizes, reference), reference
        self.inner = random_rows(sizes.num_rows, sizes.I, sizes.dtype)
        self.weight = random_weight(sizes, sizes.H, sizes.I)
        self.matrix = reference.matrix(self.weight)

    def kernel(self) -> Sequence[mx.array]:
        return [launch.down(self.inner, self.matrix.stored, self.plan)]

    def reference(self) -> Sequence[mx.array]:
        plan = self.plan
        return [self.given.down_sorted(self.inner, self.matrix, plan.experts, plan.rows)]

    def exact(self) -> Arrays:
        return [products(as_float64(self.inner), self.weight, self.plan)]


class CombineCase:
    """moe_combine; its outputs lie in any order."""

    def __init__(self, sizes: Sizes, reference: ModuleType) -> None:
        self.given = reference
        self.weights = reference.route(reference.Routing(*random_routing(sizes)))[1]
        self.outputs = random_rows(sizes.num_rows, sizes.H, sizes.dtype)
        random = np.random.default_rng(4)
        places = random.permutation(sizes.num_rows).reshape(self.weights.shape)
        self.places = mx.array(places.astype(np.uint32))
        self.norm = mx.array(1 + 0.25 * random.standard_normal(sizes.H)).astype(sizes.dtype)
        mx.eval(self.weights, self.norm)

    def kernel(self) -> Sequence[mx.array]:
        return [launch.combine(self.outputs, self.places, self.weights, self.norm, EPS)]

    def reference(self) -> Sequence[mx.array]:
        return [self.given.combined(self.outputs, self.places, self.weights, self.norm, EPS)]

    def exact(self) -> Arrays:
        own = as_float64(self.outputs)[np.asarray(self.places)]
        sums = np.einsum("lk,lkh->lh", as_float64(self.weights), own)
        squares = np.square(sums).mean(axis=1, keepdims=True)
        return [sums / np.sqrt(squares + EPS) * as_float64(self.norm)]


# --- in float64 ----------------------------------------------------------------------------------


def tile_table(experts: NDArray[np.integer[Any]], num_experts: int) -> NDArray[np.int64]:
    """The tiles of a plan, one after the other: (expert, first in rows, count)."""
    tiles = np.zeros((max_tiles(experts.size, num_experts), 3), np.int64)
    used = first = 0
    for expert, count in enumerate(np.bincount(experts.reshape(-1), minlength=num_experts)):
        for done in range(0, count, TILE_ROWS):
            tiles[used] = expert, first + done, min(TILE_ROWS, count - done)
            used += 1
        first += count
    return tiles


def products(rows: NDArray[np.float64], weight: StoredWeight, plan: Plan) -> NDArray[np.float64]:
    """rows [N, I] in the plan's order -> each times the weight of its expert [N, O]."""
    experts = np.asarray(plan.experts).reshape(-1)[np.asarray(plan.rows)]
    outputs = np.empty((len(rows), weight.shape[1]))
    for expert in np.unique(experts):
        own = experts == expert
        outputs[own] = rows[own] @ unpacked_exactly(weight, mx.array(expert)).T
    return outputs


def gelu_tanh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """As the reference defines it."""
    gelu: NDArray[np.float64] = 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    return gelu
