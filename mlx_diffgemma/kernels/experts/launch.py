"""The four launches of the mixture of experts: metal/moe_*.metal say what each computes.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row, N = L * K.
"""

import mlx.core as mx

from ...checkpoint.tensors import StoredWeight
from ...errors import KernelError
from ..launch import Kernel, expect, expect_rank
from ..router.launch import expect_sizes
from ..weights import DTYPES, packing_template, weight_inputs
from .plan import HEIGHTS, TILE_ROWS, Plan, max_tiles

MAX_ROWS = 512  # what moe_plan has threadgroup memory for
MAX_VALUES = 2**31  # of one weight: kernels count them in 32 bits
STEP = 32  # rows are whole steps of so many values
NEIGHBOURS = 4  # values that a thread of moe_combine makes side by side
MAX_SIMDGROUPS = 32  # of a threadgroup

# The products read rows 16 bytes at a time. Arrays begin at a multiple of that, and so do views of
# whole rows, since a row is a multiple of 64 bytes: only a view from within a row would not.

PLAN = Kernel(
    "moe_plan",
    ("scores", "scale"),
    ("experts", "weights", "rows", "places", "tiles"),
    headers=("top_experts",),
)
GATE_UP = Kernel(
    "moe_gate_up",
    ("x", "weight", "scales", "biases", "rows", "tiles"),
    ("inner",),
    headers=("unpack", "expert_tile"),
)
DOWN = Kernel(
    "moe_down",
    ("inner", "weight", "scales", "biases", "tiles"),
    ("outputs",),
    headers=("unpack", "expert_tile"),
)
COMBINE = Kernel("moe_combine", ("outputs", "places", "weights", "norm", "eps"), ("mixed",))


def plan(
    scores: mx.array,
    scale: mx.array,
    top_k: int,
    own: range | None = None,
    tile_rows: int = TILE_ROWS,
) -> Plan:
    """The experts of each row by its scores [L, E], weights times scale [E], and their rows.

    Tiles of `tile_rows` rows are made of the experts that are `own`; None: of all.
    """
    expect_sizes(PLAN.name, scores, top_k, MAX_ROWS)
    rows, num_experts = scores.shape
    if tile_rows not in HEIGHTS:
        raise KernelError(f"{PLAN.name}: tiles of {tile_rows} rows, expected one of {HEIGHTS}.")
    held = range(num_experts) if own is None else own
    if not 0 <= held.start < held.stop <= num_experts or held.step != 1:
        raise KernelError(f"{PLAN.name}: own experts are {own}, expected some of {num_experts}.")
    expect(PLAN.name, "scores", scores, (rows, num_experts), *DTYPES)
    expect(PLAN.name, "scale", scale, (num_experts,), mx.float32)
    made = PLAN.launch(
        (scores, scale),
        [
            ((rows, top_k), mx.uint32),
            ((rows, top_k), mx.float32),
            ((rows * top_k,), mx.uint32),
            ((rows, top_k), mx.uint32),
            ((max_tiles(rows * top_k, len(held), tile_rows), 3), mx.int32),
        ],
        template=[
            ("E", num_experts),
            ("TOP_K", top_k),
            ("FIRST", held.start),
            ("HELD", len(held)),
            ("ROWS", tile_rows),
        ],
        groups=(1, 1, 1),
        threads=(512, 1, 1),
    )
    experts, weights, ordered, places, tiles = made
    return Plan(experts, weights, ordered, places, tiles, own, tile_rows)


def gate_up(x: mx.array, weight: StoredWeight, made: Plan) -> mx.array:
    """x [L, H] and weight [E, 2I, H] -> geglu(gate, up) [N, I], in the order of the plan's rows."""
    expect_rank(GATE_UP.name, "weight", weight.weight, 3)
    _, both, hidden = weight.shape
    num_rows = made.rows.size
    if both % 2:
        raise KernelError(f"{GATE_UP.name}: {both} outputs, expected a gate and an up for each.")
    expect(GATE_UP.name, "x", x, (num_rows // made.top_k, hidden), *DTYPES)
    _expect_plan(GATE_UP.name, made, weight)
    (inner,) = GATE_UP.launch(
        (x, *_inputs(GATE_UP.name, weight, x.dtype), made.rows, made.tiles),
        [((num_rows, both // 2), x.dtype)],
        template=[
            ("T", x.dtype),
            *packing_template(weight),
            ("HIDDEN", hidden),
            ("INNER", both // 2),
            ("TOP_K", made.top_k),
            ("ROWS", made.tile_rows),
        ],
        groups=(-(-both // 128), made.tiles.shape[0], 1),  # 64 gates and their 64 ups each
        threads=(128, 1, 1),
    )
    return inner


def down(inner: mx.array, weight: StoredWeight, made: Plan) -> mx.array:
    """inner [N, I] and weight [E, H, I] -> [N, H], all in the order of the plan's rows."""
    expect_rank(DOWN.name, "weight", weight.weight, 3)
    _, hidden, width = weight.shape
    num_rows = made.rows.size
    expect(DOWN.name, "inner", inner, (num_rows, width), *DTYPES)
    _expect_plan(DOWN.name, made, weight)
    (outputs,) = DOWN.launch(
        (inner, *_inputs(DOWN.name, weight, inner.dtype), made.tiles),
        [((num_rows, hidden), inner.dtype)],
        template=[
            ("T", inner.dtype),
            *packing_template(weight),
            ("HIDDEN", hidden),
            ("INNER", width),
            ("ROWS", made.tile_rows),
        ],
        groups=(-(-hidden // 128), made.tiles.shape[0], 1),
        threads=(128, 1, 1),
    )
    return outputs


def combine(
    outputs: mx.array,
    places: mx.array,
    weights: mx.array,
    norm: mx.array | None,
    eps: float,
    *,
    part: bool = False,
) -> mx.array:
    """outputs [N, H], places and weights [L, K] -> each row's weighted sum, normed [L, H].

    norm [H]: the norm's weight; None: the sum as it is. part: places may be NOWHERE, and such
    a choice adds nothing.
    """
    name = COMBINE.name
    expect_rank(name, "outputs", outputs, 2)
    expect_rank(name, "weights", weights, 2)
    (rows, top_k), hidden = weights.shape, outputs.shape[1]
    expect(name, "outputs", outputs, (rows * top_k, hidden), *DTYPES)
    expect(name, "places", places, (rows, top_k), mx.uint32)
    expect(name, "weights", weights, (rows, top_k), mx.float32)
    if norm is not None:
        expect(name, "norm", norm, (hidden,), outputs.dtype)
    if hidden % NEIGHBOURS:
        raise KernelError(f"{name}: rows of {hidden} values, expected a multiple of {NEIGHBOURS}.")
    simdgroups = min(MAX_SIMDGROUPS, -(-hidden // (32 * NEIGHBOURS)))
    given = outputs if norm is None else norm
    (mixed,) = COMBINE.launch(
        (outputs, places, weights, given, mx.array([eps], mx.float32)),
        [((rows, hidden), outputs.dtype)],
        template=[
            ("T", outputs.dtype),
            ("TOP_K", top_k),
            ("HIDDEN", hidden),
            ("SIMDGROUPS", simdgroups),
            ("PART", part),
            ("NORMED", norm is not None),
        ],
        groups=(rows, 1, 1),
        threads=(32 * simdgroups, 1, 1),
    )
    return mixed


def _inputs(
    kernel: str, stored: StoredWeight, dtype: mx.Dtype
) -> tuple[mx.array, mx.array, mx.array]:
    """Weight, scales and biases of all experts; KernelError for what the kernel cannot read."""
    experts, outputs, width = stored.shape
    if width % STEP or experts * outputs * width > MAX_VALUES:
        raise KernelError(
            f"{kernel}: weight of {experts} x {outputs} x {width} values, expected at most "
            f"{MAX_VALUES} in rows of a multiple of {STEP}."
        )
    known = tuple(dict.fromkeys((dtype, mx.float32)))  # a CPU keeps dense experts in float32
    return weight_inputs(kernel, stored, stored.shape, dense=known, scales=(dtype,))


def _expect_plan(kernel: str, made: Plan, weight: StoredWeight) -> None:
    num_tiles = max_tiles(made.rows.size, weight.shape[0], made.tile_rows)
    expect(kernel, "rows", made.rows, (made.experts.size,), mx.uint32)
    expect(kernel, "tiles", made.tiles, (num_tiles, 3), mx.int32)
