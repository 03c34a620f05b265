"""Rows of logits and samplers whose kept sets are compared: with numpy's, and with transformers'.

Axes: R rows, V vocabulary.
"""

from functools import cache

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_diffgemma.autoregressive.sampling import cut, kept_of_all, largest
from mlx_diffgemma.checkpoint.generation import TokenDefaults

ROWS, VOCAB = 1000, 300

# temperature, top_k, top_p, min_p
SAMPLERS = (
    TokenDefaults(),
    TokenDefaults(0.7, 64, 0.95, 0.0),
    TokenDefaults(1.6, 64, 0.9, 0.0),
    TokenDefaults(1.0, 10, 1.0, 0.0),
    TokenDefaults(1.0, 40, 1.0, 0.1),
    TokenDefaults(1.3, 200, 0.8, 0.02),
    TokenDefaults(0.5, 0, 0.9, 0.0),
    TokenDefaults(2.0, 0, 1.0, 0.05),
    TokenDefaults(1.0, 0, 1.0, 0.0),
    TokenDefaults(1.2, 0, 0.7, 0.3),
)


@cache
def random_rows() -> NDArray[np.float32]:
    """[R, V] logits from flat to sharp, no two of a row nearer to each other than 1e-5."""
    random = np.random.default_rng(14)
    scale = np.linspace(0.5, 6, ROWS)[:, None]
    logits = np.clip(random.normal(0, scale, (ROWS, VOCAB)), -29, 29).astype(np.float32)
    order = np.argsort(logits, axis=1)
    apart = np.take_along_axis(logits, order, axis=1) + np.arange(VOCAB, dtype=np.float32) * 2e-5
    np.put_along_axis(logits, order, apart, axis=1)
    logits.flags.writeable = False
    return logits


def kept_sets(logits: NDArray[np.float32], sampler: TokenDefaults) -> list[set[int]]:
    """The ids that our cuts leave of each row."""
    rows = mx.array(logits)
    peak = rows.max(axis=-1, keepdims=True)
    if sampler.top_k:
        values, ids = largest(rows, sampler.top_k)
        _, kept = cut(values, peak, sampler.temperature, sampler.top_p, sampler.min_p)
        pairs = zip(np.array(ids), np.array(kept), strict=True)
        return [set(row[mask].tolist()) for row, mask in pairs]
    weights = mx.exp((rows - peak) / sampler.temperature)
    masks = np.array(kept_of_all(rows, weights, peak, sampler))
    return [set(np.flatnonzero(mask).tolist()) for mask in masks]
