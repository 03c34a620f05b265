"""The verdict of a selftest, and the line to paste."""

from dataclasses import replace
from typing import Any

import pytest
from facts import assert_says

from mlx_diffgemma.cli.selftest.verdict import Run, line, sentence
from mlx_diffgemma.kernels.experts.checks import REAL
from mlx_diffgemma.kernels.selftest import Finding, Plan, Status
from mlx_diffgemma.machine import device
from mlx_diffgemma.machine.identity import Identity, Machine

MACHINE = Machine(
    chip="Apple M4 Pro",
    gpu_cores=20,
    cpu_cores=14,
    memory_bytes=51_539_607_552,
    system="macOS 26.1",
    device="gpu",
    python="3.13.1",
    versions={"mlx": "0.32.4"},
    numpy_threads=None,
)
IDENTITY = Identity(
    "Apple M4 Pro", "applegpu_g16s", "macOS 26.1", "0.32.4", "1.2.0", "0123456789ab"
)


def finding(kernel: str, status: str = "ok", *, size: str = "26B", ratio: float = 2.0) -> Finding:
    timed = status in ("ok", "slower")
    return Finding(
        kernel,
        "rows 4",
        size,
        Status(status),
        kernel_ms=1.0 if timed else None,
        reference_ms=ratio if timed else None,
    )


def ran(*found: Finding, planned: int | None = None) -> Run:
    plan: Any = Plan((None,) * (len(found) if planned is None else planned), 0, 0, None)  # type: ignore[arg-type]
    return Run(IDENTITY, MACHINE, plan, found, ())


@pytest.fixture(autouse=True)
def metal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_metal", lambda: True)


@pytest.mark.parametrize(
    ("found", "facts"),
    [
        ([finding("moe_down"), finding("moe_plan")], "all kernels agree ... 2 checks."),
        ([finding("moe_down"), finding("moe_plan", "slower")], "agree ... 1 found ... slower"),
        (
            [finding("moe_down", "wrong"), finding("moe_down", "error"), finding("moe_plan")],
            "2 of 3 checks failed (moe_down): ... reference ... MLX_DIFFGEMMA_KERNELS=off",
        ),
    ],
)
def test_the_verdict_on_a_mac(found: list[Finding], facts: str) -> None:
    assert_says(sentence(ran(*found)), facts)


@pytest.mark.parametrize(
    ("status", "facts"),
    [("ok", "no Metal ... no kernel ran ... float64 in 1 check."), ("wrong", "1 of 1 ... off")],
)
def test_the_verdict_without_metal(
    status: str, facts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_metal", lambda: False)
    found = replace(finding("moe_down", status), kernel_ms=None, reference_ms=None)
    assert_says(sentence(ran(found)), facts)
    assert_says(line(ran(found)), "no Metal, 1 check, ... no kernel was timed")


def test_what_was_not_checked_is_not_called_right() -> None:
    """An interrupted run, or one without room, must not read as if all kernels agreed."""
    assert_says(sentence(ran(finding("moe_down"), planned=3)), "1 of 3 checks ... agree")
    assert_says(sentence(ran(planned=3)), "nothing is known")
    assert_says(sentence(ran()), "nothing was checked ... memory")
    assert_says(line(ran(finding("moe_down"), planned=3)), "1 of 3 checks, none off")


def test_the_line_has_machine_versions_verdict_and_kernels() -> None:
    found = [
        finding("moe_down", ratio=1.5),
        finding("moe_down", ratio=1.7),
        finding("moe_down", "slower", size="small", ratio=0.1),  # says little of speed
        finding("moe_plan", "slower", ratio=0.9),
        finding("denoise_stats, denoise_pick", ratio=3.0),
        finding("denoise_stats, denoise_pick", "slower", ratio=0.8),
    ]
    assert line(ran(*found)).split(" | ") == [
        "Apple M4 Pro, 20 GPU cores, 51.54 GB",
        "macOS 26.1",
        "MLX 0.32.4",
        "mlx-diffgemma 1.2.0 (kernels 0123456789ab)",
        "6 checks, none off",
        "moe_down on 1.60x, moe_plan off 0.90x, denoise_stats + denoise_pick on in 1 of 2 1.90x",
    ]


def test_a_wrong_kernel_has_no_speed() -> None:
    shown = line(ran(finding("moe_down", "wrong"), finding("moe_plan")))
    assert_says(shown, "2 checks, off: moe_down | moe_plan on 2.00x")


def test_heights_of_tiles_are_kernels_of_their_own() -> None:
    """Named as the checks of the package name them."""
    products = [
        replace(finding("moe_down", ratio=ratio), instantiation=str(replace(REAL, tile_rows=rows)))
        for rows, ratio in ((32, 1.5), (16, 1.8))
    ]
    shown = line(ran(*products)).split(" | ")[-1]
    assert shown == "moe_down in tiles of 32 rows on 1.50x, moe_down in tiles of 16 rows on 1.80x"
