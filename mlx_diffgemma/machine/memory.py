"""The memory of this machine, how much of it a model may use, and what this process has used."""

import os
import re
import resource
import sys
from pathlib import Path

import mlx.core as mx

MIB = 2**20
LIMIT_STEP = 256 * MIB
# What a raised limit leaves to macOS and other programs: this project's choice, not Apple's.
LEAST_LEFT_BYTES, LEAST_LEFT_SHARE = 4 * 2**30, 0.1


def available_memory() -> int | None:
    """Bytes a model may use: what Metal recommends, else the machine's (or container's) memory."""
    if mx.metal.is_available():
        info = mx.device_info(mx.gpu)  # whatever the default device is
        return int(info.get("max_recommended_working_set_size", info["memory_size"]))
    physical = physical_memory()
    return None if physical is None else min(physical, _container_limit() or physical)


def raised_limit(needed_bytes: int) -> int | None:
    """The `iogpu.wired_limit_mb` (MiB) with which Metal gives that many bytes on this Mac.

    None where there is no such setting, and where it would leave macOS less than 4 GiB, or less
    than a tenth of the memory. The setting holds until the next restart. Its unit: 114,688 makes
    Metal recommend 112.00 GiB (antirez/ds4, pull request 893).
    """
    if sys.platform != "darwin" or not mx.metal.is_available():
        return None
    memory = int(mx.device_info(mx.gpu)["memory_size"])
    limit = -(-needed_bytes // LIMIT_STEP) * LIMIT_STEP
    left = max(LEAST_LEFT_BYTES, int(memory * LEAST_LEFT_SHARE))
    return limit // MIB if limit <= memory - left else None


def use_all_gpu_memory() -> None:
    """Lets Metal keep weights resident, as mlx-lm does; elsewhere there is no such limit."""
    if mx.metal.is_available():
        mx.set_wired_limit(int(mx.device_info(mx.gpu)["max_recommended_working_set_size"]))


def physical_memory() -> int | None:
    """Bytes of memory in the machine, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def peak_memory() -> int:
    """Bytes of memory that this process has held at most.

    Linux's ru_maxrss starts with what the parent process had, VmHWM does not.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _container_limit() -> int | None:
    """The control group's memory limit, where there is one (Linux, cgroup v2)."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return None
