"""`selftest` on checks made up here: the table, the JSON, the exit codes, and an interrupt."""

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from facts import assert_says
from numpy.typing import NDArray
from puzzle import SOLUTION, SOLVE, assert_one_line

from mlx_diffgemma.autoregressive.generate import generate
from mlx_diffgemma.cli.explain import kernel_warnings_said
from mlx_diffgemma.cli.selftest import text
from mlx_diffgemma.errors import KernelWarning
from mlx_diffgemma.kernels import dispatch, selftest
from mlx_diffgemma.kernels.check import Check, Tolerance
from mlx_diffgemma.kernels.selftest import Finding, Status
from mlx_diffgemma.kernels.timing import Comparison
from mlx_diffgemma.kernels.trial import Outcome, Verdict
from mlx_diffgemma.kernels.verdicts import this_identity, verdicts_file, write_verdict
from mlx_diffgemma.machine import device, memory

KEYS = [
    "metal",
    "machine",
    "memory_bytes",
    "memory_limit_bytes",
    "planned",
    "left_out",
    "finished",
    "failed",
    "checks",
    "verdicts",
    "verdict",
    "line",
]
CHECK_KEYS = [
    "kernel",
    "instantiation",
    "size",
    "status",
    "note",
    "output",
    "error",
    "tolerance",
    "reason",
    "twin_error",
    "kernel_ms",
    "twin_ms",
    "gigabytes_per_second",
    "teraflops",
]


class MadeUp:
    def __init__(self, off: float) -> None:
        self.off = off

    def kernel(self) -> Sequence[mx.array]:
        return [mx.array([1.0, 2.0]) + self.off]

    def reference(self) -> Sequence[mx.array]:
        return [mx.array([1.0, 2.0])]

    def exact(self) -> Sequence[NDArray[Any]]:
        return [np.array([1.0, 2.0])]


def check(kernel: str, off: float = 0.0, size: Any = "small") -> Check:
    return Check(
        kernel=kernel,
        instantiation="rows 4 of width 2816, 4-bit groups of 64, bfloat16",
        size=size,
        memory_bytes=2_310_000_000,
        flops=1_000_000,
        bytes_moved=1_000,
        tolerances=(Tolerance("sum", 1e-3, "float32 sums"),),
        prepare=lambda: MadeUp(off),
    )


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """The checks of the package, replaced by one that passes and one for a Mac."""
    listed = [check("moe_plan"), check("moe_down", size="26B")]
    monkeypatch.setattr(selftest.References, "checks", lambda self: iter(listed))
    monkeypatch.setattr(device, "has_metal", lambda: False)
    return listed


@pytest.fixture
def metal(checks: list[Check], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_metal", lambda: True)
    monkeypatch.setattr(selftest, "in_turn", lambda *_: Comparison([0.001] * 5, [0.002] * 5))


@pytest.mark.usefixtures("checks")
def test_without_metal_it_says_so_and_passes(run: Any) -> None:
    done = run("selftest")
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert_says(line, "1 checks ... 2.31 GB")
    assert "No Metal device here: no kernel ran" in done.stdout
    left = next(line for line in done.stdout.splitlines() if "26B" in line)
    assert_says(left, "1 check ... a Mac")
    assert "checks    1 of 1 done, 1 ok\n" in done.stdout
    assert "verdicts  kept: none\n" in done.stdout


@pytest.mark.usefixtures("metal")
def test_the_table_can_be_pasted(run: Any) -> None:
    done = run("selftest")
    assert done.exit_code == 0
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1  # a row a check, nothing folded
    cells = [cell.strip() for cell in table[2].split("|")[1:-1]]
    assert cells == [
        "moe_plan",
        "rows 4 of width 2816, 4-bit groups of 64, bfloat16",
        "small",
        "ok",
        "0",
        "1.0e-03",
        "1.000",
        "2.000",
        "0.00 TFLOPS",
    ]
    for part in ("device ", "system ", "versions  mlx-diffgemma ", ", MLX ", "at most 2.31 GB"):
        assert part in done.stdout
    assert not any(line != line.rstrip() for line in done.stdout.splitlines())


@pytest.mark.usefixtures("metal")
def test_it_ends_with_its_verdict_and_a_line_to_paste(run: Any) -> None:
    verdict, how, line = run("selftest").stdout.splitlines()[-3:]
    assert_says(verdict, "verdict ... all kernels agree ... 2 checks")
    assert_says(how, "paste")
    assert_says(line, "| MLX ... | 2 checks, none off | moe_plan on 2.00x, moe_down on 2.00x")
    found = json.loads(run("selftest", "--json").stdout)
    assert (found["line"], verdict.endswith(found["verdict"])) == (line, True)


def test_the_table_is_drawn_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: its console wrote to a full disk first, and the error did not say to what."""

    class Full(StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    head, _, row = text.table([Finding("moe_plan", "rows 4", "small", Status.OK)])
    assert (head.count("|"), row.startswith("| moe_plan | rows 4")) == (10, True)


@pytest.mark.usefixtures("metal")
def test_json_is_one_object_with_these_keys(run: Any) -> None:
    done = run("selftest", "--json")
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1)
    found = json.loads(done.stdout)
    assert list(found) == KEYS
    assert list(found["machine"]) == [
        "device",
        "architecture",
        "system",
        "mlx",
        "package",
        "kernels",
    ]
    assert (found["metal"], found["planned"], found["finished"], found["failed"]) == (True, 2, 2, 0)
    assert found["left_out"] == {"too_large": 0, "real_shapes": 0}
    for described in found["checks"]:
        assert list(described) == CHECK_KEYS
        assert (described["status"], described["error"]) == ("ok", 0.0)
        assert described["gigabytes_per_second"] == pytest.approx(0.001)


@pytest.mark.usefixtures("metal")
@pytest.mark.parametrize("off", [0.1, np.nan])
def test_a_wrong_kernel_fails_and_says_what_to_do(
    run: Any, checks: list[Check], off: float
) -> None:
    checks[1:] = [check("moe_down", off), check("moe_combine", off), check("moe_combine", off)]
    done = run("selftest")
    assert done.exit_code == 1
    then = "report ... MLX_DIFFGEMMA_KERNELS=off"
    assert_says(done.stderr.splitlines()[-1], "error: 3 of 4 ... moe_down, moe_combine", then)
    (line, *_) = (line for line in done.stdout.splitlines() if line.startswith("moe_down, "))
    assert_says(line, "rows 4 of width 2816 ... small ... the kernel is wrong")
    as_json = run("selftest", "--json")
    assert as_json.exit_code == 1
    wrong = json.loads(as_json.stdout)["checks"][1]
    assert wrong["status"] == "wrong"
    assert wrong["error"] == (None if np.isnan(off) else pytest.approx(0.05))


def test_a_wrong_reference_fails_without_metal(run: Any, checks: list[Check]) -> None:
    class WrongReference(MadeUp):
        def reference(self) -> Sequence[mx.array]:
            return [mx.array([1.0, 2.1])]

    checks[:] = [replace(checks[0], prepare=lambda: WrongReference(0.0))]
    assert run("selftest").exit_code == 1


@pytest.mark.usefixtures("checks")
@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupt_shows_what_is_finished(
    run: Any, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(checks: Sequence[Check]) -> Iterator[Finding]:
        yield Finding("moe_plan", "rows 4", "small", Status.OK)
        raise KeyboardInterrupt

    monkeypatch.setattr(selftest, "findings", interrupted)
    done = run("selftest", *["--json"] * as_json)
    assert done.exit_code == 130
    assert done.stderr.endswith("interrupted: 1 of 1 checks finished.\n")
    if as_json:
        assert json.loads(done.stdout)["finished"] == 1
    else:
        assert "| moe_plan | rows 4 " in done.stdout


def test_checks_that_need_too_much_memory_are_left_out(
    run: Any, checks: list[Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 4_000_000_000)
    done = run("selftest")
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert_says(line, "0 checks ... 0.0 kB")
    left = next(line for line in done.stdout.splitlines() if "more memory" in line)
    assert_says(left, "1 check left out")


@pytest.mark.usefixtures("metal")
def test_kept_verdicts_are_shown_with_their_age(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    today = datetime(2026, 11, 29, tzinfo=UTC)
    monkeypatch.setattr(dispatch, "now", lambda: today)
    dispatch.forget()
    file = verdicts_file()
    assert file is not None
    kept = [
        Verdict(Outcome.FASTER, None, 1.0, 2.0, 0.02, today - timedelta(days=3)),
        Verdict(Outcome.SLOWER, None, 2.0, 2.0, 0.31, today - timedelta(days=58), tries=2),
        Verdict(Outcome.ERROR, "no library"),
    ]
    for number, verdict in enumerate(kept):
        write_verdict(file, str(this_identity()), "experts", f"rows {number}", verdict)
    (line,) = (part for part in run("selftest").stdout.splitlines() if part.startswith("verdicts"))
    assert_says(line, "1 faster, 1 slower, 1 error; 3 to 58 days old, 1 of unknown age", "1 found")
    shown = json.loads(run("selftest", "--json").stdout)["verdicts"]
    assert [row["age_days"] for row in shown] == [3, 58, None]
    assert [row["steady"] for row in shown] == [True, False, True]
    assert shown[1] == {
        "family": "experts",
        "key": "rows 1",
        "outcome": "slower",
        "kernel_ms": 2.0,
        "reference_ms": 2.0,
        "found": "2026-10-02T00:00:00+00:00",
        "age_days": 58,
        "disagreement": 0.31,
        "steady": False,
        "tries": 2,
    }
    dispatch.forget()


# --- the environment variable, and what is said about kernels


@pytest.mark.parametrize(
    ("value", "part"),
    [("yes", "expected one of auto, on, off, check"), ("on", "there is no Metal device")],
)
def test_a_mode_that_cannot_be_is_one_line(spawn: Any, value: str, part: str) -> None:
    if value == "on" and mx.metal.is_available():
        pytest.skip("a Mac can follow it")
    env = {"MLX_DIFFGEMMA_KERNELS": value}
    assert_one_line(spawn(*SOLVE, env=env), 2, f"MLX_DIFFGEMMA_KERNELS is {value!r}", part)


def test_a_bad_mode_is_found_before_the_question_about_a_download(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_DIFFGEMMA_KERNELS", "yes")
    done = run("generate", "Why?", "--model", "nobody/has-this")
    assert_one_line(done, 2, "MLX_DIFFGEMMA_KERNELS is 'yes'")


@pytest.mark.parametrize("filters", ["default", "error", "ignore"])
def test_a_warning_about_kernels_is_one_line(
    run: Any, filters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(*arguments: Any, **options: Any) -> Any:
        warnings.warn("experts: no good\n here.", KernelWarning, stacklevel=2)
        return generate(*arguments, **options)

    monkeypatch.setattr("mlx_diffgemma.conversation.turn.generate", warned)
    with warnings.catch_warnings():
        warnings.simplefilter(filters)  # type: ignore[arg-type]
        done = run(*SOLVE)
    assert (done.exit_code, done.stdout) == (0, SOLUTION)
    assert done.stderr == "warning: experts: no good here.\n"


def test_another_warning_is_shown_as_ever() -> None:
    with pytest.warns(UserWarning, match="another"), kernel_warnings_said():
        warnings.warn("another", stacklevel=1)
