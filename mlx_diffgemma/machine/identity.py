"""The machine at hand: its chip, memory and system, and the versions of what computes on it.

macOS is asked through sysctl and system_profiler, neither of which needs root, Linux through /proc.
A fact that the machine does not tell is None.
"""

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.resources.abc import Traversable
from pathlib import Path

import mlx.core as mx

from ..version import __version__
from .device import on_gpu
from .memory import physical_memory

Run = Callable[[Sequence[str]], str | None]
"""A command -> its standard output, None where it fails or does not exist."""

TIMEOUT_SECONDS = 20.0  # system_profiler takes one or two
PACKAGES = ("mlx", "mlx-lm", "numpy")
SOURCES = (".metal", ".h", ".py")


@dataclass(frozen=True)
class Identity:
    """Facts that make a kernel fast, slow or wrong; none of them takes time to find out.

    kernels: a hash of the kernels' sources.
    """

    device: str
    architecture: str
    system: str
    mlx: str
    package: str
    kernels: str

    def __str__(self) -> str:
        return (
            f"mlx-diffgemma {self.package} (kernels {self.kernels}), MLX {self.mlx}, "
            f"{self.system}, {self.device} ({self.architecture})"
        )


@dataclass(frozen=True)
class Machine:
    """All that measurements depend on, which may take seconds to find out.

    numpy_threads: of its BLAS, where the environment sets them.
    """

    chip: str | None
    gpu_cores: int | None
    cpu_cores: int | None
    memory_bytes: int | None
    system: str
    device: str
    python: str
    versions: dict[str, str | None]
    numpy_threads: str | None


def identity(kernels: str) -> Identity:
    """The Identity of this machine with MLX's default device."""
    info = mx.device_info()
    return Identity(
        device=str(info.get("device_name", "unknown device")),
        architecture=str(info.get("architecture", "unknown architecture")),
        system=", ".join(filter(None, (_macos(), _kernel()))),
        mlx=version("mlx"),
        package=__version__,
        kernels=kernels,
    )


def ask_system(command: Sequence[str]) -> str | None:
    """The standard output of a tool of the system, a Run."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout


def this_machine(run: Run = ask_system) -> Machine:
    """The machine this process runs on."""
    mac = is_mac()
    return Machine(
        chip=_line(run(["sysctl", "-n", "machdep.cpu.brand_string"])) if mac else _linux_chip(),
        gpu_cores=gpu_cores(run(["system_profiler", "-json", "SPDisplaysDataType"]))
        if mac
        else None,
        cpu_cores=os.cpu_count(),
        memory_bytes=_whole(run(["sysctl", "-n", "hw.memsize"])) if mac else physical_memory(),
        system=_macos() or f"{_kernel()}, {platform.machine()}",
        device="gpu" if on_gpu() else "cpu",
        python=platform.python_version(),
        versions={package: _version(package) for package in PACKAGES},
        numpy_threads=os.environ.get("OPENBLAS_NUM_THREADS"),
    )


def is_mac() -> bool:
    """True where macOS runs."""
    return platform.system() == "Darwin"


def sources_hash(*folders: Traversable) -> str:
    """12 hexadecimal digits over the names and contents of the sources in and below `folders`."""
    digest = sha256()
    for folder in folders:
        for name, content in _sources(folder, ""):
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def gpu_cores(report: str | None) -> int | None:
    """The GPU cores in what `system_profiler -json SPDisplaysDataType` prints."""
    try:
        displays = json.loads(report or "")["SPDisplaysDataType"]
        return next(int(entry["sppci_cores"]) for entry in displays if "sppci_cores" in entry)
    except (KeyError, TypeError, ValueError, StopIteration):
        return None


def _macos() -> str:
    """The system's name and version on a Mac, "macOS 26.1"; empty elsewhere."""
    release = platform.mac_ver()[0]
    return f"macOS {release}" if release else ""


def _kernel() -> str:
    """The kernel's name and version, which every update of the system changes."""
    return f"{platform.system()} {platform.release()}"


def _sources(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    """Path below the first folder, and content, of every source; in the same order everywhere."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.is_dir():
            yield from _sources(file, f"{path}{file.name}/")
        elif file.name.endswith(SOURCES):
            yield path + file.name, file.read_bytes()


def _line(text: str | None) -> str | None:
    return (text or "").strip() or None


def _whole(text: str | None) -> int | None:
    line = _line(text)
    return int(line) if line and line.isdecimal() else None


def _linux_chip() -> str | None:
    with suppress(OSError):
        known = Path("/proc/cpuinfo").read_text()
        if found := re.search(r"^model name\s*:\s*(.+)$", known, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
