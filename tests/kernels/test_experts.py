"""The expert kernels, simulated, against their reference and float64; the launches; the choice."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from facts import assert_says, raises
from metal_sim import ORDERS, simulated
from metal_sim.reports import inherited

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.checkpoint.tensors import StoredWeight
from mlx_diffgemma.errors import KernelError
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.kernels.check import Check, as_float64, row_error, worst
from mlx_diffgemma.kernels.experts import launch as experts_launch
from mlx_diffgemma.kernels.experts import trial as experts
from mlx_diffgemma.kernels.experts.cases import (
    CombineCase,
    DownCase,
    GateUpCase,
    PlanCase,
    Sizes,
    random_plan,
    random_routing,
    random_rows,
    random_weight,
)
from mlx_diffgemma.kernels.experts.checks import LIMITS, checks
from mlx_diffgemma.kernels.experts.plan import Plan
from mlx_diffgemma.kernels.experts.trial import Mixture
from mlx_diffgemma.kernels.trial import Outcome, run_trial
from mlx_diffgemma.machine.dtypes import dtype_name
from mlx_diffgemma.model import experts as reference
from mlx_diffgemma.model import matrices
from mlx_diffgemma.model.experts import Experts, Routing
from mlx_diffgemma.model.matrices import AnyMatrix, PackedMatrix, matrix

SMALL = [check for check in checks(reference) if check.size == "small"]
SCHEDULES = ORDERS[:1] if inherited() else ORDERS  # sanitizers need no other
BASE = Sizes(L=5, E=4, K=2, H=64, I=64, dtype=mx.float32)
MANY = replace(BASE, L=40)  # enough for tiles: of fewer rows each expert is a product of its own
KERNELS = ["moe_plan", "moe_gate_up", "moe_down", "moe_combine"]


@pytest.fixture(autouse=True)
def nothing_said_yet() -> Iterator[None]:
    dispatch.forget()
    yield
    dispatch.forget()


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
        assert error <= LIMITS[dtype], f"error {error:.3g} of a row's largest value"


# --- kernels and references against float64 ------------------------------------------------------


@pytest.mark.parametrize("check", SMALL, ids=lambda c: f"{c.kernel}-{c.instantiation}")
def test_every_instantiation(check: Check) -> None:
    """The checks of the selftest: the kernel by its limits, the reference by its own."""
    case = check.prepare()
    right = case.exact()
    kernel = worst(in_all_schedules(case.kernel), right, check.tolerances)
    ours = worst(case.reference(), right, check.reference_tolerances or check.tolerances)
    assert kernel.allowed, f"kernel: {kernel}"
    assert ours.allowed, f"reference: {ours}"


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 31, 32, 33, 65, 128])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=["float32", "bfloat16"])
def test_any_number_of_rows(rows: int, dtype: mx.Dtype) -> None:
    sizes = Sizes(L=rows, E=3, K=1, H=64, I=32, dtype=dtype, bits=4, group=32)
    for case in (
        PlanCase(sizes, reference),
        GateUpCase(sizes, reference),
        DownCase(sizes, reference),
        CombineCase(sizes, reference),
    ):
        assert_right(case, dtype)


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


# --- the choice between kernels and reference ----------------------------------------------------


@pytest.fixture
def kernels_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "on")


Case = tuple[mx.array, Routing, AnyMatrix, AnyMatrix]


def random_case(sizes: Sizes) -> Case:
    """Rows, their routing, and the matrices of gate and up and of down."""
    x = random_rows(sizes.L, sizes.H, sizes.dtype)
    gate_up = matrix(random_weight(sizes, 2 * sizes.I, sizes.H))
    down = matrix(random_weight(sizes, sizes.H, sizes.I))
    return x, Routing(*random_routing(sizes)), gate_up, down


def mixed(x: mx.array, routing: Routing, gate_up: AnyMatrix, down: AnyMatrix) -> mx.array:
    """The network's own experts, by kernels or not."""
    return Experts(gate_up, down)(x, routing)


def mixed_in_ops(x: mx.array, routing: Routing, gate_up: AnyMatrix, down: AnyMatrix) -> mx.array:
    return Experts(gate_up, down).reference(x, routing)


def mixture(x: mx.array, routing: Routing, gate_up: AnyMatrix, down: AnyMatrix) -> Mixture[Routing]:
    ours = Experts(gate_up, down).reference
    return Mixture(x, routing, gate_up.stored, down.stored, ours)


@pytest.mark.usefixtures("kernels_on")
@pytest.mark.parametrize("bits", [0, 4])
def test_four_launches_and_no_copies(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From scores to the weighted sum; dense weights as a GPU lays them out."""
    monkeypatch.setattr(matrices, "on_gpu", lambda: True)
    case = random_case(replace(MANY, bits=bits, group=32 if bits else 0))
    with simulated() as simulation:
        got = mixed(*case)
    assert [launch.name for launch in simulation.launches] == KERNELS
    assert [launch.copied_bytes for launch in simulation.launches] == [0] * 4
    assert row_error(as_float64(got), as_float64(mixed_in_ops(*case))) <= 1e-5


@pytest.mark.parametrize("dtype", LIMITS, ids=dtype_name)
def test_products_and_packings_may_differ(dtype: mx.Dtype) -> None:
    """Experts of another packing in each product, as mixed recipes have them."""
    sizes = replace(BASE, L=19, dtype=dtype)
    packed = replace(sizes, bits=8, group=64)
    x, routing, gate_up, _ = random_case(packed)
    case = (x, routing, gate_up, matrix(random_weight(sizes, sizes.H, sizes.I)))
    with simulated():
        got = experts.mix_in_kernels(mixture(*case))
    limit = experts.AGREEMENT[dtype] * (1 if dtype == mx.float32 else 4)  # the CPU sums in 16 bits
    assert row_error(as_float64(got), as_float64(mixed_in_ops(*case))) <= limit


def packed_otherwise() -> Case:
    x, routing, gate_up, down = random_case(MANY)
    weight = mx.contiguous(down.stored.weight)
    packing = QuantizationConfig("mxfp4", 4, 32)
    packed = mx.quantize(weight, group_size=32, bits=4, mode="mxfp4")
    return x, routing, gate_up, PackedMatrix(packed[0], packed[1], None, packing)


@pytest.mark.usefixtures("kernels_on")
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (lambda: random_case(replace(BASE, L=513, H=32, I=32)), "more than 512 rows at once"),
        (lambda: random_case(replace(MANY, E=257)), "more than 256 experts"),
        (lambda: random_case(replace(BASE, E=17, K=17)), "more than 16 a row"),
        (lambda: random_case(replace(MANY, H=48)), "hidden size of 48"),
        (lambda: random_case(replace(MANY, I=40)), "experts of 40"),
        (packed_otherwise, "another way than affine"),
    ],
    ids=["rows", "experts", "top", "hidden", "inner", "packing"],
)
def test_what_the_kernels_do_not_cover_is_recorded(case: Callable[[], Any], reason: str) -> None:
    arrays = case()
    with simulated() as simulation:
        got = mixed(*arrays)  # warnings are errors
        again = mixed(*arrays)
    (line,) = dispatch.unused()
    assert_says(line, "experts ... not cover", reason)
    assert simulation.launches == []
    want = mixed_in_ops(*arrays)
    assert mx.array_equal(got, want)
    assert mx.array_equal(again, want)


def test_weights_too_large_to_be_counted_in_32_bits_are_not_covered() -> None:
    """Shapes only: nothing here is evaluated."""
    packing = QuantizationConfig("affine", 4, 64)

    def weight(outputs: int, width: int) -> PackedMatrix:
        scales = mx.zeros((256, outputs, width // 64))
        return PackedMatrix(
            mx.zeros((256, outputs, width // 8), mx.uint32), scales, scales, packing
        )

    def reason(inner: int) -> str | None:
        routing = Routing(mx.zeros((5, 256)), mx.ones(256), 8)
        case = (mx.zeros((5, 4096)), routing, weight(2 * inner, 4096), weight(4096, inner))
        return experts.not_covered(mixture(*case))

    assert reason(1024) is None  # 2^31 values
    assert_says(reason(1088), "experts ... 2147483648 values")


def test_without_metal_the_operations_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    case = random_case(replace(BASE, H=48))
    assert mx.array_equal(mixed(*case), mixed_in_ops(*case))


def test_a_verdict_holds_for_rows_up_to_a_power_of_two() -> None:
    def named(rows: int) -> str:
        case = random_case(replace(BASE, L=rows, bits=4, group=64))
        return experts.instantiation(mixture(*case))

    assert named(33) == named(64) != named(65)
    assert named(64) == (
        "64 rows, 2 of 4 experts, 64 x 64, float32, scores float32, "
        "gate and up 4-bit groups of 64, down 4-bit groups of 64"
    )


def test_a_trial_agrees() -> None:
    case = random_case(replace(BASE, dtype=mx.bfloat16))
    with simulated() as simulation:
        verdict = run_trial(lambda: experts.trial(mixture(*case)))
    assert verdict.outcome in (Outcome.FASTER, Outcome.SLOWER), verdict
    assert {launch.name for launch in simulation.launches} == set(KERNELS)
    assert simulation.of("moe_combine")[0].grid[1] == 8  # rows of the instantiation, not of x


def test_a_trial_finds_a_wrong_kernel() -> None:
    case = random_case(BASE)
    with simulated(mutate=lambda text: text.replace("gate / (1.0f", "gate / (1.1f")):
        verdict = run_trial(lambda: experts.trial(mixture(*case)))
    assert verdict.outcome is Outcome.WRONG
    assert "mixed: error" in str(verdict.note)


def test_a_trial_may_begin_while_a_function_is_traced(tmp_path: Path) -> None:
    """What the model computes then has no values; the trial has its own."""
    x, routing, gate_up, down = random_case(BASE)
    found = []

    def traced(x: mx.array, scores: mx.array) -> mx.array:
        case = (x, Routing(scores, routing.scale, routing.top_k), gate_up, down)
        assert experts.not_covered(mixture(*case)) is None
        assert experts.instantiation(mixture(*case)).startswith("8 rows")
        trial = experts.trial(mixture(*case))
        with simulated():
            found.append(trial.disagreement(trial.kernel(), trial.reference()))
        return mixed_in_ops(*case)

    mx.export_function(str(tmp_path / "traced"), traced, x, routing.scores)
    assert found == [None]


# --- in the model --------------------------------------------------------------------------------


@pytest.mark.usefixtures("kernels_on")
def test_the_embedded_checkpoint_computes_the_same() -> None:
    """Both passes of tiny-sudoku: float32, 8 experts of 128 x 64, top 2, 90 positions."""
    random = np.random.default_rng(0)
    prompt = random.integers(0, 128, 33).tolist()
    canvas = mx.array(random.integers(0, 128, 90))

    def logits() -> mx.array:
        model = dg.load_model("tiny-sudoku")
        return model.logits(model.decode(canvas, model.encode(prompt)))

    with simulated() as simulation:
        got = as_float64(logits())
    layers = 2 * 6 - 1  # the encoder's last layer stops at its keys and values
    assert [launch.name for launch in simulation.launches] == KERNELS * layers
    dispatch.known.running.clear()
    with pytest.MonkeyPatch.context() as context:
        context.setenv(dispatch.VARIABLE, "off")
        want = as_float64(logits())
    assert_close(got, want, 1e-4, "logits with the kernels")  # they reach 30


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


X = mx.zeros((5, 64))
INNER = mx.zeros((10, 64))
OUTPUTS, WEIGHTS = mx.zeros((10, 64)), mx.zeros((5, 2))
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
        lambda: experts_launch.down(
            INNER, weight(), replace(made_plan(), rows=mx.zeros(10, mx.int32))
        ),
        "moe_down ... rows ... int32 ... uint32",
    ),
    (
        lambda: experts_launch.combine(OUTPUTS, WEIGHTS.flatten()),
        "moe_combine ... weights ... 1 axes ... 2",
    ),
    (
        lambda: experts_launch.combine(OUTPUTS[:9], WEIGHTS),
        "moe_combine ... outputs ... [9, 64] ... [10, 64]",
    ),
    (
        lambda: experts_launch.combine(OUTPUTS, WEIGHTS.astype(mx.float16)),
        "moe_combine ... weights ... float16 ... float32",
    ),
    (
        lambda: experts_launch.combine(OUTPUTS[:, :63], WEIGHTS),
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
