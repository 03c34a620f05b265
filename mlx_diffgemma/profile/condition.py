"""The condition of a Mac during a measurement: power and heat, as pmset tells them.

pmset needs no root. What it does not tell is None, and nothing here raises.
"""

import re
from dataclasses import dataclass

from ..machine.identity import Run, ask_system, is_mac


@dataclass(frozen=True)
class Condition:
    """Causes that slow a Mac down for a while; thermal: the warnings there are, or "ok"."""

    power: str | None
    low_power_mode: bool | None
    thermal: str | None


def condition(run: Run = ask_system) -> Condition:
    """Power and heat now; all None where pmset does not exist."""
    if not is_mac():
        return Condition(None, None, None)
    return Condition(
        power=power_source(run(["pmset", "-g", "batt"])),
        low_power_mode=low_power_mode(run(["pmset", "-g"])),
        thermal=thermal_state(run(["pmset", "-g", "therm"])),
    )


def power_source(report: str | None) -> str | None:
    """ "AC Power" or "Battery Power", from `pmset -g batt`."""
    found = re.search(r"drawing from '([^']+)'", report or "")
    return found[1] if found else None


def low_power_mode(report: str | None) -> bool | None:
    """The mode's switch in `pmset -g`, None where no line tells."""
    found = re.search(r"^\s*(?:lowpowermode|powermode)\s+(\d)", report or "", re.MULTILINE)
    return found[1] == "1" if found else None


def thermal_state(report: str | None) -> str | None:
    """The warnings and limits in `pmset -g therm`; "ok" where it records none.

    None where pmset could not ask, which it says in lines that begin with "Error", exiting with 0.
    """
    limits = re.findall(r"(CPU_Speed_Limit|CPU_Scheduler_Limit)\s*=\s*(\d+)", report or "")
    levels = re.findall(r"((?:Thermal|Performance) Warning Level)\s*=\s*(\d+)", report or "")
    slowed = [f"{name} {value}" for name, value in limits if int(value) < 100]
    if found := [*slowed, *(f"{name} {value}" for name, value in levels if int(value) > 0)]:
        return ", ".join(found)
    calm = limits or levels or "Note: No thermal warning level" in (report or "")
    failed = re.search(r"^Error", report or "", re.MULTILINE)
    return "ok" if calm and not failed else None
