"""The plan of a mixture of experts: the rows that each expert computes, in tiles.

Axes: L rows, E experts, K experts a row, N = L * K.
"""

from dataclasses import dataclass

import mlx.core as mx

TILE_ROWS = 32  # rows of one expert that the kernels compute together


@dataclass(frozen=True)
class Plan:
    """The experts of each row, and the rows of each expert.

    experts [L, K] uint32 and weights [L, K] float32, the highest score first; rows [N] uint32, each
    row * K + slot, by expert and ascending within one; places [L, K] uint32, where each choice
    stands in rows; tiles [B, 3] int32 (expert, first in rows, count), where B is `max_tiles` and
    the tiles that this plan does not need are 0.
    """

    experts: mx.array
    weights: mx.array
    rows: mx.array
    places: mx.array
    tiles: mx.array

    @property
    def top_k(self) -> int:
        return self.experts.shape[1]

    @property
    def arrays(self) -> tuple[mx.array, mx.array, mx.array, mx.array, mx.array]:
        """The arrays in the order of moe_plan's outputs."""
        return self.experts, self.weights, self.rows, self.places, self.tiles


def max_tiles(num_rows: int, num_experts: int) -> int:
    """Number of tiles that suffices for `num_rows` (N) rows however they fall to the experts."""
    return (num_rows + (TILE_ROWS - 1) * min(num_experts, num_rows)) // TILE_ROWS


def plan_of(experts: mx.array, weights: mx.array, num_experts: int) -> Plan:
    """The plan of choices [L, K] that have been made, in MLX operations: moe_plan's reference."""
    rows = mx.argsort(experts.flatten())
    places = mx.argsort(rows).reshape(experts.shape)
    numbers = mx.arange(num_experts)
    counts = (experts.flatten() == numbers[:, None]).sum(axis=1)
    starts = mx.cumsum(counts) - counts
    of_expert = (counts + TILE_ROWS - 1) // TILE_ROWS
    ends = mx.cumsum(of_expert)
    tile = mx.arange(max_tiles(rows.size, num_experts))
    owner = (tile[:, None] >= ends).sum(axis=1)  # E for tiles that are not needed
    expert = mx.minimum(owner, num_experts - 1)
    before = TILE_ROWS * (tile - (ends - of_expert)[expert])  # rows of the expert in its own tiles
    count = mx.minimum(counts[expert] - before, TILE_ROWS)
    tiles = mx.stack([expert, starts[expert] + before, count], axis=1)
    tiles = mx.where((owner < num_experts)[:, None], tiles, 0)
    return Plan(experts, weights, rows, places, tiles.astype(mx.int32))
