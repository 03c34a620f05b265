"""The router's kernel, simulated, against its reference and float64; the launch; the choice."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from facts import assert_says, raises
from metal_sim import ORDERS, simulated
from metal_sim.reports import inherited

from mlx_diffgemma.errors import KernelError
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.kernels.check import Check, as_float64, worst
from mlx_diffgemma.kernels.experts.cases import Sizes, random_rows, random_weight
from mlx_diffgemma.kernels.router import launch as router_launch
from mlx_diffgemma.kernels.router import trial as router
from mlx_diffgemma.kernels.router.checks import RouteCase, checks, random_scores
from mlx_diffgemma.kernels.trial import Outcome, run_trial
from mlx_diffgemma.model import experts as reference
from mlx_diffgemma.model.experts import Experts, Routing
from mlx_diffgemma.model.matrices import matrix

SMALL = [check for check in checks(reference) if check.size == "small"]
SCHEDULES = ORDERS[:1] if inherited() else ORDERS  # sanitizers need no other


def in_all_schedules(run: Callable[[], Any]) -> list[Any]:
    """The results of `run`, which must be the same bits in every order of threads."""
    results = []
    for order in SCHEDULES:
        with simulated(order=order):
            results.append([as_float64(array) for array in run()])
    assert all(map(np.array_equal, results[0], got) for got in results)
    return results[0]


def routing(*shape: int, dtype: mx.Dtype = mx.float32) -> Routing:
    rows, num_experts, top_k = shape
    return Routing(*random_scores((rows, num_experts, top_k), dtype))


@pytest.mark.parametrize("check", SMALL, ids=lambda c: c.instantiation)
def test_every_instantiation(check: Check) -> None:
    """The checks of the selftest, ties among their scores: kernel and reference."""
    case = check.prepare()
    right = case.exact()
    kernel = worst(in_all_schedules(case.kernel), right, check.tolerances)
    ours = worst(case.reference(), right, check.tolerances)
    assert kernel.allowed, f"kernel: {kernel}"
    assert ours.allowed, f"reference: {ours}"


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 31, 16), (3, 128, 8), (7, 256, 8)])
def test_any_number_of_experts(shape: tuple[int, int, int]) -> None:
    case = RouteCase.of(shape, mx.bfloat16, reference)
    experts, weights = in_all_schedules(case.kernel)
    right = case.exact()
    np.testing.assert_array_equal(experts, right[0])
    np.testing.assert_array_equal(experts, as_float64(case.reference()[0]))
    np.testing.assert_allclose(weights, right[1], rtol=1e-5)


def test_ties_go_to_the_lowest_expert_and_nan_comes_last() -> None:
    """As in the experts' plan and the reference: only the row with too few numbers has no sum."""
    scores = np.zeros((3, 40), np.float32)
    scores[1, :2] = float("nan")
    scores[2, :39] = float("nan")
    with simulated():
        experts, weights = router_launch.route(mx.array(scores), mx.ones(40), 4)
        chosen = np.array(experts).tolist()
        finite = np.isfinite(np.array(weights)).all(axis=1).tolist()
    assert chosen[:2] == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert (chosen[2][0], len(set(chosen[2]))) == (39, 4)
    assert finite == [True, True, False]


@pytest.mark.usefixtures("kernels_on")
@pytest.mark.parametrize("rows", [1, 7])
def test_a_token_takes_one_launch_and_the_vector_products(rows: int) -> None:
    """Not the plan and its tiles of 32 rows; 8 of 16 experts a row."""
    sizes = Sizes(L=rows, E=16, K=8, H=64, I=32, dtype=mx.float32, bits=4, group=32)
    matrices = [matrix(random_weight(sizes, 64, width)) for width in (64, 32)]
    experts = Experts(*matrices, norm_weight=mx.ones(64), eps=1e-6)
    x, chosen = random_rows(rows, 64, mx.float32), routing(rows, 16, 8)
    with simulated() as simulation:
        got = experts(x, chosen)
        mx.eval(got)
    assert [launch.name for launch in simulation.launches] == ["moe_route"]
    np.testing.assert_allclose(np.array(got), np.array(experts.reference(x, chosen)), atol=1e-5)


@pytest.mark.usefixtures("kernels_on")
@pytest.mark.parametrize(
    ("shape", "reason"),
    [((1, 257, 2), "more than 256 experts"), ((1, 20, 17), "more than 16 a row")],
)
def test_what_the_kernel_does_not_cover_is_recorded(
    shape: tuple[int, int, int], reason: str
) -> None:
    given = routing(*shape)
    with simulated() as simulation:
        got = router.route(given, reference.route)
    assert simulation.launches == []
    assert_says(dispatch.unused()[0], "router ... not cover", reason)
    assert all(map(mx.array_equal, got, reference.route(given)))


def test_a_trial_agrees_and_finds_a_wrong_kernel() -> None:
    given = routing(3, 16, 4, dtype=mx.bfloat16)
    with simulated() as simulation:
        verdict = run_trial(lambda: router.trial(given, reference.route))
    assert verdict.outcome in (Outcome.FASTER, Outcome.SLOWER), verdict
    assert simulation.launches[0].grid[0] == 4 * 32  # rows of the instantiation
    with simulated(mutate=lambda text: text.replace("share * scale[own]", "2.0f * share")):
        verdict = run_trial(lambda: router.trial(given, reference.route))
    assert verdict.outcome is Outcome.WRONG
    assert "weights: error" in str(verdict.note)


def test_a_verdict_holds_for_rows_up_to_a_power_of_two() -> None:
    named = [router.instantiation(routing(rows, 16, 4)) for rows in (3, 4, 5)]
    assert named[0] == named[1] == "4 rows, 4 of 16 experts, scores float32"
    assert named[2] != named[1]


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: router_launch.route(mx.zeros(4), mx.ones(4), 2), "scores ... 1 axes ... 2"),
        (
            lambda: router_launch.route(mx.zeros((1, 4), mx.int32), mx.ones(4), 2),
            "scores ... int32 ... float32",
        ),
        (lambda: router_launch.route(mx.zeros((1, 4)), mx.ones(3), 2), "scale ... [3] ... [4]"),
        (lambda: router_launch.route(mx.zeros((1, 4)), mx.ones(4), 5), "5 experts ... 1 to 4"),
        (lambda: router_launch.route(mx.zeros((0, 4)), mx.ones(4), 2), "0 rows ... 1 to"),
    ],
)
def test_arrays_the_kernel_was_not_made_for(call: Callable[[], object], facts: str) -> None:
    with simulated() as simulation, raises(KernelError, f"moe_route ... {facts}"):
        call()
    assert simulation.launches == []
