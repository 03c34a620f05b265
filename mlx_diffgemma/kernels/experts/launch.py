"""The four launches of the mixture of experts.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row, N = L * K.
The kernels and what they compute: metal/moe_*.metal; the same in MLX operations: experts_ops.py.
"""

from dataclasses import dataclass

import mlx.core as mx

from ...errors import KernelError
from ...model.experts import Plan, Routing, max_tiles
from ...model.matrices import AnyMatrix, DenseMatrix
from ..launch import Kernel, Template, expect

MAX_ROWS, MAX_EXPERTS, MAX_TOP_K = 512, 256, 16  # what moe_plan has threadgroup memory for
MAX_VALUES = 2**31  # of one weight: kernels count them in 32 bits
STEP = 32  # inputs that are multiplied at a time
BITS, GROUPS = (4, 8), (32, 64, 128)
DTYPES = (mx.float32, mx.float16, mx.bfloat16)

PLAN = Kernel("moe_plan", ("scores", "scale"), ("experts", "weights", "rows", "tiles"))
GATE_UP = Kernel(
    "moe_gate_up",
    ("x", "weight", "scales", "biases", "rows", "tiles"),
    ("inner",),
    headers=("unpack", "expert_tile"),
)
DOWN = Kernel(
    "moe_down",
    ("inner", "weight", "scales", "biases", "rows", "tiles"),
    ("outputs",),
    headers=("unpack", "expert_tile"),
)
COMBINE = Kernel("moe_combine", ("outputs", "weights"), ("mixed",))


@dataclass(frozen=True)
class Stored:
    """The weight of all experts as it lies in memory, [E, O, I]; bits 0: not packed."""

    weight: mx.array
    scales: mx.array
    biases: mx.array
    bits: int = 0
    group: int = STEP

    @property
    def shape(self) -> tuple[int, int, int]:
        """E, O and I, counted unpacked."""
        experts, outputs, width = self.weight.shape
        return experts, outputs, width * 32 // self.bits if self.bits else width


def sizes(matrix: AnyMatrix) -> tuple[int, int, int]:
    """E, O and I of the weight of all experts."""
    if isinstance(matrix, DenseMatrix):
        experts, width, outputs = matrix.right.shape
        return experts, outputs, width
    experts, outputs, words = matrix.weight.shape
    return experts, outputs, words * 32 // matrix.packing.bits


def packing(matrix: AnyMatrix) -> str:
    """How the weight is stored, in short: "4-bit groups of 64" or "not packed"."""
    if isinstance(matrix, DenseMatrix):
        return "not packed"
    return f"{matrix.packing.bits}-bit groups of {matrix.packing.group_size}"


def readable(matrix: AnyMatrix) -> bool:
    """Whether the kernels can read the packing of `matrix`; dense ones they can."""
    if isinstance(matrix, DenseMatrix):
        return True
    return matrix.packing.mode == "affine" and matrix.packing.bits in BITS


def stored(matrix: AnyMatrix) -> Stored:
    """The weight of `matrix` as it lies in memory.

    A dense one is kept as the right-hand operand; on a GPU that is a view, and this its inverse:
    row-contiguous, so that launching copies nothing.
    """
    if isinstance(matrix, DenseMatrix):
        weight = matrix.right.swapaxes(-1, -2)
        return Stored(weight, weight, weight)
    how = matrix.packing
    if not readable(matrix) or matrix.biases is None:
        raise KernelError(f"experts: weight in {how.name}, expected affine in {BITS} bits.")
    return Stored(matrix.weight, matrix.scales, matrix.biases, how.bits, how.group_size)


def plan(routing: Routing) -> Plan:
    """Chooses the experts of each row and lists the rows of each expert."""
    scores, top_k = routing.scores, routing.top_k
    _expect_sizes(scores, top_k)
    rows, num_experts = scores.shape
    expect(PLAN.name, "scores", scores, (rows, num_experts), *DTYPES)
    expect(PLAN.name, "scale", routing.scale, (num_experts,), mx.float32)
    return Plan(
        *PLAN.launch(
            (scores, routing.scale),
            [
                ((rows, top_k), mx.uint32),
                ((rows, top_k), mx.float32),
                ((rows * top_k,), mx.uint32),
                ((max_tiles(rows * top_k, num_experts), 3), mx.int32),
            ],
            template=[("E", num_experts), ("TOP_K", top_k)],
            groups=(1, 1, 1),
            threads=(512, 1, 1),
        )
    )


def gate_up(x: mx.array, weight: Stored, made: Plan) -> mx.array:
    """x [L, H] and weight [E, 2I, H] -> geglu(gate, up) [N, I], in the order of the plan's rows."""
    _expect_rank(GATE_UP.name, "weight", weight.weight, 3)
    _, both, hidden = weight.shape
    num_rows = made.rows.size
    if both % 2:
        raise KernelError(f"{GATE_UP.name}: {both} outputs, expected a gate and an up for each.")
    expect(GATE_UP.name, "x", x, (num_rows // made.top_k, hidden), *DTYPES)
    _expect_plan(GATE_UP.name, made, weight)
    (inner,) = GATE_UP.launch(
        (x, weight.weight, weight.scales, weight.biases, made.rows, made.tiles),
        [((num_rows, both // 2), x.dtype)],
        template=[
            *_template(GATE_UP.name, x.dtype, weight),
            ("HIDDEN", hidden),
            ("INNER", both // 2),
            ("TOP_K", made.top_k),
        ],
        groups=(-(-both // 128), made.tiles.shape[0], 1),  # 64 gates and their 64 ups each
        threads=(128, 1, 1),
    )
    return inner


def down(inner: mx.array, weight: Stored, made: Plan) -> mx.array:
    """inner [N, I] in the order of the plan's rows, weight [E, H, I] -> [N, H], row * K + slot."""
    _expect_rank(DOWN.name, "weight", weight.weight, 3)
    _, hidden, width = weight.shape
    num_rows = made.rows.size
    expect(DOWN.name, "inner", inner, (num_rows, width), *DTYPES)
    _expect_plan(DOWN.name, made, weight)
    (outputs,) = DOWN.launch(
        (inner, weight.weight, weight.scales, weight.biases, made.rows, made.tiles),
        [((num_rows, hidden), inner.dtype)],
        template=[
            *_template(DOWN.name, inner.dtype, weight),
            ("HIDDEN", hidden),
            ("INNER", width),
        ],
        groups=(-(-hidden // 128), made.tiles.shape[0], 1),
        threads=(128, 1, 1),
    )
    return outputs


def combine(outputs: mx.array, weights: mx.array) -> mx.array:
    """outputs [N, H] and weights [L, K] float32 -> each row's weighted sum [L, H]."""
    _expect_rank(COMBINE.name, "outputs", outputs, 2)
    _expect_rank(COMBINE.name, "weights", weights, 2)
    (rows, top_k), hidden = weights.shape, outputs.shape[1]
    expect(COMBINE.name, "outputs", outputs, (rows * top_k, hidden), *DTYPES)
    expect(COMBINE.name, "weights", weights, (rows, top_k), mx.float32)
    if hidden % 4:
        raise KernelError(f"{COMBINE.name}: rows of {hidden} values, expected a multiple of 4.")
    (mixed,) = COMBINE.launch(
        (outputs, weights),
        [((rows, hidden), outputs.dtype)],
        template=[("T", outputs.dtype), ("TOP_K", top_k), ("HIDDEN", hidden)],
        groups=(-(-hidden // 1024), rows, 1),  # 4 values a thread
        threads=(256, 1, 1),
    )
    return mixed


def _template(kernel: str, dtype: mx.Dtype, weight: Stored) -> Template:
    """The template's part on dtype and packing; KernelError for a weight it cannot read."""
    experts, outputs, width = weight.shape
    if width % STEP or experts * outputs * width > MAX_VALUES:
        raise KernelError(
            f"{kernel}: weight of {experts} x {outputs} x {width} values, expected at most "
            f"{MAX_VALUES} in rows of a multiple of {STEP}."
        )
    if weight.bits == 0:
        known = dict.fromkeys((dtype, mx.float32))  # a CPU keeps dense experts in float32
        expect(kernel, "weight", weight.weight, weight.shape, *known)
    elif weight.bits not in BITS or weight.group not in GROUPS:
        raise KernelError(
            f"{kernel}: weight in {weight.bits} bits, groups of {weight.group}; "
            f"expected {BITS} bits in groups of {GROUPS}."
        )
    else:
        words, groups = width * weight.bits // 32, width // weight.group
        expect(kernel, "weight", weight.weight, (experts, outputs, words), mx.uint32)
        expect(kernel, "scales", weight.scales, (experts, outputs, groups), dtype)
        expect(kernel, "biases", weight.biases, (experts, outputs, groups), dtype)
        if width % weight.group:
            raise KernelError(
                f"{kernel}: {width} values a row do not fill groups of {weight.group}."
            )
    return [("T", dtype), ("BITS", weight.bits), ("GROUP", weight.group)]


def _expect_sizes(scores: mx.array, top_k: int) -> None:
    _expect_rank(PLAN.name, "scores", scores, 2)
    rows, num_experts = scores.shape
    for what, size, most in (
        ("rows", rows, MAX_ROWS),
        ("experts", num_experts, MAX_EXPERTS),
        ("experts a row", top_k, min(MAX_TOP_K, num_experts)),
    ):
        if not 1 <= size <= most:
            raise KernelError(f"{PLAN.name}: {size} {what}, expected 1 to {most}.")


def _expect_plan(kernel: str, made: Plan, weight: Stored) -> None:
    num_rows, num_experts = made.rows.size, weight.shape[0]
    expect(kernel, "rows", made.rows, (made.experts.size,), mx.uint32)
    expect(kernel, "tiles", made.tiles, (max_tiles(num_rows, num_experts), 3), mx.int32)


def _expect_rank(kernel: str, name: str, array: mx.array, rank: int) -> None:
    if array.ndim != rank:
        raise KernelError(f"{kernel}: {name} has {array.ndim} axes, expected {rank}.")
