"""The Metal kernels, one .metal file each, and the text of each for `mx.fast.metal_kernel`.

A file has its contract on top, then helper functions, then, behind a line `// kernel`, the body of
the kernel, whose signature MLX generates. `unpack.h` and other headers are shared by several.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

BODY = "\n// kernel\n"  # what follows this line is the body


@dataclass(frozen=True)
class Source:
    """The text of one kernel: functions that stand before it, and its body."""

    header: str
    body: str


@cache
def source(name: str, *headers: str) -> Source:
    """The kernel metal/NAME.metal; the shared metal/HEADER.h stand before its own functions."""
    folder = files(__name__)
    header, body = (folder / f"{name}.metal").read_text(encoding="utf-8").split(BODY)
    shared = [(folder / f"{shared}.h").read_text(encoding="utf-8") for shared in headers]
    # MLX writes on where the header ends: behind a comment without a line end that would be lost.
    return Source("\n".join([*shared, header, ""]), body)


def names() -> list[str]:
    """Every kernel there is, in alphabetical order."""
    found = (file.name for file in files(__name__).iterdir())
    return sorted(name.removesuffix(".metal") for name in found if name.endswith(".metal"))
