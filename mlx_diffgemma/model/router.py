"""The mixture of experts: the router that scores, and the experts that compute.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row.
Source: transformers `DiffusionGemmaTextRouter` and `DiffusionGemmaTextExperts`.
"""

from dataclasses import dataclass

import mlx.core as mx

from ..kernels.experts.trial import mix
from ..machine.choices import Wish
from .experts import Routing
from .matrices import AnyMatrix


class Router:
    """Scores all experts for a row, from the raw residual; the K best are used."""

    def __init__(self, projection: AnyMatrix, per_expert_scale: mx.array, top_k: int) -> None:
        self.projection, self.top_k = projection, top_k
        self.per_expert_scale = per_expert_scale.astype(mx.float32)

    def __call__(self, x: mx.array) -> Routing:
        """x [L, H], normed and scaled -> scores [L, E] and what else chooses and weighs."""
        return Routing(self.projection(x), self.per_expert_scale, self.top_k)


@dataclass
class Experts:
    """E gated MLPs of which each row uses K: gate_up [E, 2I, H], down [E, H, I]."""

    gate_up: AnyMatrix
    down: AnyMatrix
    kernels: Wish = "auto"

    def __call__(self, x: mx.array, routing: Routing) -> mx.array:
        """x [L, H] -> the weighted sum of the experts chosen for each row [L, H]."""
        return mix(x, routing, self.gate_up, self.down, self.kernels)
