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
from .plan import NOWHERE, TILE_ROWS, Plan, max_tiles, plan_of, tiles_of

Arrays = Sequence[NDArray[Any]]
EPS = 1e-6  # of the norm of a sum


@dataclass(frozen=True)
class Sizes:
    """Of one case; bits and group 0: weights that are not packed; own: experts at hand, None: all.

    normed: whether the sum is.
    """

    L: int
    E: int
    K: int
    H: int
    I: int  # noqa: E741
    dtype: mx.Dtype
    bits: int = 0
    group: int = 0
    tile_rows: int = TILE_ROWS
    own: range | None = None
    normed: bool = True

    @property
    def held(self) -> int:
        """Number of experts at hand."""
        return self.E if self.own is None else len(self.own)

    @property
    def num_rows(self) -> int:
        """N, what the experts compute."""
        return self.L * self.K

    def __str__(self) -> str:
        packing = f"{self.bits}-bit groups of {self.group}" if self.bits else "not packed"
        return (
            f"{dtype_name(self.dtype)}, {packing}, {tiles_of(self.tile_rows)}, {self.L} rows, "
            f"{self.K} of {self.E} experts, {self.H} x {self.I}"
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
    """[held, outputs, width] of about unit gain; packed ones of random bits."""
    random = np.random.default_rng(3)
    shape = (sizes.held, outputs)
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
    plan = plan_of(experts, weights, sizes.E, sizes.own, sizes.tile_rows)
    mx.eval(plan.arrays)
    return plan


# --- cases ---------------------------------------------------------------------------------------


class PlanCase:
    """moe_plan."""

    def __init__(self, sizes: Sizes, reference: ModuleType) -> None:
        self.scores, self.scale, self.top_k = random_routing(sizes)
        self.own, self.tile_rows, self.given = sizes.own, sizes.tile_rows, reference

    def kernel(self) -> Sequence[mx.array]:
        return launch.plan(self.scores, self.scale, self.top_k, self.own, self.tile_rows).arrays

    def reference(self) -> Sequence[mx.array]:
        routing = self.given.Routing(self.scores, self.scale, self.top_k)
        experts, weights = self.given.route(routing)
        num_experts = self.scores.shape[1]
        return plan_of(experts, weights, num_experts, self.own, self.tile_rows).arrays

    def exact(self) -> Arrays:
        experts, weights = routed_exactly(self.given.Routing(self.scores, self.scale, self.top_k))
        rows = np.argsort(experts.reshape(-1), kind="stable")
        held = range(self.scores.shape[1]) if self.own is None else self.own
        own = (experts >= held.start) & (experts < held.stop)
        places = np.where(own, np.argsort(rows).reshape(experts.shape), NOWHERE)
        return experts, weights, rows, places, tile_table(experts, held, self.tile_rows)


class GateUpCase:
    """moe_gate_up."""

    def __init__(self, sizes: Sizes, reference: ModuleType) -> None:
        self.plan, self.given = random_plan(sizes, reference), reference
        self.x = random_rows(sizes.L, sizes.H, sizes.dtype)
        self.weight = random_weight(sizes, 2 * sizes.I, sizes.H)
        self.matrix = reference.matrix(self.weight)

    def kernel(self) -> Sequence[mx.array]:
        return [own_rows(launch.gate_up(self.x, self.matrix.stored, self.plan), self.plan)]

    def reference(self) -> Sequence[mx.array]:
        numbers, rows = own_numbers(self.plan), self.plan.rows
        made: mx.array = self.given.gate_up_sorted(self.x, self.matrix, numbers, rows)
        return [own_rows(made, self.plan)]

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
        return [own_rows(launch.down(self.inner, self.matrix.stored, self.plan), self.plan)]

    def reference(self) -> Sequence[mx.array]:
        numbers, rows = own_numbers(self.plan), self.plan.rows
        made: mx.array = self.given.down_sorted(self.inner, self.matrix, numbers, rows)
        return [own_rows(made, self.plan)]

    def exact(self) -> Arrays:
        return [products(as_float64(self.inner), self.weight, self.plan)]


class CombineCase:
    """moe_combine; its outputs lie in any order, those of experts that are not own are NaN."""

    def __init__(self, sizes: Sizes, reference: ModuleType) -> None:
        self.given, self.part = reference, sizes.own is not None
        experts, self.weights = reference.route(reference.Routing(*random_routing(sizes)))
        random = np.random.default_rng(4)
        places = random.permutation(sizes.num_rows).reshape(experts.shape)
        held = range(sizes.E) if sizes.own is None else sizes.own
        self.own = np.isin(np.asarray(experts), held)
        self.outputs = random_rows(sizes.num_rows, sizes.H, sizes.dtype)
        self.outputs[mx.array(places[~self.own])] = float("nan")
        self.places = mx.array(np.where(self.own, places, NOWHERE).astype(np.uint32))
        even = mx.array(1 + 0.25 * random.standard_normal(sizes.H)).astype(sizes.dtype)
        self.norm = even if sizes.normed else None
        mx.eval(self.weights, self.outputs, even)

    def kernel(self) -> Sequence[mx.array]:
        given = (self.outputs, self.places, self.weights, self.norm, EPS)
        return [launch.combine(*given, part=self.part)]

    def reference(self) -> Sequence[mx.array]:
        combined = self.given.combined_own if self.part else self.given.combined
        return [combined(self.outputs, self.places, self.weights, self.norm, EPS)]

    def exact(self) -> Arrays:
        found = as_float64(self.outputs)[np.where(self.own, np.asarray(self.places), 0)]
        found[~self.own] = 0
        sums = np.einsum("lk,lkh->lh", as_float64(self.weights), found)
        if self.norm is None:
            return [sums]
        squares = np.square(sums).mean(axis=1, keepdims=True)
        return [sums / np.sqrt(squares + EPS) * as_float64(self.norm)]


# --- in float64 ----------------------------------------------------------------------------------


def tile_table(experts: NDArray[np.integer[Any]], held: range, tile_rows: int) -> NDArray[np.int64]:
    """The tiles of a plan, one after the other: (expert, first in rows, count)."""
    tiles = np.zeros((max_tiles(experts.size, len(held), tile_rows), 3), np.int64)
    counts = np.bincount(experts.reshape(-1), minlength=held.stop)
    used = 0
    for number, expert in enumerate(held):
        for done in range(0, counts[expert], tile_rows):
            first = counts[:expert].sum() + done
            tiles[used] = number, first, min(tile_rows, counts[expert] - done)
            used += 1
    return tiles


def products(rows: NDArray[np.float64], weight: StoredWeight, plan: Plan) -> NDArray[np.float64]:
    """rows [N, I] in the plan's order -> own ones times the weight of their expert [own, O]."""
    first = 0 if plan.own is None else plan.own.start
    experts, own = _experts_in_order(plan), owned(plan)
    outputs = np.empty((len(rows), weight.shape[1]))
    for expert in np.unique(experts[own]):
        these = experts == expert
        outputs[these] = rows[these] @ unpacked_exactly(weight, mx.array(expert - first)).T
    return outputs[own]


def owned(plan: Plan) -> NDArray[np.bool_]:
    """True for the rows [N] of own experts, in the plan's order."""
    experts = _experts_in_order(plan)
    return np.ones(len(experts), bool) if plan.own is None else np.isin(experts, plan.own)


def _experts_in_order(plan: Plan) -> NDArray[np.uint32]:
    experts: NDArray[np.uint32] = np.asarray(plan.experts).reshape(-1)[np.asarray(plan.rows)]
    return experts


def own_rows(outputs: mx.array, plan: Plan) -> mx.array:
    """The rows of own experts, of outputs [N, O]: the others are never written."""
    return outputs if plan.own is None else outputs[mx.array(np.flatnonzero(owned(plan)))]


def own_numbers(plan: Plan) -> mx.array:
    """Experts [L, K] counted from the first own one; others are the nearest."""
    if plan.own is None:
        return plan.experts
    return mx.clip(plan.experts, plan.own.start, plan.own.stop - 1) - plan.own.start


def gelu_tanh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """As the reference defines it."""
    gelu: NDArray[np.float64] = 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    return gelu
