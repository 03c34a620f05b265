"""A machine in a few words, for `selftest` and `profile`."""

from collections.abc import Mapping
from typing import Any

from ..errors import counted


def hardware(machine: Mapping[str, Any]) -> str:
    """Chip, GPU cores and memory of a Machine, given as JSON has it."""
    from ..model.memory import sized

    cores = counted(machine["gpu_cores"], "GPU core") if machine["gpu_cores"] else ""
    memory = sized(machine["memory_bytes"]) if machine["memory_bytes"] else ""
    return ", ".join(filter(None, (machine["chip"] or "unknown chip", cores, memory)))
