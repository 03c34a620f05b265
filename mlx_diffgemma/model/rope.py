"""Rotary position embedding.

Axes: L positions, D head dimension.
"""

import math

import mlx.core as mx

from ..checkpoint.config import LayerConfig


class Rope:
    """Rotary position embedding of one layer kind; turns the pairs (d, d + D/2).

    A "proportional" layer turns only the first `rotary_fraction` of its D/2 pairs, with exponents
    over the full D: the others have an infinite period (`mx.fast.rope` takes periods). Source:
    transformers `modeling_rope_utils._compute_proportional_rope_parameters`.
    """

    def __init__(self, layer: LayerConfig) -> None:
        self.layer, self.head_dim = layer, layer.head_dim
        pairs = layer.head_dim // 2
        turning = int(layer.rotary_fraction * layer.head_dim // 2)
        exponents = mx.arange(turning, dtype=mx.float32) * (2.0 / layer.head_dim)
        periods = mx.power(mx.array(layer.rope_theta, dtype=mx.float32), exponents)
        self.periods = mx.concatenate([periods, mx.full((pairs - turning,), math.inf)])

    def __call__(self, x: mx.array, offset: int | mx.array) -> mx.array:
        """x [B, heads, L, D] at positions offset, offset + 1, ... -> the same, turned.

        offset: one for all, or one for each of the batch [B].
        """
        return mx.fast.rope(
            x,
            self.head_dim,
            traditional=False,
            base=None,
            scale=1.0,
            offset=offset,
            freqs=self.periods,
        )
