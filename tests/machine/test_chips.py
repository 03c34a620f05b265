"""The table of chips, and the chip of a machine."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mlx_diffgemma.machine import chips
from mlx_diffgemma.machine.chips import CHIPS, chip_of, find_chip, this_chip
from mlx_diffgemma.machine.identity import this_machine


def test_chips() -> None:
    half = find_chip("Apple M4 Pro", gpu_cores=10)
    assert half is not None
    assert (half.tflops, half.gpu_cores) == (pytest.approx(4.6), 10)
    slower, whole = find_chip("Apple M4 Max", 32), find_chip("Apple M4 Max")
    assert slower is not None
    assert whole is not None
    assert (slower.gigabytes_per_second, whole.gigabytes_per_second) == (410, 546)
    smaller = find_chip("Apple M5 Max", 32)
    assert smaller is not None
    assert (smaller.gigabytes_per_second, smaller.tflops) == (460, pytest.approx(66 * 32 / 40))
    assert find_chip("AMD EPYC-Milan Processor") is None
    assert find_chip("Apple M9 Pro") is None
    assert find_chip("") is None
    assert {chip.name for chip in CHIPS if chip.estimated} == {"M5", "M5 Pro", "M5 Max"}


def test_a_machine_that_computes_on_its_cpu_has_no_chip() -> None:
    machine = replace(this_machine(), chip="Apple M4 Pro", gpu_cores=16, device="gpu")
    chip = chip_of(machine)
    assert chip is not None
    assert (chip.name, chip.gpu_cores) == ("M4 Pro", 16)
    assert chip_of(replace(machine, device="cpu")) is None
    assert chip_of(replace(machine, chip=None)) is None


def test_the_system_is_asked_on_a_mac_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> str | None:
        asked.append(command)
        return "Apple M4 Pro\n" if "machdep.cpu.brand_string" in command else None

    monkeypatch.setattr(chips, "is_mac", lambda: False)
    assert this_chip(run) is None
    assert asked == []
    for module in ("chips", "identity"):
        monkeypatch.setattr(f"mlx_diffgemma.machine.{module}.is_mac", lambda: True)
    monkeypatch.setattr(chips, "has_metal", lambda: True)
    monkeypatch.setattr("mlx_diffgemma.machine.identity.on_gpu", lambda: True)
    assert this_chip(run) == find_chip("Apple M4 Pro")
