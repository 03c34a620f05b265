"""The plan of a mixture of experts: the rows that each expert computes, in tiles.

Axes: L rows, E experts, K experts a row, N = L * K.
"""

from dataclasses import dataclass

import mlx.core as mx

TILE_ROWS = 32  # rows of one expert that the kernels compute together, where no trial said 16
HEIGHTS = (TILE_ROWS, 16)  # of the tiles there are kernels for
NOWHERE = 2**32 - 1  # the place of a choice that nobody computes here


@dataclass(frozen=True)
class Plan:
    """The experts of each row, and the rows of each expert.

    experts [L, K] uint32 and weights [L, K] float32, the highest score first; rows [N] uint32, each
    row * K + slot, by expert and ascending within one; places [L, K] uint32, where each choice
    stands in rows, NOWHERE for one of an expert that is not own; tiles [B, 3] int32 (expert,
    counted from the first own one, first in rows, count) of own experts, where B is `max_tiles` and
    the tiles that this plan does not need are 0. own: the experts that are, None: all; tile_rows:
    the most rows of a tile.
    """

    experts: mx.array
    weights: mx.array
    rows: mx.array
    places: mx.array
    tiles: mx.array
    own: range | None = None
    tile_rows: int = TILE_ROWS

    @property
    def part(self) -> bool:
        """True where experts are missing, whose rows nobody computes."""
        return self.own is not None

    @property
    def top_k(self) -> int:
        return self.experts.shape[1]

    @property
    def arrays(self) -> tuple[mx.array, mx.array, mx.array, mx.array, mx.array]:
        """The arrays in the order of moe_plan's outputs."""
        return self.experts, self.weights, self.rows, self.places, self.tiles


def max_tiles(num_rows: int, num_experts: int, tile_rows: int = TILE_ROWS) -> int:
    """Number of tiles that suffices for `num_rows` (N) rows however they fall to the experts."""
    return (num_rows + (tile_rows - 1) * min(num_experts, num_rows)) // tile_rows


def plan_of(
    experts: mx.array,
    weights: mx.array,
    num_experts: int,
    own: range | None = None,
    tile_rows: int = TILE_ROWS,
) -> Plan:
    """The plan of choices [L, K] that have been made, in MLX operations: moe_plan's reference."""
    rows = mx.argsort(experts.flatten())
    places = places_of(rows, experts, own)
    numbers = mx.arange(num_experts)
    counts = (experts.flatten() == numbers[:, None]).sum(axis=1)
    starts, held = mx.cumsum(counts) - counts, num_experts
    if own is not None:
        counts, starts = (of_all[own.start : own.stop] for of_all in (counts, starts))
        held = len(own)
    of_expert = (counts + tile_rows - 1) // tile_rows
    ends = mx.cumsum(of_expert)
    tile = mx.arange(max_tiles(rows.size, held, tile_rows))
    owner = (tile[:, None] >= ends).sum(axis=1)  # held for tiles that are not needed
    expert = mx.minimum(owner, held - 1)
    before = tile_rows * (tile - (ends - of_expert)[expert])  # rows of the expert in its own tiles
    count = mx.minimum(counts[expert] - before, tile_rows)
    tiles = mx.stack([expert, starts[expert] + before, count], axis=1)
    tiles = mx.where((owner < held)[:, None], tiles, 0).astype(mx.int32)
    return Plan(experts, weights, rows, places, tiles, own, tile_rows)


def tiles_of(tile_rows: int) -> str:
    """The height of tiles in words, for keys and reports."""
    return f"tiles of {tile_rows} rows"


def places_of(rows: mx.array, experts: mx.array, own: range | None) -> mx.array:
    """Where each choice [L, K] stands in rows [N]; NOWHERE: one of an expert that is not own."""
    places = mx.argsort(rows).reshape(experts.shape)
    if own is None:
        return places
    held = (experts >= own.start) & (experts < own.stop)
    return mx.where(held, places, mx.array(NOWHERE, mx.uint32))
