"""The mixture of experts in MLX operations: what the kernels of `experts` must agree with.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row, N = L * K.
Source: transformers `DiffusionGemmaTextRouter` and `DiffusionGemmaTextExperts`.
"""

from dataclasses import dataclass

import mlx.core as mx

from ..machine.device import on_gpu
from .elementwise import geglu
from .matrices import AnyMatrix

SORT_FROM_ROWS = 64  # below, MLX's sorted expert kernel is not taken
TILE_ROWS = 32  # rows of one expert that the kernels compute together


@dataclass(frozen=True)
class Routing:
    """What decides where rows go: scores [L, E], and one float32 factor an expert [E]."""

    scores: mx.array
    scale: mx.array
    top_k: int


@dataclass(frozen=True)
class Plan:
    """Who computes what: the experts of each row, and the rows of each expert.

    experts [L, K] uint32 and weights [L, K] float32, the highest score first; rows [N] uint32, each
    row * K + slot, by expert and ascending within one; tiles [B, 3] int32 (expert, first in rows,
    count), where B is `max_tiles` and those that this plan does not need are 0.
    """

    experts: mx.array
    weights: mx.array
    rows: mx.array
    tiles: mx.array

    @property
    def top_k(self) -> int:
        return self.experts.shape[1]


def max_tiles(num_rows: int, num_experts: int) -> int:
    """Tiles that suffice for `num_rows` (N) rows however they fall to the experts."""
    return (num_rows + (TILE_ROWS - 1) * min(num_experts, num_rows)) // TILE_ROWS


def mix(x: mx.array, routing: Routing, gate_up: AnyMatrix, down: AnyMatrix) -> mx.array:
    """x [L, H] -> the weighted sum of each row's experts [L, H]."""
    experts, weights = choose(routing)
    if on_gpu() and experts.size >= SORT_FROM_ROWS:
        rows = mx.argsort(experts.flatten())
        inner = gate_up_sorted(x, gate_up, experts, rows)
        outputs = mx.unflatten(down_sorted(inner, down, experts, rows), 0, experts.shape)
    else:
        gate, up = mx.split(gate_up.gather(mx.expand_dims(x, (1, 2)), experts, False), 2, axis=-1)
        outputs = down.gather(geglu(gate, up), experts, False).squeeze(2)
    return combine(outputs, weights)


def choose(routing: Routing) -> tuple[mx.array, mx.array]:
    """-> experts [L, K] and weights [L, K] float32.

    Ties go to the lowest expert. A softmax over the K chosen scores is the reference's softmax over
    all E followed by its renormalisation.
    """
    experts = mx.argsort(-routing.scores, axis=-1)[:, : routing.top_k]
    chosen = mx.take_along_axis(routing.scores, experts, axis=-1).astype(mx.float32)
    return experts, mx.softmax(chosen, axis=-1) * routing.scale[experts]


def plan(routing: Routing) -> Plan:
    """What `moe_plan` computes."""
    experts, weights = choose(routing)
    rows = mx.argsort(experts.flatten())
    numbers = mx.arange(routing.scores.shape[1])
    counts = (experts.flatten() == numbers[:, None]).sum(axis=1)
    starts = mx.cumsum(counts) - counts
    of_expert = (counts + TILE_ROWS - 1) // TILE_ROWS
    ends = mx.cumsum(of_expert)
    tile = mx.arange(max_tiles(rows.size, numbers.size))
    owner = (tile[:, None] >= ends).sum(axis=1)  # E for tiles that are not needed
    expert = mx.minimum(owner, numbers.size - 1)
    before = TILE_ROWS * (tile - (ends - of_expert)[expert])  # rows of the expert in its own tiles
    count = mx.minimum(counts[expert] - before, TILE_ROWS)
    tiles = mx.stack([expert, starts[expert] + before, count], axis=1)
    tiles = mx.where((owner < numbers.size)[:, None], tiles, 0)
    return Plan(experts, weights, rows, tiles.astype(mx.int32))


def gate_up_sorted(x: mx.array, gate_up: AnyMatrix, experts: mx.array, rows: mx.array) -> mx.array:
    """x [L, H], rows grouped by expert -> the inner activations of each [N, I], in that order."""
    own = mx.expand_dims(mx.take(x, rows // experts.shape[1], axis=0), 1)
    both = gate_up.gather(own, mx.take(experts.flatten(), rows), True)
    gate, up = mx.split(both, 2, axis=-1)
    return geglu(gate, up).squeeze(1)


def down_sorted(inner: mx.array, down: AnyMatrix, experts: mx.array, rows: mx.array) -> mx.array:
    """inner [N, I] in the order of `rows` -> [N, H] in the order row * K + slot."""
    outputs = down.gather(mx.expand_dims(inner, 1), mx.take(experts.flatten(), rows), True)
    return mx.take(outputs.squeeze(1), mx.argsort(rows), axis=0)


def combine(outputs: mx.array, weights: mx.array) -> mx.array:
    """outputs [L, K, H] and weights [L, K] float32 -> each row's weighted sum [L, H]."""
    return (mx.expand_dims(weights.astype(outputs.dtype), 1) @ outputs).squeeze(1)
