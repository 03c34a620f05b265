"""The mixture of experts: the router that scores and routes, and the experts that it mixes.

These are the definitions in MLX operations; kernels/experts must agree with them.
Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row, N = L * K.
Source: transformers `DiffusionGemmaTextRouter` and `DiffusionGemmaTextExperts`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx
import numpy as np

from ..kernels.experts.mix import mix as mix_by_kernels
from ..kernels.experts.mixture import Mixture, Operations
from ..kernels.experts.plan import places_of
from ..kernels.router import trial as router_kernel
from ..machine import device
from ..machine.choices import Preference
from ..machine.device import on_gpu
from .elementwise import Norm, geglu, rms_norm
from .matrices import AnyMatrix
from .matrices import matrix as matrix  # the checks of kernels/experts take it from here

# Rows of all experts together, from which they are sorted by expert, or computed in tiles by
# this project's kernels. Of fewer an expert has one or two: MLX's vector kernel reads no more.
SORT_FROM_ROWS = 64
KEPT_ROWS = 256  # of a canvas, and fewer


Activation = Callable[[mx.array, mx.array], mx.array]  # gate, up -> inner activations


@dataclass(frozen=True)
class Routing:
    """Scores [L, E] of the router, one float32 factor an expert [E], and the experts a row."""

    scores: mx.array
    scale: mx.array
    top_k: int


class Router:
    """The scores of all experts for a row, from the raw residual; the K best are used."""

    def __init__(self, projection: AnyMatrix, per_expert_scale: mx.array, top_k: int) -> None:
        self.projection, self.top_k = projection, top_k
        self.per_expert_scale = per_expert_scale.astype(mx.float32)

    def __call__(self, x: mx.array) -> Routing:
        """x [L, H], normed and scaled -> the scores and all that `route` needs."""
        return Routing(self.projection(x), self.per_expert_scale, self.top_k)


@dataclass
class Experts:
    """E gated MLPs, K for each row: gate_up [E, 2I, H], gate rows first, and down [E, H, I].

    norm_weight [H] and eps: of the norm of their sum; without `normed` the sum is left as it is,
    for one of several that are added up before `norm_sum`. own: the numbers of the experts that
    gate_up and down hold, of those that the router chooses from; None: all. Others add nothing.
    """

    gate_up: AnyMatrix
    down: AnyMatrix
    norm_weight: mx.array
    eps: float
    kernels: Preference = "auto"
    activation: Activation = geglu
    in_operations: bool = False  # leave out the kernels, which have no gradient and know no adapter
    norm: Norm = rms_norm
    own: range | None = None
    normed: bool = True

    def __call__(self, x: mx.array, routing: Routing) -> mx.array:
        """x [L, H] -> the weighted sum of the experts chosen for each row, normed [L, H]."""
        if (
            self.in_operations or not device.has_metal()
        ):  # first: the rest costs a hundredth of a small layer's time
            return self.reference(x, routing)
        if x.shape[0] * routing.top_k < SORT_FROM_ROWS:
            experts, weights = router_kernel.route(routing, route, self.kernels)
            return self._whole(self._mixed(x, experts, weights))
        return mix_by_kernels(self.mixture(x, routing), self.kernels)

    def mixture(self, x: mx.array, routing: Routing) -> Mixture[Routing]:
        """The mixture of x [L, H] as the kernels take it."""
        gate_up, down = self.gate_up.stored, self.down.stored
        add_up = combined if self.own is None else combined_own
        operations = Operations(route, self.products, add_up, self.reference)
        norm = self.norm_weight if self.normed else None
        return Mixture(x, routing, gate_up, down, norm, self.eps, operations, self.own)

    def reference(self, x: mx.array, routing: Routing) -> mx.array:
        """The same in MLX operations."""
        return self._whole(self.mixed(x, routing))

    def mixed(self, x: mx.array, routing: Routing) -> mx.array:
        """x [L, H] -> the weighted sum of the experts chosen for each row [L, H]."""
        return self._mixed(x, *route(routing))

    def products(self, x: mx.array, experts: mx.array, rows: mx.array) -> mx.array:
        """x [L, H], experts [L, K], rows [N] grouped by expert -> outputs [N, H] in that order.

        Rows of an expert that is not own meet the nearest own one: their number is known only once
        they are computed, so that leaving them out would make the host wait.
        """
        if self.own is not None:  # ascending numbers stay so
            experts = mx.clip(experts, self.own.start, self.own.stop - 1) - self.own.start
        inner = gate_up_sorted(x, self.gate_up, experts, rows, self.activation)
        return down_sorted(inner, self.down, experts, rows)

    def norm_sum(self, mixed: mx.array) -> mx.array:
        """The norm of the sum of all experts of each row [L, H]."""
        return self.norm(mixed, self.norm_weight, self.eps)

    def _whole(self, mixed: mx.array) -> mx.array:
        return self.norm_sum(mixed) if self.normed else mixed

    def _mixed(self, x: mx.array, experts: mx.array, weights: mx.array) -> mx.array:
        if self.own is None:
            return mix(x, experts, weights, self.gate_up, self.down, self.activation)
        rows = mx.argsort(experts.flatten())
        places = places_of(rows, experts, self.own)
        return combined_own(self.products(x, experts, rows), places, weights, None, self.eps)


def route(routing: Routing) -> tuple[mx.array, mx.array]:
    """Experts [L, K] of each row, the highest score first, and their weights [L, K] float32.

    Ties go to the lowest expert. A softmax over the K chosen scores is the reference's softmax over
    all E followed by its renormalisation.
    """
    ranked = mx.stop_gradient(mx.argsort(-routing.scores, axis=-1))  # which ones has no gradient
    experts = ranked[:, : routing.top_k]
    chosen = mx.take_along_axis(routing.scores, experts, axis=-1).astype(mx.float32)
    return experts, mx.softmax(chosen, axis=-1) * routing.scale[experts]


def mix(
    x: mx.array,
    experts: mx.array,
    weights: mx.array,
    gate_up: AnyMatrix,
    down: AnyMatrix,
    activation: Activation = geglu,
) -> mx.array:
    """x [L, H], experts and weights [L, K] -> the weighted sum of each row's experts [L, H]."""
    if x.shape[0] >= gate_up.sorts_from or (on_gpu() and experts.size >= SORT_FROM_ROWS):
        rows = mx.argsort(experts.flatten())
        inner = gate_up_sorted(x, gate_up, experts, rows, activation)
        places = mx.argsort(rows).reshape(experts.shape)
        outputs = by_slot(down_sorted(inner, down, experts, rows), places)
    else:
        of_x, of_inner = slots(*experts.shape)
        both = gate_up.gather(mx.expand_dims(x, (1, 2)), of_x, experts)
        gate, up = mx.split(both, 2, axis=-1)
        outputs = down.gather(activation(gate, up), of_inner, experts).squeeze(2)
    return combine(outputs, weights)


def slots(rows: int, top_k: int) -> tuple[mx.array, mx.array]:
    """The numbers of the row and of the slot of each choice, [L, K] uint32 both.

    MLX makes such numbers anew at every product that is given none: a launch each. Those of a token
    or a canvas are kept; a prompt's would hold memory that nobody plans.
    """
    return (_kept_slots if rows <= KEPT_ROWS else _slots)(rows, top_k)


def _slots(rows: int, top_k: int) -> tuple[mx.array, mx.array]:
    numbers = np.arange(rows * top_k, dtype=np.uint32).reshape(rows, top_k)
    return mx.array(numbers // top_k), mx.array(numbers)


_kept_slots = lru_cache(maxsize=16)(_slots)


def gate_up_sorted(
    x: mx.array,
    gate_up: AnyMatrix,
    experts: mx.array,
    rows: mx.array,
    activation: Activation = geglu,
) -> mx.array:
    """x [L, H], rows grouped by expert -> the inner activations of each [N, I], in that order."""
    own = mx.expand_dims(mx.take(x, rows // experts.shape[1], axis=0), 1)
    both = gate_up.gather(own, None, mx.take(experts.flatten(), rows))
    gate, up = mx.split(both, 2, axis=-1)
    return activation(gate, up).squeeze(1)


def down_sorted(inner: mx.array, down: AnyMatrix, experts: mx.array, rows: mx.array) -> mx.array:
    """inner [N, I] -> outputs [N, H], both in the order of `rows`."""
    own = mx.take(experts.flatten(), rows)
    return down.gather(mx.expand_dims(inner, 1), None, own).squeeze(1)


def by_slot(outputs: mx.array, places: mx.array) -> mx.array:
    """outputs [N, H] in any order, places [L, K] of each choice in it -> [L, K, H]."""
    return mx.take(outputs, places, axis=0)


def combine(outputs: mx.array, weights: mx.array) -> mx.array:
    """outputs [L, K, H] and weights [L, K] float32 -> each row's weighted sum [L, H]."""
    return (mx.expand_dims(weights.astype(outputs.dtype), 1) @ outputs).squeeze(1)


def combined(
    outputs: mx.array, places: mx.array, weights: mx.array, norm: mx.array | None, eps: float
) -> mx.array:
    """outputs [N, H], places and weights [L, K] -> each row's weighted sum, normed [L, H].

    norm [H]: the norm's weight; None: the sum as it is.
    """
    return _norm(combine(by_slot(outputs, places), weights), norm, eps)


def combined_own(
    outputs: mx.array, places: mx.array, weights: mx.array, norm: mx.array | None, eps: float
) -> mx.array:
    """The same of own experts: a choice whose place is NOWHERE adds nothing.

    Its output need not have been made: whatever stands there, NaN too, is not looked at.
    """
    own = places < outputs.shape[0]
    found = mx.where(own[..., None], by_slot(outputs, mx.where(own, places, 0)), 0)
    return _norm(combine(found, weights), norm, eps)


def _norm(mixed: mx.array, norm: mx.array | None, eps: float) -> mx.array:
    return mixed if norm is None else rms_norm(mixed, norm, eps)
