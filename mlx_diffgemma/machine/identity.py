"""The machine and the versions that a verdict about a kernel, or a report, holds for."""

import platform
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable

import mlx.core as mx

from .. import metal
from ..version import __version__


@dataclass(frozen=True)
class Machine:
    """What makes a kernel fast, slow or wrong: the chip, the system, MLX, and the kernel itself.

    kernels: a hash of the texts in metal/ and of the Python that launches them.
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


@cache
def this_machine() -> Machine:
    """The machine this process runs on, with MLX's default device."""
    info = mx.device_info()
    return Machine(
        device=str(info.get("device_name", "unknown device")),
        architecture=str(info.get("architecture", "unknown architecture")),
        system=system(),
        mlx=version("mlx"),
        package=__version__,
        kernels=sources_hash(files(metal), files("mlx_diffgemma.kernels")),
    )


def system() -> str:
    """The operating system with the version of its kernel, which an update always changes."""
    macos = platform.mac_ver()[0]
    name = f"macOS {macos}, " if macos else ""
    return f"{name}{platform.system()} {platform.release()}"


def sources_hash(*folders: Traversable) -> str:
    """12 hexadecimal digits over the names and contents of the sources in `folders`."""
    digest = sha256()
    for folder in folders:
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.name.endswith((".metal", ".h", ".py")):
                content = file.read_bytes()
                digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]
