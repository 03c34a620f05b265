"""The router's choices in measured steps: experts used, rows of each, and what tiles make of them.

Axes: S fenced steps, L layers, E experts of a layer, C canvas positions.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.config import ModelConfig
from ..kernels.experts.trial import tile_rows_of
from ..model.bits import BitsOf
from ..model.experts import Routing, route
from ..model.work import expert_bytes
from .samples import CanvasRecord

GRANULE = 8  # rows of a simdgroup's matrix: a tile is multiplied in steps of so many
BUCKETS = (0, 8, 16, 24, 32, 64)  # rows of an expert up to which it falls into one; more: the last

Rows = NDArray[np.uint16]
"""Rows of each expert of each layer [L, E] in one step."""


def rows_per_expert(routings: Sequence[Routing]) -> Rows:
    """The rows that the router gives each expert, from its scores of every layer of a step."""
    chosen = [route(routing)[0] for routing in routings]
    mx.eval(chosen)
    counts = [
        np.bincount(np.array(experts).ravel(), minlength=routing.scores.shape[1])
        for experts, routing in zip(chosen, routings, strict=True)
    ]
    return np.array(counts, np.uint16)


def routing_row(
    canvases: Sequence[CanvasRecord], config: ModelConfig, bits: BitsOf
) -> dict[str, Any] | None:
    """The figures of the router's choices; None where no step was repeated with fences."""
    steps = [part.expert_rows for canvas in canvases for part in canvas.parts]
    if not steps:
        return None
    rows = np.array(steps, np.int64)  # [S, L, E]
    touched = (rows > 0).sum(axis=2)
    mean = float(touched.mean())
    tile_rows = tile_rows_of(int(rows[0, 0].sum()) // config.text.top_k_experts)
    return {
        "experts": config.text.num_experts,
        "used": config.text.top_k_experts,
        "touched": {"mean": mean, "least": int(touched.min()), "most": int(touched.max())},
        "touched_by_step": _by_step(canvases),
        "rows_per_expert": _histogram(rows),
        "tile_rows": tile_rows,
        "granule_rows": GRANULE,
        "tiles": float(_blocks(rows, tile_rows).sum(axis=2).mean()),
        "tile_waste": _waste(rows, tile_rows),
        "granule_waste": _waste(rows, GRANULE),
        "expert_bytes": expert_bytes(config, mean, bits),
    }


def _by_step(canvases: Sequence[CanvasRecord]) -> list[float]:
    """Experts used of a layer, mean at each step of a canvas: early ones are mostly noise."""
    longest = max(len(canvas.parts) for canvas in canvases)
    at = [[c.parts[n] for c in canvases if n < len(c.parts)] for n in range(longest)]
    return [float(np.mean([np.count_nonzero(p.expert_rows, axis=1) for p in ps])) for ps in at]


def _histogram(rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Experts of a layer by their rows in a step, on average."""
    bucket = np.searchsorted(BUCKETS, rows.ravel())
    counts = np.bincount(bucket, minlength=len(BUCKETS) + 1)
    layers = rows.shape[0] * rows.shape[1]
    lower = [0, *(most + 1 for most in BUCKETS)]
    upper = [*BUCKETS, None]
    return [
        {"least": least, "most": most, "experts": float(count / layers)}
        for least, most, count in zip(lower, upper, counts, strict=True)
    ]


def _blocks(rows: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return -(-rows // size)


def _waste(rows: NDArray[np.int64], size: int) -> float:
    """The share of computed rows that belong to no token, in blocks of `size` rows of an expert."""
    return 1 - float(rows.sum() / (size * _blocks(rows, size).sum()))
