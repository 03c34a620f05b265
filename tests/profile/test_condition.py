"""What the system's tools print, and what becomes of it.

No Mac wrote these samples: they are put together from the tools' manuals and from reports of users.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlx_diffgemma.profile import condition as machine
from mlx_diffgemma.profile.condition import (
    Condition,
    condition,
    gpu_cores,
    low_power_mode,
    power_source,
    thermal_state,
    this_machine,
)

DISPLAYS = {
    "SPDisplaysDataType": [
        {
            "_name": "Apple M4 Pro",
            "spdisplays_mtlgpufamilysupport": "spdisplays_metal4",
            "spdisplays_vendor": "sppci_vendor_Apple",
            "sppci_bus": "spdisplays_builtin",
            "sppci_cores": "20",
            "sppci_device_type": "spdisplays_gpu",
            "sppci_model": "Apple M4 Pro",
        }
    ]
}
ON_MAINS = (
    "Now drawing from 'AC Power'\n -InternalBattery-0 (id=1234)\t100%; charged; 0:00 remaining\n"
)
ON_BATTERY = "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1234)\t80%; discharging\n"
COOL = (
    "Note: No thermal warning level has been recorded\n"
    "Note: No performance warning level has been recorded\n"
    "Note: No CPU power status has been recorded\n"
)
HOT = (
    "2025-06-01 12:00:00 +0200 CPU Power notify\n"
    "\tCPU_Scheduler_Limit \t= 100\n\tCPU_Available_CPUs \t= 8\n\tCPU_Speed_Limit \t= 62\n"
)
WARNED = "2026-02-01 12:00:00 +0100 Thermal Warning Level = 1\n" + COOL.split("\n", 1)[1]
FAILED = (
    "Error:Failed to get thermal warning level with error code 0xe00002bc\n"
    "Error: Failed to get performance warning level with error code 0xe00002bc\n"
    "Error: No CPU power status with error code 0xe00002bc\n"
)
SETTINGS = (
    "System-wide power settings:\nCurrently in use:\n standby              1\n"
    " lowpowermode         {}\n displaysleep         10\n"
)
ANSWERS = {
    "machdep.cpu.brand_string": "Apple M4 Pro\n",
    "hw.memsize": "51539607552\n",
    "SPDisplaysDataType": json.dumps(DISPLAYS),
    "batt": ON_BATTERY,
    "therm": HOT,
    "-g": SETTINGS.format(1),
}


def mac(command: Sequence[str]) -> str | None:
    return ANSWERS[command[-1]]


def test_samples() -> None:
    assert gpu_cores(json.dumps(DISPLAYS)) == 20
    assert (power_source(ON_MAINS), power_source(ON_BATTERY)) == ("AC Power", "Battery Power")
    assert (thermal_state(COOL), thermal_state(HOT)) == ("ok", "CPU_Speed_Limit 62")
    assert thermal_state(WARNED) == "Thermal Warning Level 1"
    assert thermal_state(WARNED.replace("= 1", "= 0")) == "ok"
    assert thermal_state(COOL + "Performance Warning Level = 2\n") == "Performance Warning Level 2"
    assert thermal_state(COOL + HOT.replace("62", "100")) == "ok"
    assert low_power_mode(SETTINGS.format(1)) is True
    assert low_power_mode(SETTINGS.format(0)) is False


def test_heat_that_could_not_be_asked_for_is_neither_pressure_nor_ok() -> None:
    """pmset says so with exit code 0, in lines that name a warning level."""
    assert thermal_state(FAILED) is None
    assert thermal_state(FAILED.splitlines()[0] + "\n" + COOL.split("\n", 1)[1]) is None
    assert thermal_state(FAILED + HOT) == "CPU_Speed_Limit 62"


@pytest.mark.parametrize("report", [None, "", "\n", "nonsense", "{}", "[1]", '{"a": [{}]}', "null"])
def test_what_cannot_be_read_is_none(report: str | None) -> None:
    assert gpu_cores(report) is None
    assert power_source(report) is None
    assert low_power_mode(report) is None
    assert thermal_state(report) is None


def test_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(machine.platform, "mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
    here = this_machine(mac)
    assert (here.chip, here.gpu_cores, here.memory_bytes) == ("Apple M4 Pro", 20, 51_539_607_552)
    assert here.system == "macOS 26.1"
    assert condition(mac) == Condition("Battery Power", True, "CPU_Speed_Limit 62")


def test_a_mac_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    here = this_machine(lambda command: None)
    assert (here.chip, here.gpu_cores, here.memory_bytes) == (None, None, None)
    assert condition(lambda command: None) == Condition(None, None, None)


def test_this_machine() -> None:
    here = this_machine()
    assert here.system
    assert here.versions["mlx"]
    assert here.python.startswith("3.")


def test_a_missing_or_failing_command_is_no_answer() -> None:
    assert machine._run(["no-such-command-anywhere"]) is None
    assert machine._run(["false"]) is None
    assert machine._run(["echo", "hello"]) == "hello\n"


def test_a_command_that_hangs_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("system_profiler", 20)

    monkeypatch.setattr(machine.subprocess, "run", hang)
    assert machine._run(["system_profiler"]) is None


def test_linux_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine, "Path", lambda name: Path("/no") / name.strip("/"))
    assert this_machine().chip is None
    assert condition() == Condition(None, None, None)
