"""The selftest on checks made up here: what it finds, and that it goes on after what it finds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from facts import assert_says
from held import taken_by
from metal_sim import simulated
from numpy.typing import NDArray

import mlx_diffgemma as dg
from mlx_diffgemma.diffusion import classes, sampler
from mlx_diffgemma.kernels import dispatch, selftest
from mlx_diffgemma.kernels.check import Check, Tolerance
from mlx_diffgemma.kernels.selftest import Finding, References, Status, findings, plan
from mlx_diffgemma.kernels.timing import Comparison
from mlx_diffgemma.machine import device
from mlx_diffgemma.metal import names as kernel_names
from mlx_diffgemma.model import experts, soft_gather

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
RIGHT = np.arange(6.0).reshape(2, 3)
REFERENCES = References(experts=experts, denoise=sampler, classes=classes, soft_gather=soft_gather)


class MadeUp:
    """A case whose kernel and reference are off by so much, or raise."""

    def __init__(self, kernel: float | Exception = 0.0, reference: float | Exception = 0.0) -> None:
        self.off = {"kernel": kernel, "reference": reference}

    def kernel(self) -> Sequence[mx.array]:
        return self._results("kernel")

    def reference(self) -> Sequence[mx.array]:
        return self._results("reference")

    def exact(self) -> Sequence[NDArray[Any]]:
        return [RIGHT]

    def _results(self, who: str) -> Sequence[mx.array]:
        off = self.off[who]
        if isinstance(off, Exception):
            raise off
        return [mx.array(RIGHT.astype(np.float32)) + off]


CHECK = Check(
    kernel="moe_down",
    instantiation="rows 4 bfloat16",
    size="small",
    memory_bytes=1000,
    flops=4_000_000,
    bytes_moved=2_000_000,
    tolerances=(Tolerance("sum", 1e-3, "float32 sums"),),
    prepare=MadeUp,
)


def only(prepare: Callable[[], Any]) -> Finding:
    (finding,) = findings([replace(CHECK, prepare=prepare)])
    return finding


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_metal", lambda: True)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that kernel and reference are found to take."""
    seconds = [0.001, 0.002]
    monkeypatch.setattr(
        selftest, "in_turn", lambda *_: Comparison(*([each] * 5 for each in seconds))
    )
    return seconds


@pytest.mark.usefixtures("metal", "times")
def test_a_right_kernel_is_timed() -> None:
    finding = only(MadeUp)
    assert (finding.status, finding.failed, finding.error) == (Status.OK, False, 0.0)
    assert (finding.output, finding.tolerance, finding.reason) == ("sum", 1e-3, "float32 sums")
    assert (finding.kernel_ms, finding.reference_ms) == (1.0, 2.0)
    assert finding.gigabytes_per_second == pytest.approx(2.0)  # 2 MB in 1 ms
    assert finding.teraflops == pytest.approx(0.004)


@pytest.mark.usefixtures("metal")
def test_a_kernel_that_does_not_win_is_right_all_the_same(times: list[float]) -> None:
    times[:] = [0.00199, 0.002]
    finding = only(MadeUp)
    assert (finding.status, finding.failed) == (Status.SLOWER, False)


@pytest.mark.usefixtures("metal")
def test_times_are_taken() -> None:
    finding = only(MadeUp)
    assert finding.kernel_ms
    assert finding.reference_ms


@pytest.mark.usefixtures("metal")
@pytest.mark.parametrize(
    ("kernel", "reference", "facts"),
    [
        (0.1, 0.0, "the kernel is wrong ... sum ... 0.05 ... 0.001"),
        (0.0, 0.1, "the reference is wrong ... sum ... 0.05 ... 0.001"),
        (np.nan, 0.1, "the kernel is wrong ... sum ... inf ... 0.001 ... the reference is wrong"),
    ],
)
def test_who_is_wrong_is_said(kernel: float, reference: float, facts: str) -> None:
    finding = only(lambda: MadeUp(kernel, reference))
    assert (finding.status, finding.failed, finding.kernel_ms) == (Status.WRONG, True, None)
    assert_says(finding.note, facts)


@pytest.mark.usefixtures("metal", "times")
def test_the_reference_may_have_a_tolerance_of_its_own() -> None:
    rough = (Tolerance("sum", 0.1, "16-bit sums"),)
    (finding,) = findings(
        [replace(CHECK, prepare=lambda: MadeUp(0.0, 0.1), reference_tolerances=rough)]
    )
    assert (finding.status, finding.error, finding.tolerance) == (Status.OK, 0.0, 1e-3)
    assert finding.reference_error == pytest.approx(0.05)
    (finding,) = findings(
        [replace(CHECK, prepare=lambda: MadeUp(0.1, 0.0), reference_tolerances=rough)]
    )
    assert finding.status is Status.WRONG


@pytest.mark.usefixtures("metal")
def test_an_error_is_a_finding_and_the_next_check_runs() -> None:
    broken = RuntimeError("[metal::Device] Unable to build\n  metal library")
    checks = [replace(CHECK, prepare=lambda: MadeUp(broken)), CHECK]
    first, second = findings(checks)
    assert (first.status, first.failed) == (Status.ERROR, True)
    assert_says(first.note, "RuntimeError ... [metal::Device] Unable to build metal library")
    assert second.status in (Status.OK, Status.SLOWER)


def test_without_metal_the_reference_is_checked_and_no_kernel_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "has_metal", lambda: False)
    finding = only(lambda: MadeUp(kernel=AssertionError("called")))
    assert (finding.status, finding.error, finding.kernel_ms) == (Status.OK, 0.0, None)
    wrong = only(lambda: MadeUp(reference=0.1))
    assert wrong.status is Status.WRONG
    assert_says(wrong.note, "reference is wrong ... sum ... 0.05 ... 0.001")


def test_arrays_of_one_check_are_gone_before_the_next() -> None:
    alive: list[int] = []

    class Counted(MadeUp):
        def __init__(self) -> None:
            super().__init__()
            assert alive == []
            alive.append(1)

        def __del__(self) -> None:
            alive.clear()

    assert len(list(findings([replace(CHECK, prepare=Counted)] * 3))) == 3


def test_the_plan_keeps_within_the_memory_and_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [
        CHECK,
        replace(CHECK, size="26B", memory_bytes=5000),
        replace(CHECK, size="26B", memory_bytes=9000),
    ]
    monkeypatch.setattr(References, "checks", lambda self: iter(checks))
    monkeypatch.setattr(device, "has_metal", lambda: True)
    planned = plan(REFERENCES, 5000)
    assert (planned.checks, planned.memory_bytes) == (tuple(checks[:2]), 5000)
    assert (planned.too_large, planned.real_shapes) == (1, 0)
    assert plan(REFERENCES, None).memory_bytes == 9000

    monkeypatch.setattr(device, "has_metal", lambda: False)
    planned = plan(REFERENCES, 5000)
    assert (planned.checks, planned.too_large, planned.real_shapes) == ((CHECK,), 0, 2)


def test_every_registered_check_can_be_read() -> None:
    """Making the list makes no arrays, and names only kernels there are."""
    made = taken_by(lambda: list(REFERENCES.checks()))
    checks = made.result
    assert (made.peak, made.left) == (0, 0)
    named_kernels = {name for check in checks for name in check.kernel.split(", ")}
    assert named_kernels <= set(kernel_names())
    assert all(check.memory_bytes > 0 and check.bytes_moved > 0 for check in checks)
    assert all(check.tolerances and check.tolerances[0].reason for check in checks)
    named = [(check.kernel, check.instantiation, check.size) for check in checks]
    assert len(set(named)) == len(named)


# --- whether the checks are all that can be asked for


def asked(kernel: str) -> set[str]:
    """The instantiations of one kernel that are checked."""
    return {
        check.instantiation for check in REFERENCES.checks() if kernel in check.kernel.split(", ")
    }


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_whatever_convert_packs_is_checked_at_the_widths_of_the_26b_model(
    dtype: str, bits: int, group: int
) -> None:
    """A width that groups do not fill stays unpacked."""
    packing = f"{dtype}, {bits}-bit groups of {group}, "
    for kernel, width in (("moe_gate_up", 2816), ("moe_down", 704)):
        found = any(
            name.startswith(packing) and name.endswith(" 2816 x 704") for name in asked(kernel)
        )
        assert found is (width % group == 0), kernel
    gathers = [
        name
        for name in asked("soft_gather")
        if name.startswith(f"{dtype}, ")
        and name.endswith(f" 262144 logits, 2816 wide, {bits}-bit groups of {group}")
    ]
    assert len(gathers) == (dtype != "float32")


def test_what_the_embedded_checkpoint_asks_for_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each template it is run with is one that a check compiles."""
    wanted, checked = set(), set()
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    with simulated() as run:
        dg.load("tiny-sudoku").ask(PUZZLE, settings=dg.Settings(seed=1))
        wanted = {(launch.name, launch.template) for launch in run.launches}
    with simulated() as run:
        for check in REFERENCES.checks():
            others = ("float16", "tiles of 16 rows")  # the latter only after a trial
            if check.size == "small" and not any(map(check.instantiation.__contains__, others)):
                mx.eval(check.prepare().kernel())
        checked = {(launch.name, launch.template) for launch in run.launches}
    assert wanted <= checked, wanted - checked
