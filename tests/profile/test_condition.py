"""Power and heat as pmset prints them; no Mac wrote these samples.

They are put together from the tool's manual and from reports of users.
"""

from collections.abc import Sequence

import pytest

from mlx_diffgemma.machine import identity as machine
from mlx_diffgemma.profile.condition import (
    Condition,
    condition,
    low_power_mode,
    power_source,
    thermal_state,
)

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
ANSWERS = {"batt": ON_BATTERY, "therm": HOT, "-g": SETTINGS.format(1)}


def mac(command: Sequence[str]) -> str | None:
    return ANSWERS[command[-1]]


def test_samples() -> None:
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
    assert power_source(report) is None
    assert low_power_mode(report) is None
    assert thermal_state(report) is None


def test_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    assert condition(mac) == Condition("Battery Power", True, "CPU_Speed_Limit 62")


def test_a_mac_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    assert condition(lambda command: None) == Condition(None, None, None)


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    assert condition() == Condition(None, None, None)
