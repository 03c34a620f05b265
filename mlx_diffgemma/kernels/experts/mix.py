"""A mixture of experts by the kernels of two families, of one, or by MLX's operations."""

from functools import partial
from typing import Any

import mlx.core as mx

from ...machine.choices import Preference
from . import launch, plan_trial, trial
from .mixture import Mixture
from .plan import TILE_ROWS, plan_of


def mix(mixture: Mixture[Any], preference: Preference = "auto") -> mx.array:
    """The weighted sum of each row's experts [L, H], normed or of own ones alone; see Mixture."""
    found = trial.tile_rows(mixture, preference)
    multiplied, tile_rows = found is not None, found or TILE_ROWS
    planned = plan_trial.chosen(mixture, preference, tile_rows)
    if not (planned or multiplied):
        return mixture.operations.whole(mixture.x, mixture.routing)
    return mix_by(mixture, planned=planned, multiplied=multiplied, tile_rows=tile_rows)


def mix_by(
    mixture: Mixture[Any], *, planned: bool, multiplied: bool, tile_rows: int = TILE_ROWS
) -> mx.array:
    """The mixture with plan and combination, and with products, in kernels or in operations."""
    x, routing, operations = mixture.x, mixture.routing, mixture.operations
    if planned:
        plan = launch.plan(routing.scores, routing.scale, routing.top_k, mixture.own, tile_rows)
    else:
        choices = operations.route(routing)
        plan = plan_of(*choices, mixture.num_experts, mixture.own, tile_rows)
    if multiplied:
        outputs = trial.in_kernels(x, mixture.gate_up, mixture.down, plan)
    else:
        outputs = operations.products(x, plan.experts, plan.rows)
    combine = partial(launch.combine, part=plan.part) if planned else operations.combined
    return combine(outputs, plan.places, plan.weights, mixture.norm, mixture.eps)
