"""The machine a measurement holds for: chip, memory, system, versions, power and heat.

macOS is asked through sysctl, system_profiler and pmset, none of which needs root; Linux through
/proc. What does not answer is None, and nothing here raises.
"""

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..machine.device import on_gpu
from ..machine.memory import physical_memory

Run = Callable[[Sequence[str]], str | None]
"""A command -> its standard output, None where it fails or does not exist."""

TIMEOUT_SECONDS = 20.0  # system_profiler takes one or two
PACKAGES = ("mlx", "mlx-lm", "numpy")


@dataclass(frozen=True)
class Machine:
    """What measurements depend on, as far as the machine tells. numpy_threads: of its BLAS."""

    chip: str | None
    gpu_cores: int | None
    cpu_cores: int | None
    memory_bytes: int | None
    system: str
    device: str
    python: str
    versions: dict[str, str | None]
    numpy_threads: str | None


@dataclass(frozen=True)
class Condition:
    """What may slow a Mac down for a while; thermal: the warnings there are, or "ok"."""

    power: str | None
    low_power_mode: bool | None
    thermal: str | None


def this_machine(run: Run | None = None) -> Machine:
    """The machine this process runs on."""
    run = run or _run
    mac = platform.system() == "Darwin"
    return Machine(
        chip=_line(run(["sysctl", "-n", "machdep.cpu.brand_string"])) if mac else _linux_chip(),
        gpu_cores=gpu_cores(run(["system_profiler", "-json", "SPDisplaysDataType"]))
        if mac
        else None,
        cpu_cores=os.cpu_count(),
        memory_bytes=_whole(run(["sysctl", "-n", "hw.memsize"])) if mac else physical_memory(),
        system=_system(),
        device="gpu" if on_gpu() else "cpu",
        python=platform.python_version(),
        versions={package: _version(package) for package in PACKAGES},
        numpy_threads=os.environ.get("OPENBLAS_NUM_THREADS"),
    )


def condition(run: Run | None = None) -> Condition:
    """Power and heat now; all None where pmset does not exist."""
    run = run or _run
    if platform.system() != "Darwin":
        return Condition(None, None, None)
    return Condition(
        power=power_source(run(["pmset", "-g", "batt"])),
        low_power_mode=low_power_mode(run(["pmset", "-g"])),
        thermal=thermal_state(run(["pmset", "-g", "therm"])),
    )


def gpu_cores(report: str | None) -> int | None:
    """The GPU cores in what `system_profiler -json SPDisplaysDataType` prints."""
    try:
        displays = json.loads(report or "")["SPDisplaysDataType"]
        return next(int(entry["sppci_cores"]) for entry in displays if "sppci_cores" in entry)
    except (KeyError, TypeError, ValueError, StopIteration):
        return None


def power_source(report: str | None) -> str | None:
    """ "AC Power" or "Battery Power", from `pmset -g batt`."""
    found = re.search(r"drawing from '([^']+)'", report or "")
    return found[1] if found else None


def low_power_mode(report: str | None) -> bool | None:
    """From `pmset -g`, where a line says so."""
    found = re.search(r"^\s*(?:lowpowermode|powermode)\s+(\d)", report or "", re.MULTILINE)
    return found[1] == "1" if found else None


def thermal_state(report: str | None) -> str | None:
    """The warnings and limits in `pmset -g therm`; "ok" where it records none.

    None where it could not ask, which it says in lines that begin with "Error", exiting with 0.
    """
    limits = re.findall(r"(CPU_Speed_Limit|CPU_Scheduler_Limit)\s*=\s*(\d+)", report or "")
    levels = re.findall(r"((?:Thermal|Performance) Warning Level)\s*=\s*(\d+)", report or "")
    slowed = [f"{name} {value}" for name, value in limits if int(value) < 100]
    if found := [*slowed, *(f"{name} {value}" for name, value in levels if int(value) > 0)]:
        return ", ".join(found)
    calm = limits or levels or "Note: No thermal warning level" in (report or "")
    failed = re.search(r"^Error", report or "", re.MULTILINE)
    return "ok" if calm and not failed else None


def _run(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout


def _line(text: str | None) -> str | None:
    return (text or "").strip() or None


def _whole(text: str | None) -> int | None:
    line = _line(text)
    return int(line) if line and line.isdecimal() else None


def _system() -> str:
    macos = platform.mac_ver()[0]
    if macos:
        return f"macOS {macos}"
    return f"{platform.system()} {platform.release()}, {platform.machine()}"


def _linux_chip() -> str | None:
    try:
        found = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
