"""The expert kernels, simulated, against their reference and float64; the launches; the choice."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from experts_mutants import simulated_checks
from facts import raises
from metal_sim import ORDERS, simulated
from metal_sim.reports import inherited

from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.checkpoint.tensors import StoredWeight
from mlx_diffgemma.errors import KernelError
from mlx_diffgemma.kernels.check import Check, as_float64, row_error, worst
from mlx_diffgemma.kernels.experts import launch as experts_launch
from mlx_diffgemma.kernels.experts.cases import (
    EPS,
    CombineCase,
    DownCase,
    GateUpCase,
    PlanCase,
    Sizes,
    random_plan,
    random_weight,
)
from mlx_diffgemma.kernels.experts.checks import LIMITS, NORMED_LIMITS
from mlx_diffgemma.kernels.experts.plan import HEIGHTS, Plan
from mlx_diffgemma.machine.dtypes import dtype_name
from mlx_diffgemma.model import experts as reference

SMALL = list(simulated_checks())
SCHEDULES = ORDERS[:1] if inherited() else ORDERS  # sanitizers need no other
BASE = Sizes(L=5, E=4, K=2, H=64, I=64, dtype=mx.float32)
MANY = replace(BASE, L=40)  # enough for tiles: of fewer rows each expert is a product of its own
KERNELS = ["moe_plan", "moe_gate_up", "moe_down", "moe_combine"]


def in_all_schedules(run: Callable[[], Any]) -> list[Any]:
    """The results of `run`, which must be the same bits in every order of threads."""
    first: list[Any] | None = None
    for order in SCHEDULES:
        with simulated(order=order):
            got = [as_float64(array) for array in run()]
        assert first is None or all(map(np.array_equal, got, first)), f"{order}: other bits"
        first = got
    assert first is not None
    return first


def assert_right(case: Any, dtype: mx.Dtype) -> None:
    for got, want in zip(in_all_schedules(case.kernel), case.exact(), strict=True):
        error = row_error(got, np.asarray(want, np.float64))
        normed = isinstance(case, CombineCase) and case.norm is not None
        limit = (NORMED_LIMITS if normed else LIMITS)[dtype]
        assert error <= limit, f"error {error:.3g} of a row's largest value"


# --- kernels and references against float64 ------------------------------------------------------


def in_time(check: Check) -> Any:
    """The check; that of a product in float16, of two 16-bit types, is slow to compile as well.

    Of tiles of 16 rows two kinds are enough: of 8 bits half of the threads stage nothing.
    """
    of_16 = "tiles of 16 rows" in check.instantiation
    quick = check.instantiation.startswith(("float32, 4-bit", "bfloat16, 8-bit"))
    slow = check.kernel in ("moe_gate_up", "moe_down") and (
        check.instantiation.startswith("float16") or (of_16 and not quick)
    )
    name = f"{check.kernel}-{check.instantiation}"
    return pytest.param(check, id=name, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("check", [in_time(check) for check in SMALL])
def test_every_instantiation(check: Check) -> None:
    """The checks of the selftest: the kernel by its limits, the reference by its own."""
    case = check.prepare()
    right = case.exact()
    kernel = worst(in_all_schedules(case.kernel), right, check.tolerances)
    ours = worst(case.reference(), right, check.reference_tolerances or check.tolerances)
    assert kernel.allowed, f"kernel: {kernel}"
    assert ours.allowed, f"reference: {ours}"


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 31, 32, 33, 65, 128])
@pytest.mark.parametrize(
    "dtype",
    [mx.float32, pytest.param(mx.bfloat16, marks=pytest.mark.slow)],
    ids=["float32", "bfloat16"],
)
def test_any_number_of_rows(rows: int, dtype: mx.Dtype) -> None:
    sizes = Sizes(L=rows, E=3, K=1, H=64, I=32, dtype=dtype, bits=4, group=32)
    for case in (
        PlanCase(sizes, reference),
        GateUpCase(sizes, reference),
        DownCase(sizes, reference),
        CombineCase(sizes, reference),
    ):
        assert_right(case, dtype)


@pytest.mark.parametrize("rows", [1, 8, 15, 16, 17, 40])
def test_any_number_of_rows_in_tiles_of_16(rows: int) -> None:
    sizes = Sizes(L=rows, E=3, K=1, H=64, I=32, dtype=mx.float32, bits=4, group=32, tile_rows=16)
    for case in (
        PlanCase(sizes, reference),
        GateUpCase(sizes, reference),
        DownCase(sizes, reference),
    ):
        assert_right(case, mx.float32)


@pytest.mark.parametrize("case", [GateUpCase, DownCase])
def test_the_height_of_tiles_changes_no_bit(case: type[GateUpCase | DownCase]) -> None:
    """A row's terms are added in one order, so that a verdict decides about time alone."""
    sizes = Sizes(L=40, E=3, K=1, H=64, I=32, dtype=mx.float32, bits=4, group=32)
    with simulated():
        first, second = (
            as_float64(*case(replace(sizes, tile_rows=rows), reference).kernel())
            for rows in HEIGHTS
        )
    assert np.array_equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize(("hidden", "inner"), [(32, 32), (96, 160), (160, 96), (224, 64)])
def test_widths_that_fill_no_block(hidden: int, inner: int) -> None:
    """A block has 64 gates and their ups, or 128 outputs."""
    sizes = Sizes(L=13, E=4, K=2, H=hidden, I=inner, dtype=mx.float16, bits=8, group=32)
    for case in (
        GateUpCase(sizes, reference),
        DownCase(sizes, reference),
        CombineCase(sizes, reference),
    ):
        assert_right(case, mx.float16)


@pytest.mark.parametrize(
    ("rows", "num_experts", "top_k"),
    [(1, 1, 1), (7, 1, 1), (3, 33, 5), (512, 128, 8), (70, 256, 16), (512, 80, 3), (256, 8, 8)],
)
def test_plan(rows: int, num_experts: int, top_k: int) -> None:
    """Whole numbers as a stable sort and the reference find them; weights as in float64."""
    case = PlanCase(Sizes(L=rows, E=num_experts, K=top_k, H=0, I=0, dtype=mx.bfloat16), reference)
    chosen, weights, *lists = in_all_schedules(case.kernel)
    right, ours = list(case.exact()), [as_float64(array) for array in case.reference()]
    np.testing.assert_allclose(weights, right.pop(1), rtol=1e-5)
    np.testing.assert_allclose(weights, ours.pop(1), rtol=1e-5)
    for got, want, same in zip([chosen, *lists], right, ours, strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(got, same)


@pytest.mark.parametrize("tile_rows", HEIGHTS)
@pytest.mark.parametrize("own", [range(5), range(5, 8), range(7, 8), range(8)], ids=str)
def test_own_experts(own: range, tile_rows: int) -> None:
    """Uneven parts, and all; of rows with one expert each, most parts have none of some rows."""
    sizes = Sizes(L=70, E=8, K=3, H=64, I=32, dtype=mx.float32, own=own, tile_rows=tile_rows)
    case = PlanCase(sizes, reference)
    for got, want, ours in zip(
        in_all_schedules(case.kernel), case.exact(), case.reference(), strict=True
    ):
        np.testing.assert_allclose(got, np.asarray(want, np.float64), rtol=1e-5)
        np.testing.assert_allclose(got, as_float64(ours), rtol=1e-5)
    one = replace(sizes, K=1, bits=4, group=32)
    for product in (GateUpCase(one, reference), DownCase(one, reference)):
        assert_right(product, mx.float32)


@pytest.mark.parametrize("normed", [True, False], ids=["normed", "sum"])
@pytest.mark.parametrize("own", [range(5), range(7, 8)], ids=str)
def test_outputs_that_nobody_made_are_not_read(own: range, normed: bool) -> None:
    """They are NaN; a row without an own expert is zeros."""
    sizes = Sizes(L=40, E=8, K=2, H=132, I=0, dtype=mx.float32, own=own, normed=normed)
    case = CombineCase(sizes, reference)
    without = ~case.own.any(axis=1)
    assert without.any()
    assert_right(case, mx.float32)
    assert not in_all_schedules(case.kernel)[0][without].any()
    (ours,) = case.reference()
    assert row_error(as_float64(ours), case.exact()[0]) <= 1e-5


def test_ties_go_to_the_lowest_expert() -> None:
    with simulated():
        plan = experts_launch.plan(mx.zeros((3, 40)), mx.ones(40), 4)
    assert plan.experts.tolist() == [[0, 1, 2, 3]] * 3
    assert plan.weights.tolist() == [[0.25] * 4] * 3


def test_scores_that_are_no_numbers() -> None:
    """Experts stay experts, all different; the row's weights say what happened, others' do not."""
    nan, inf = float("nan"), float("inf")
    scores = np.zeros((5, 6), np.float32)
    scores[1] = nan
    scores[2, :5] = nan
    scores[3] = -inf
    scores[4, 3] = nan
    with simulated():
        plan = experts_launch.plan(mx.array(scores), mx.ones(6), 3)
    chosen = np.asarray(plan.experts)
    assert [sorted(row) for row in chosen.tolist()] == [[0, 1, 2], [0, 1, 2], [0, 1, 5]] + [
        [0, 1, 2]
    ] * 2
    finite = np.isfinite(np.asarray(plan.weights)).all(axis=1)
    assert finite.tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("top_k", [1, 2])
def test_all_rows_on_one_expert(top_k: int) -> None:
    """The others have no rows at all; nine tiles of the plan are not needed."""
    scores = mx.array([[0.0] * 3 + [1.0, 2.0]] * 100)
    sizes = Sizes(L=100, E=5, K=top_k, H=32, I=32, dtype=mx.float32)
    with simulated():
        plan = experts_launch.plan(scores, mx.ones(5), top_k)
    counts = np.asarray(plan.tiles)[:, 2]
    assert counts.sum() == 100 * top_k
    assert np.count_nonzero(counts) == 4 * top_k < len(counts)
    for case in (GateUpCase(sizes, reference), DownCase(sizes, reference)):
        case.plan = plan
        assert_right(case, mx.float32)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=dtype_name)
def test_the_norm_rounds_where_mlx_does(dtype: mx.Dtype) -> None:
    """One expert a row with a weight of 1 makes an exact sum.

    Without the rounding before the norm's weight a quarter of the values differ.
    """
    case = CombineCase(Sizes(L=16, E=4, K=1, H=704, I=0, dtype=dtype), reference)
    case.weights = mx.ones((16, 1))
    (got,) = in_all_schedules(case.kernel)
    want = as_float64(mx.fast.rms_norm(case.outputs[case.places[:, 0]], case.norm, EPS))
    assert np.mean(got != want) < 1e-3


# --- wrappers refuse before a launch -------------------------------------------------------------


def made_plan() -> Plan:
    return random_plan(BASE, reference)


def weight(outputs: int = 128, width: int = 64, **more: Any) -> StoredWeight:
    return random_weight(replace(BASE, **more), outputs, width)


def dense(dtype: mx.Dtype, *shape: int) -> StoredWeight:
    return StoredWeight(mx.zeros(shape, dtype))


def packed(
    words: int, groups: int, bits: int, group: int, mode: str = "affine", dtype: Any = mx.float32
) -> StoredWeight:
    scales = mx.zeros((4, 128, groups), dtype)
    packing = QuantizationConfig(mode, bits, group)
    return StoredWeight(mx.zeros((4, 128, words), mx.uint32), scales, scales, packing)


def combined(**given: mx.array) -> mx.array:
    """moe_combine of 5 rows of 64, but for what is given."""
    parts = {
        "outputs": mx.zeros((10, 64)),
        "places": mx.zeros((5, 2), mx.uint32),
        "weights": mx.ones((5, 2)),
        "norm": mx.ones(64),
    }
    return experts_launch.combine(**parts | given, eps=1e-6)


X = mx.zeros((5, 64))
INNER = mx.zeros((10, 64))
PACKINGS_COVERED = "affine ... (4, 8) bits ... groups of (32, 64, 128)"
REFUSED: list[tuple[Callable[[], object], str]] = [
    (
        lambda: experts_launch.plan(mx.zeros(4), mx.ones(4), 2),
        "moe_plan ... scores ... 1 axes ... 2",
    ),
    (
        lambda: experts_launch.plan(mx.zeros((5, 4), mx.int32), mx.ones(4), 2),
        "moe_plan ... scores ... int32 ... float32 ... float16 ... bfloat16",
    ),
    (
        lambda: experts_launch.plan(mx.zeros((5, 4)), mx.ones(3), 2),
        "moe_plan ... scale ... [3] ... [4]",
    ),
    (
        lambda: experts_launch.plan(mx.zeros((513, 4)), mx.ones(4), 2),
        "moe_plan ... 513 rows ... 1 to 512",
    ),
    (
        lambda: experts_launch.plan(mx.zeros((5, 257)), mx.ones(257), 2),
        "moe_plan ... 257 experts ... 1 to 256",
    ),
    (
        lambda: experts_launch.plan(mx.zeros((5, 4)), mx.ones(4), 5),
        "moe_plan ... 5 experts ... 1 to 4",
    ),
    (
        lambda: experts_launch.plan(mx.zeros((5, 4)), mx.ones(4), 2, range(2, 5)),
        "moe_plan ... range(2, 5) ... 4",
    ),
    (
        lambda: experts_launch.plan(mx.zeros((5, 4)), mx.ones(4), 2, range(2, 2)),
        "moe_plan ... range(2, 2) ... 4",
    ),
    (
        lambda: experts_launch.plan(mx.zeros((5, 4)), mx.ones(4), 2, None, 24),
        "moe_plan ... 24 rows ... (32, 16)",
    ),
    (
        lambda: experts_launch.gate_up(mx.zeros((4, 64)), weight(), made_plan()),
        "moe_gate_up ... x ... [4, 64] ... [5, 64]",
    ),
    (
        lambda: experts_launch.gate_up(X.astype(mx.uint32), weight(), made_plan()),
        "moe_gate_up ... x ... uint32 ... float32 ... float16 ... bfloat16",
    ),
    (
        lambda: experts_launch.gate_up(X, StoredWeight(X), made_plan()),
        "moe_gate_up ... weight ... 2 axes ... 3",
    ),
    (
        lambda: experts_launch.gate_up(X, dense(mx.float16, 4, 128, 64), made_plan()),
        "moe_gate_up ... weight ... float16 ... float32",
    ),
    (
        lambda: experts_launch.gate_up(X, weight(outputs=127), made_plan()),
        "moe_gate_up ... 127 outputs ... gate ... up",
    ),
    (
        lambda: experts_launch.gate_up(mx.zeros((5, 48)), weight(width=48), made_plan()),
        "moe_gate_up ... weight ... 4 x 128 x 48 values ... 2147483648 ... multiple of 32",
    ),
    (
        lambda: experts_launch.gate_up(X, weight(dtype=mx.float16, bits=4, group=32), made_plan()),
        "moe_gate_up ... scales ... float16 ... float32",
    ),
    (
        lambda: experts_launch.gate_up(X, packed(4, 2, 2, 32), made_plan()),
        f"moe_gate_up ... weight ... 2-bit affine, groups of 32 ... {PACKINGS_COVERED}",
    ),
    (
        lambda: experts_launch.gate_up(X, packed(8, 4, 4, 16), made_plan()),
        f"moe_gate_up ... weight ... 4-bit affine, groups of 16 ... {PACKINGS_COVERED}",
    ),
    (
        lambda: experts_launch.gate_up(X, packed(8, 1, 4, 32), made_plan()),
        "moe_gate_up ... scales ... [4, 128, 1] ... [4, 128, 2]",
    ),
    (
        lambda: experts_launch.gate_up(mx.zeros((5, 96)), packed(12, 1, 4, 64), made_plan()),
        "moe_gate_up ... 96 values ... groups of 64",
    ),
    (
        lambda: experts_launch.gate_up(X, weight(E=9), made_plan()),
        "moe_gate_up ... tiles ... [4, 3] ... [9, 3]",
    ),
    (
        lambda: experts_launch.down(X, weight(), made_plan()),
        "moe_down ... inner ... [5, 64] ... [10, 64]",
    ),
    (
        lambda: experts_launch.gate_up(
            X, weight(), replace(made_plan(), rows=mx.zeros(10, mx.int32))
        ),
        "moe_gate_up ... rows ... int32 ... uint32",
    ),
    (
        lambda: experts_launch.down(
            INNER, weight(), replace(made_plan(), tiles=mx.zeros((4, 3), mx.uint32))
        ),
        "moe_down ... tiles ... uint32 ... int32",
    ),
    (
        lambda: combined(weights=mx.ones(10)),
        "moe_combine ... weights ... 1 axes ... 2",
    ),
    (
        lambda: combined(outputs=mx.zeros((9, 64))),
        "moe_combine ... outputs ... [9, 64] ... [10, 64]",
    ),
    (
        lambda: combined(places=mx.zeros(10, mx.uint32)),
        "moe_combine ... places ... [10] ... [5, 2]",
    ),
    (
        lambda: combined(places=mx.zeros((5, 2), mx.int32)),
        "moe_combine ... places ... int32 ... uint32",
    ),
    (
        lambda: combined(weights=mx.ones((5, 2), mx.float16)),
        "moe_combine ... weights ... float16 ... float32",
    ),
    (
        lambda: combined(norm=mx.ones(63)),
        "moe_combine ... norm ... [63] ... [64]",
    ),
    (
        lambda: combined(norm=mx.ones(64, mx.float16)),
        "moe_combine ... norm ... float16 ... float32",
    ),
    (
        lambda: combined(outputs=mx.zeros((10, 63)), norm=mx.ones(63)),
        "moe_combine ... 63 values ... multiple of 4",
    ),
    (
        lambda: experts_launch.gate_up(X, packed(8, 2, 4, 32, "mxfp4"), made_plan()),
        f"moe_gate_up ... weight ... 4-bit mxfp4, groups of 32 ... {PACKINGS_COVERED}",
    ),
]


@pytest.mark.parametrize(("call", "facts"), REFUSED, ids=[facts for _, facts in REFUSED])
def test_arrays_a_kernel_was_not_made_for(call: Callable[[], object], facts: str) -> None:
    with simulated() as simulation, raises(KernelError, facts):
        call()
    assert simulation.launches == []
