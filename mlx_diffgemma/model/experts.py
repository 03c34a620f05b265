"""The mixture of experts: the router that chooses, and the experts that compute.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row.
Source: transformers `DiffusionGemmaTextRouter` and `DiffusionGemmaTextExperts`.
"""

import mlx.core as mx

from ..device import on_gpu
from ..kernels.elementwise import geglu
from ..kernels.matrices import AnyMatrix

SORT_FROM_ROWS = 64  # below, MLX's sorted expert kernel is not taken


class Router:
    """Chooses K experts a row from the raw residual, and their weights."""

    def __init__(self, projection: AnyMatrix, per_expert_scale: mx.array, top_k: int) -> None:
        self.projection, self.top_k = projection, top_k
        self.per_expert_scale = per_expert_scale.astype(mx.float32)

    def __call__(self, x: mx.array) -> tuple[mx.array, mx.array]:
        """x [L, H], normed and scaled -> experts [L, K] and weights [L, K] float32.

        Ties go to the lowest expert. A softmax over the K chosen scores is the reference's softmax
        over all E followed by its renormalisation.
        """
        scores = self.projection(x)
        experts = mx.argsort(-scores, axis=-1)[:, : self.top_k]
        chosen = mx.take_along_axis(scores, experts, axis=-1).astype(mx.float32)
        return experts, mx.softmax(chosen, axis=-1) * self.per_expert_scale[experts]


class Experts:
    """E gated MLPs of which each row uses K."""

    def __init__(self, gate_up: AnyMatrix, down: AnyMatrix) -> None:
        self.gate_up, self.down = gate_up, down

    def __call__(self, x: mx.array, experts: mx.array, weights: mx.array) -> mx.array:
        """x [L, H], experts and weights [L, K] -> the weighted sum of the chosen experts [L, H]."""
        if on_gpu() and experts.size >= SORT_FROM_ROWS:
            outputs = self._sorted(x, experts)
        else:
            outputs = self._mlp(mx.expand_dims(x, (1, 2)), experts, ordered=False).squeeze(2)
        return (mx.expand_dims(weights.astype(x.dtype), 1) @ outputs).squeeze(1)

    def _sorted(self, x: mx.array, experts: mx.array) -> mx.array:
        """The same with rows grouped by expert, which MLX's GPU kernels want: -> [L, K, H]."""
        flat = experts.flatten()
        order = mx.argsort(flat)
        rows = mx.expand_dims(mx.take(x, order // experts.shape[1], axis=0), 1)
        outputs = self._mlp(rows, mx.take(flat, order), ordered=True).squeeze(1)
        return mx.unflatten(mx.take(outputs, mx.argsort(order), axis=0), 0, experts.shape)

    def _mlp(self, x: mx.array, experts: mx.array, ordered: bool) -> mx.array:
        gate, up = mx.split(self.gate_up.gather(x, experts, ordered), 2, axis=-1)
        return self.down.gather(geglu(gate, up), experts, ordered)
