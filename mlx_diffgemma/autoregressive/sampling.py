"""The sampling of one token: temperature, top_k, top_p, min_p and the draw, in MLX operations.

Axes: V vocabulary, K candidates. Order as in transformers' logits warpers: temperature, top_k,
top_p over the K renormalised, min_p.
"""

import math
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from ..checkpoint.generation import TokenDefaults
from ..diffusion.sampler import draw, first_exceeding, statistics

BLOCK = 128  # ids whose maximum is looked at in their place


@dataclass(frozen=True)
class Sampled:
    """A drawn token [1] int32; with `watched` its distribution's entropy and top probability [2].

    Both are of the model's own distribution, before temperature and cuts; entropy in nats.
    """

    token: mx.array
    seen: mx.array | None = None

    def read(self) -> int:
        """The token, once it is there."""
        token: Any = self.token.item()
        return int(token)

    def look(self) -> tuple[float, float | None]:
        """Entropy and top probability, NaN and None where nobody watches."""
        if self.seen is None:
            return math.nan, None
        entropy, top = np.array(self.seen)
        return float(entropy), float(top)


def sample(
    logits: mx.array, uniforms: mx.array, sampler: TokenDefaults, *, watched: bool = False
) -> Sampled:
    """One token from logits [1, V] float32 with uniforms [1, 2] in (0, 1)."""
    return Sampled(_drawn(logits, uniforms, sampler), _seen(logits) if watched else None)


def _seen(logits: mx.array) -> mx.array:
    found = statistics(logits)
    return mx.concatenate([found.entropy, 1 / found.total[:, 0]])


def _drawn(logits: mx.array, uniforms: mx.array, sampler: TokenDefaults) -> mx.array:
    if sampler.temperature == 0:
        return mx.argmax(logits, axis=-1).astype(mx.int32)
    processed = logits / sampler.temperature
    if sampler.top_k == 0 and sampler.top_p == 1 and sampler.min_p == 0:
        return draw(statistics(processed), uniforms)
    values, ids = candidates(processed, sampler.top_k)
    weights = mx.exp(values - values[:, :1])
    sums = mx.cumsum(weights, axis=-1)
    kept = sums - weights < sampler.top_p * sums[:, -1:]
    weights = mx.where(kept & (weights >= sampler.min_p), weights, 0.0)
    chosen = first_exceeding(weights, uniforms[:, :1])
    return mx.take_along_axis(ids, chosen, axis=-1)[:, 0]


def candidates(processed: mx.array, top_k: int) -> tuple[mx.array, mx.array]:
    """The `top_k` largest of processed [1, V], the largest first, and their ids [1, K] int32.

    Equal ones in the order of their ids; 0 for all.
    """
    vocab = processed.shape[1]
    count = min(top_k or vocab, vocab)
    order = mx.argsort(-processed, axis=-1)[:, :count].astype(mx.int32)
    return mx.take_along_axis(processed, order, axis=-1), order
