"""The experts by kernels of both families, of one, or by their reference; in the model, too."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from facts import assert_says
from metal_sim import simulated

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.checkpoint.tensors import StoredWeight
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.kernels.check import as_float64, row_error
from mlx_diffgemma.kernels.dispatch import Mode
from mlx_diffgemma.kernels.experts import plan_trial, trial
from mlx_diffgemma.kernels.experts.cases import (
    EPS,
    Sizes,
    random_routing,
    random_rows,
    random_weight,
)
from mlx_diffgemma.kernels.experts.mix import mix_by
from mlx_diffgemma.kernels.experts.plan import HEIGHTS, max_tiles
from mlx_diffgemma.kernels.trial import Outcome, Verdict, run_trial
from mlx_diffgemma.machine.dtypes import dtype_name
from mlx_diffgemma.model import matrices
from mlx_diffgemma.model.experts import Experts, Routing
from mlx_diffgemma.model.matrices import AnyMatrix, DenseMatrix, PackedMatrix, matrix

BASE = Sizes(L=5, E=4, K=2, H=64, I=64, dtype=mx.float32)
MANY = replace(BASE, L=40)  # enough for tiles: of fewer rows each expert is a product of its own
PLAN, PRODUCTS, COMBINE = ["moe_plan"], ["moe_gate_up", "moe_down"], ["moe_combine"]
Case = tuple[Experts, mx.array, Routing]


def random_case(sizes: Sizes) -> Case:
    """The experts, rows, and their routing."""
    gate_up = matrix(random_weight(sizes, 2 * sizes.I, sizes.H))
    experts = with_norm(gate_up, matrix(random_weight(sizes, sizes.H, sizes.I)), sizes)
    return experts, random_rows(sizes.L, sizes.H, sizes.dtype), Routing(*random_routing(sizes))


def with_norm(gate_up: AnyMatrix, down: AnyMatrix, sizes: Sizes) -> Experts:
    weight = 1 + 0.25 * np.random.default_rng(5).standard_normal(sizes.H)
    return Experts(gate_up, down, mx.array(weight).astype(sizes.dtype), EPS)


def quantised(bits: int, mode: str) -> Case:
    """Experts whose down projection no product of this project reads."""
    experts, *rest = random_case(MANY)
    weight = mx.contiguous(experts.down.stored.weight)
    packed = mx.quantize(weight, group_size=32, bits=bits, mode=mode)
    biases = packed[2] if mode == "affine" else None
    down = PackedMatrix(packed[0], packed[1], biases, QuantizationConfig(mode, bits, 32))
    return replace(experts, down=down), *rest


def error(got: mx.array, case: Case) -> float:
    """How far a result is from that of the reference implementation, of a row's largest value."""
    experts, x, routing = case
    return row_error(as_float64(got), as_float64(experts.reference(x, routing)))


def launched(planned: bool, multiplied: bool) -> list[str]:
    return PLAN * planned + PRODUCTS * multiplied + COMBINE * planned


# --- which kernels run ---------------------------------------------------------------------------


@pytest.mark.usefixtures("kernels_on")
@pytest.mark.parametrize("bits", [0, 4])
def test_four_launches_and_no_copies(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From scores to the normed sum; dense weights as a GPU lays them out."""
    monkeypatch.setattr(matrices, "on_gpu", lambda: True)
    case = random_case(replace(MANY, bits=bits, group=32 if bits else 0))
    experts, x, routing = case
    with simulated() as simulation:
        got = experts(x, routing)
    assert [launch.name for launch in simulation.launches] == launched(True, True)
    assert [launch.copied_bytes for launch in simulation.launches] == [0] * 4
    assert error(got, case) <= 1e-5


@pytest.mark.parametrize("planned", [True, False], ids=["plan", ""])
@pytest.mark.parametrize("multiplied", [True, False], ids=["products", ""])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=dtype_name)
def test_each_family_goes_by_its_own_verdict(
    planned: bool, multiplied: bool, dtype: mx.Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a kernel it is the reference implementation, bit for bit."""
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    case = random_case(replace(MANY, dtype=dtype))
    experts, x, routing = case
    mixture = experts.mixture(x, routing)
    for family, wins in ((plan_trial, planned), (trial, multiplied)):
        verdict = Verdict(Outcome.FASTER if wins else Outcome.SLOWER)
        place = (Mode.AUTO, family.FAMILY, family.instantiation(mixture))
        dispatch.known.verdicts[place] = verdict
    with simulated() as simulation:
        got = experts(x, routing)
    assert [launch.name for launch in simulation.launches] == launched(planned, multiplied)
    assert got.dtype == dtype
    limit = trial.AGREEMENT[dtype] if planned or multiplied else 0.0
    assert error(got, case) <= (1e-5 if limit and dtype == mx.float32 else limit)


@pytest.mark.parametrize(
    ("variant", "rows"), [(None, 32), ("tiles of 16 rows", 16), ("tiles of 7 rows", 32)]
)
def test_the_height_of_tiles_goes_by_the_verdict(
    variant: str | None, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of plan and products alike; the plan has a verdict of its own for each height."""
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    case = random_case(MANY)
    experts, x, routing = case
    mixture = experts.mixture(x, routing)
    keys = {
        trial.FAMILY: trial.instantiation(mixture),
        plan_trial.FAMILY: plan_trial.instantiation(mixture, rows),
    }
    for family, key in keys.items():
        verdict = Verdict(Outcome.FASTER, variant=variant if family == trial.FAMILY else None)
        dispatch.known.verdicts[(Mode.AUTO, family, key)] = verdict
    with simulated() as simulation:
        got = experts(x, routing)
    assert [launch.name for launch in simulation.launches] == launched(True, True)
    assert [dict(launch.template).get("ROWS") for launch in simulation.launches] == [
        *[rows] * 3,
        None,
    ]
    assert error(got, case) <= 1e-5


# --- own experts alone ---------------------------------------------------------------------------


def part_of(case: Case, own: range) -> Experts:
    """The experts with these numbers, whose sum is not normed."""
    experts = case[0]
    gate_up, down = (
        matrix(StoredWeight(mx.contiguous(whole.stored.weight[own.start : own.stop])))
        for whole in (experts.gate_up, experts.down)
    )
    return replace(experts, gate_up=gate_up, down=down, own=own, normed=False)


PARTS = [[range(5), range(5, 8)], [range(1), range(1, 8)], [range(8)]]


@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("rows", [1, 40])
def test_the_sums_of_own_experts_are_the_sum_of_all(parts: list[range], rows: int) -> None:
    """By operations, and by the kernels of each family or both, in tiles of either height."""
    case = random_case(replace(BASE, L=rows, E=8, K=3))
    whole, x, routing = case
    ways = [(planned, multiplied) for planned in (True, False) for multiplied in (True, False)]
    for tile_rows in HEIGHTS:
        for planned, multiplied in ways[:-1]:
            made = [part_of(case, own).mixture(x, routing) for own in parts]
            way = {"planned": planned, "multiplied": multiplied, "tile_rows": tile_rows}
            with simulated():
                sums = [mix_by(mixture, **way) for mixture in made]
            assert error(whole.norm_sum(sum(sums, start=mx.array(0.0))), case) <= 1e-5, way
    sums = [part_of(case, own)(x, routing) for own in parts]
    assert error(whole.norm_sum(sum(sums, start=mx.array(0.0))), case) <= 1e-5


class Bounded(DenseMatrix):
    """Experts' matrices that are asked for no expert they do not have, in ascending order."""

    def gather(self, x: mx.array, rows: mx.array | None, experts: mx.array) -> mx.array:
        numbers = np.asarray(experts)
        assert numbers.max() < self.right.shape[0]
        assert (np.diff(numbers.astype(np.int64)) >= 0).all()
        return super().gather(x, rows, experts)


@pytest.mark.parametrize("own", [range(2), range(2, 5), range(5, 8)], ids=str)
def test_operations_ask_for_own_experts_alone(own: range) -> None:
    """Of another expert's number MLX would read whatever lies there."""
    case = random_case(replace(BASE, L=40, E=8, K=3))
    part = part_of(case, own)
    bounded = [Bounded(matrix.stored.weight) for matrix in (part.gate_up, part.down)]
    got = replace(part, gate_up=bounded[0], down=bounded[1]).reference(*case[1:])
    assert row_error(as_float64(got), as_float64(part.reference(*case[1:]))) <= 1e-5


@pytest.mark.parametrize("tile_rows", HEIGHTS)
def test_experts_that_nobody_chose_add_zeros(tile_rows: int) -> None:
    """No tile is needed, no output written; what stands there instead reaches no sum."""
    case = random_case(replace(BASE, L=40, E=8, K=3))
    _, x, routing = case
    far = mx.where(mx.arange(8) < 5, routing.scores, -100)
    mixture = part_of(case, range(5, 8)).mixture(x, replace(routing, scores=far))
    for planned in (True, False):
        with simulated():
            got = mix_by(mixture, planned=planned, multiplied=True, tile_rows=tile_rows)
        assert not np.asarray(got).any()
    assert not np.asarray(mixture.operations.whole(x, mixture.routing)).any()


@pytest.mark.usefixtures("kernels_on")
def test_few_rows_of_own_experts_leave_the_products_to_mlx() -> None:
    case = random_case(replace(BASE, L=2, E=8, K=3))
    whole, x, routing = case
    with simulated() as simulation:
        sums = [part_of(case, own)(x, routing) for own in PARTS[0]]
    assert [launch.name for launch in simulation.launches] == ["moe_route"] * 2
    assert error(whole.norm_sum(sums[0] + sums[1]), case) <= 1e-5


@pytest.mark.parametrize(
    ("family", "names"), [(trial, PRODUCTS), (plan_trial, PLAN + COMBINE)], ids=["products", "plan"]
)
def test_a_trial_of_own_experts(family: ModuleType, names: list[str]) -> None:
    """Rows that the kernels do not write are not compared; the key says what is left out."""
    case = random_case(replace(BASE, L=40, E=8, K=3))
    mixture = part_of(case, range(5, 8)).mixture(*case[1:])
    assert "3 of 8 experts, 3 of them here, not normed, " in family.instantiation(mixture)
    with simulated() as simulation:
        made = family.trial(mixture)
        for compute in (made.kernel, *made.others.values()):
            assert made.disagreement(compute(), made.reference()) is None
    assert {launch.name for launch in simulation.launches} == set(names)


def test_one_preference_is_for_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    case = random_case(MANY)
    experts, x, routing = case
    with simulated() as simulation:
        got = replace(experts, kernels="off")(x, routing)
    assert simulation.launches == []
    assert error(got, case) == 0


@pytest.mark.slow
@pytest.mark.parametrize("dtype", trial.AGREEMENT, ids=dtype_name)
def test_products_and_packings_may_differ(dtype: mx.Dtype) -> None:
    """Experts of another packing in each product, as mixed recipes have them."""
    sizes = replace(BASE, L=19, dtype=dtype)
    experts, x, routing = random_case(replace(sizes, bits=8, group=64))
    case = (replace(experts, down=matrix(random_weight(sizes, sizes.H, sizes.I))), x, routing)
    with simulated():
        got = mix_by(case[0].mixture(x, routing), planned=True, multiplied=True)
    limit = trial.AGREEMENT[dtype] * (1 if dtype == mx.float32 else 4)  # the CPU sums in 16 bits
    assert error(got, case) <= limit


ROWS, WIDTH = "more than 512 rows at once", "not a multiple of 4"


@pytest.mark.usefixtures("kernels_on")
@pytest.mark.parametrize(
    ("case", "plan", "products"),
    [
        (lambda: random_case(replace(BASE, L=513, H=32, I=32)), ROWS, ROWS),
        (lambda: random_case(replace(MANY, E=257)), "more than 256 experts", None),
        (lambda: random_case(replace(BASE, E=17, K=17)), "more than 16 a row", None),
        (lambda: random_case(replace(MANY, H=48)), None, "hidden size of 48"),
        (lambda: random_case(replace(MANY, I=40)), None, "experts of 40"),
        (lambda: random_case(replace(MANY, H=50)), f"of 50 ... {WIDTH}", "hidden size of 50"),
        (lambda: quantised(4, "mxfp4"), None, "another way than affine"),
        (lambda: quantised(6, "affine"), None, "affine in 4 or 8 bits"),
    ],
    ids=["rows", "experts", "top", "hidden", "inner", "odd", "mxfp4", "6-bit"],
)
def test_what_a_family_does_not_cover_is_recorded_and_the_other_runs(
    case: object, plan: str | None, products: str | None
) -> None:
    assert callable(case)
    made: Case = case()
    experts, x, routing = made
    with simulated() as simulation:
        got = experts(x, routing)  # warnings are errors
        again = experts(x, routing)
    lines = list(dispatch.unused())
    for family, reason in (("experts", products), ("expert_plan", plan)):
        if reason is not None:
            assert_says(lines.pop(0), f"{family} ... not cover", reason)
    assert lines == []
    names = launched(plan is None, products is None)
    assert [launch.name for launch in simulation.launches] == names * 2
    assert mx.array_equal(got, again)
    assert error(got, made) <= (1e-5 if names else 0.0)


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
        experts = Experts(weight(2 * inner, 4096), weight(4096, inner), mx.ones(4096), EPS)
        return trial.not_covered(experts.mixture(mx.zeros((5, 4096)), routing))

    assert reason(1024) is None  # 2^31 values
    assert_says(reason(1088), "experts ... 2147483648 values")


def test_without_metal_the_operations_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    experts, x, routing = random_case(replace(MANY, H=48))
    assert mx.array_equal(experts(x, routing), experts.reference(x, routing))


# --- verdicts and trials -------------------------------------------------------------------------


def test_a_verdict_holds_for_rows_up_to_a_power_of_two() -> None:
    def named(family: ModuleType, rows: int) -> str:
        experts, x, routing = random_case(replace(BASE, L=rows, bits=4, group=64))
        key: str = family.instantiation(experts.mixture(x, routing))
        return key

    for family in (trial, plan_trial):
        assert named(family, 33) == named(family, 64) != named(family, 65)
    assert named(trial, 64) == (
        "64 rows, 2 of 4 experts, 64 x 64, float32, gate and up 4-bit groups of 64, "
        "down 4-bit groups of 64"
    )
    assert named(plan_trial, 64) == "64 rows of 64, 2 of 4 experts, float32, scores float32"


@pytest.mark.parametrize(
    ("family", "names"), [(trial, PRODUCTS), (plan_trial, PLAN + COMBINE)], ids=["products", "plan"]
)
def test_a_trial_agrees(family: ModuleType, names: list[str]) -> None:
    experts, x, routing = random_case(replace(BASE, dtype=mx.bfloat16))
    with simulated() as simulation:
        verdict = run_trial(lambda: family.trial(experts.mixture(x, routing)))
    assert verdict.outcome in (Outcome.FASTER, Outcome.SLOWER), verdict
    assert {launch.name for launch in simulation.launches} == set(names)
    heights = {dict(launch.template).get("ROWS") for launch in simulation.launches} - {None}
    assert heights == ({32, 16} if family is trial else {32})


def test_the_rows_of_a_trial_are_those_of_the_instantiation() -> None:
    """64, not the 40 of x."""
    experts, x, routing = random_case(MANY)
    with simulated() as simulation:
        for family in (trial, plan_trial):
            mx.eval(family.trial(experts.mixture(x, routing)).kernel())
    assert simulation.of("moe_combine")[0].grid[0] == 64 * 32
    assert simulation.of("moe_gate_up")[0].grid[1] == max_tiles(64 * 2, 4) > max_tiles(40 * 2, 4)


@pytest.mark.parametrize(
    ("family", "right", "wrong", "output"),
    [
        (trial, "gate / (1.0f", "gate / (1.1f", "outputs"),
        (plan_trial, "places[i]", "places[at]", "mixed"),
        (plan_trial, "norm[column + i]", "norm[i]", "mixed"),
        (
            plan_trial,
            "rows[at] = static_cast<uint>(i)",
            "rows[i] = static_cast<uint>(i)",
            "experts",
        ),
        (plan_trial, "= start + ROWS * j;", "= start + (ROWS - 1) * j + 1;", "tiles"),
    ],
)
def test_a_trial_finds_a_wrong_kernel(
    family: ModuleType, right: str, wrong: str, output: str
) -> None:
    experts, x, routing = random_case(MANY)
    with simulated(mutate=lambda text: text.replace(right, wrong)):
        verdict = run_trial(lambda: family.trial(experts.mixture(x, routing)))
    assert verdict.outcome is Outcome.WRONG
    assert str(verdict.note).startswith(output)


@pytest.mark.parametrize("family", [trial, plan_trial], ids=["products", "plan"])
def test_a_trial_may_begin_while_a_function_is_traced(family: ModuleType, tmp_path: Path) -> None:
    """What the model computes then has no values; the trial has its own."""
    experts, x, routing = random_case(BASE)
    mx.eval(experts.reference(x, routing))  # its weights, as a loaded model's
    found = []

    def traced(x: mx.array, scores: mx.array) -> mx.array:
        chosen = Routing(scores, routing.scale, routing.top_k)
        mixture = experts.mixture(x, chosen)
        assert family.not_covered(mixture) is None
        assert family.instantiation(mixture).startswith("8 rows")
        trial = family.trial(mixture)
        with simulated():
            found.append(trial.disagreement(trial.kernel(), trial.reference()))
        return experts.reference(x, chosen)

    mx.export_function(str(tmp_path / "traced"), traced, x, routing.scores)
    assert found == [None]


# --- in the model --------------------------------------------------------------------------------


@pytest.mark.usefixtures("kernels_on")
@pytest.mark.parametrize("families", [{"expert_plan", "experts"}, {"expert_plan"}], ids=len)
def test_the_embedded_checkpoint_computes_the_same(
    families: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both passes of tiny-sudoku: float32, 8 experts of 128 x 64, top 2, 90 positions."""
    random = np.random.default_rng(0)
    prompt = random.integers(0, 128, 33).tolist()
    canvas = mx.array(random.integers(0, 128, 90))

    def logits() -> mx.array:
        model = dg.load_model("tiny-sudoku")
        return model.logits(model.decode(canvas, model.encode(prompt)))

    monkeypatch.setattr(dispatch, "chosen", lambda family, *_: family in families)
    with simulated() as simulation:
        got = as_float64(logits())
    layers = 2 * 6 - 1  # the encoder's last layer stops at its keys and values
    names = launched("expert_plan" in families, "experts" in families)
    assert [launch.name for launch in simulation.launches] == names * layers
    monkeypatch.setattr(dispatch, "chosen", lambda *_: False)
    want = as_float64(logits())
    assert_close(got, want, 1e-4, "logits with the kernels")  # they reach 30
