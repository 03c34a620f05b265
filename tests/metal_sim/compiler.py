"""Finds a clang, compiles C++ to shared libraries, and keeps them.

A clang >= 17 of the system, else the one in the `ziglang` package. METAL_SIM_CXX names another
command; METAL_SIM_CACHE another folder.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import mlx.core as mx

from .errors import NoCompilerError, SimError

Sanitizer = Literal["address", "thread"]

RUNTIME = Path(__file__).parent / "runtime"
LEAST_CLANG = 17  # the first whose __bf16 can be added and multiplied
ZIG = (sys.executable, "-m", "ziglang", "c++")

# As Metal computes: no contraction, half rounded after every operation, literals of type float.
# Variables nobody set hold NaN or 0xAA; aliasing is not reasoned about.
NUMERICS = [
    "-ffp-contract=off",
    *("-Xclang", "-ffloat16-excess-precision=none"),
    *("-Xclang", "-cl-single-precision-constant"),
    "-fno-math-errno",
    "-fno-strict-aliasing",
    "-ftrivial-auto-var-init=pattern",
]
# A build that counts loads: those that the text contains, none merged, dropped or made wider. The
# last two are for zig, which without optimisation adds checks that want a library.
COUNTING = [
    "-O0",
    "-DMETAL_SIM_COUNT",
    "-fsanitize-coverage=func,trace-loads",
    "-fno-sanitize=undefined",
    "-fno-stack-protector",
]
# Of clang's warnings, those that mean an error on a GPU too.
WARNINGS = ["-Wno-everything"] + [
    f"-Werror={warning}"
    for warning in (
        "uninitialized",
        "sometimes-uninitialized",
        "array-bounds",
        "return-type",
        "shift-count-overflow",
        "shift-count-negative",
        "division-by-zero",
        "infinite-recursion",
        "vla",
    )
]


@dataclass(frozen=True)
class Compiler:
    """A command that compiles C++, and what it says of itself."""

    command: tuple[str, ...]
    version: str

    @property
    def is_zig(self) -> bool:
        """Zig's clang: it would build the C++ library and a half-precision runtime to link."""
        return "ziglang" in self.command or Path(self.command[0]).stem == "zig"


@cache
def compiler() -> Compiler:
    """The compiler of this machine; NoCompilerError where there is none."""
    forced = os.environ.get("METAL_SIM_CXX")
    if forced:
        if found := usable(tuple(shlex.split(forced))):
            return found
        raise NoCompilerError(f"METAL_SIM_CXX={forced}: no clang >= {LEAST_CLANG}")
    for command in candidates():
        if found := usable(command):
            return found
    raise NoCompilerError(f"no clang >= {LEAST_CLANG} and no ziglang package: install one of them")


def candidates() -> list[tuple[str, ...]]:
    """Commands that may be a clang, the best first."""
    numbered = [f"clang++-{version}" for version in range(40, LEAST_CLANG - 1, -1)]
    found: list[tuple[str, ...]] = [
        (name,) for name in [*numbered, "clang++"] if shutil.which(name)
    ]
    return [*found, ZIG] if importlib.util.find_spec("ziglang") else found


def usable(command: tuple[str, ...]) -> Compiler | None:
    """The compiler behind a command if it is a clang that is new enough; Apple counts one less."""
    try:
        done = subprocess.run(
            [*command, "--version"], text=True, capture_output=True, env=_environment(), check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"clang version (\d+)", done.stdout)
    if not found or int(found.group(1)) < LEAST_CLANG - ("Apple" in done.stdout):
        return None
    return Compiler(command, done.stdout)


def mlx_headers() -> Path:
    """Where MLX's package keeps the headers of its own kernels."""
    return Path(str(mx.__file__)).parent / "include"


def kernel_library(text: str, sanitizer: Sanitizer | None, *, count_loads: bool = False) -> Path:
    """The shared library of one kernel's C++ text; SimError where it does not compile."""
    flags = ["-std=c++14", *WARNINGS, *_includes(), *_sanitizer_flags(sanitizer)]
    return _library(text, [*flags, *(COUNTING if count_loads else [])])


def runtime_library(sanitizer: Sanitizer | None) -> Path:
    """The scheduler's shared library. It tells the thread sanitizer of its fibers by itself."""
    text = f'#include "{RUNTIME / "scheduler" / "scheduler.cpp"}"\n'
    flags = ["-DSIM_TSAN"] if sanitizer == "thread" else _sanitizer_flags(sanitizer)
    return _library(text, ["-std=c++17", *flags])


def complaints(text: str) -> str:
    """What the compiler says of C++ text that uses address spaces; empty where it is content.

    Compiled in full and thrown away: zig has no -fsyntax-only.
    """
    check = ["-DMETAL_SIM_CHECK", "-Wno-everything", "-ferror-limit=0", "-fno-caret-diagnostics"]
    flags = ["-x", "c++", "-std=c++14", "-O1", *check, *NUMERICS, *_includes()]
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        return compile_text(text, [*flags, "-c", "-o", str(Path(folder) / "checked.o")])


def _includes() -> list[str]:
    return [f"-I{RUNTIME / 'include'}", f"-isystem{mlx_headers()}"]


def _sanitizer_flags(sanitizer: Sanitizer | None) -> list[str]:
    """After an error they go on: the launch reports it."""
    if sanitizer is None:
        return []
    kinds = "address,undefined" if sanitizer == "address" else "thread"
    flags = [f"-fsanitize={kinds}", "-fsanitize-recover=all", "-shared-libsan"]
    return [*flags, "-gline-tables-only", "-fno-omit-frame-pointer"]


def _library(text: str, flags: list[str]) -> Path:
    """Compiles into the cache. Another process may do the same: the last to finish wins."""
    found = compiler()
    flags = ["-x", "c++", "-O2", "-fPIC", "-fno-exceptions", "-fno-rtti", *NUMERICS, *flags]
    key = "\0".join([text, *flags, *found.command, found.version, _runtime_text()])
    library = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            compiled, linked = Path(folder) / "made.o", Path(folder) / "made.so"
            said = compile_text(text, [*flags, *_processor(), "-c", "-o", str(compiled)])
            if not compiled.exists():
                raise SimError(f"does not compile:\n{said}")
            _link(compiled, linked, _linked_sanitizer(flags))
            linked.replace(library)
    return library


def _linked_sanitizer(flags: list[str]) -> list[str]:
    """The flags that link a sanitizer's runtime; coverage needs none, its functions are ours."""
    return [flag for flag in flags if "san" in flag and flag not in COUNTING]


def _processor() -> list[str]:
    """x86-64: this processor's own half and vector instructions, which zig takes by itself."""
    return ["-march=native"] if platform.machine() == "x86_64" and not compiler().is_zig else []


def _link(compiled: Path, linked: Path, flags: list[str]) -> None:
    """Zig would first build C++ and compiler libraries from source, for a minute: not needed."""
    libraries = ["-nostdlib", "-lm", "-lc"] if compiler().is_zig else []
    command = [*compiler().command, *flags, "-shared", str(compiled), *libraries, "-o", str(linked)]
    done = subprocess.run(command, text=True, capture_output=True, env=_environment(), check=False)
    if done.returncode:
        raise SimError(f"does not link:\n{done.stderr}")


def compile_text(text: str, flags: list[str]) -> str:
    """Compiles C++ text; returns what the compiler says."""
    done = subprocess.run(
        [*compiler().command, *flags, "-"],
        input=text,
        text=True,
        capture_output=True,
        env=_environment(),
        check=False,
    )
    return done.stderr


@cache
def _runtime_text() -> str:
    """All that a library depends on beside its own text."""
    files = sorted(file for file in RUNTIME.rglob("*") if file.is_file())
    utilities = mlx_headers() / "mlx/backend/metal/kernels/utils.h"
    return "".join(file.read_text(encoding="utf-8") for file in [*files, utilities])


def _environment() -> dict[str, str]:
    """Zig caches beside our own libraries: HOME may be missing. Nothing is preloaded into clang."""
    kept = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    zig = str(cache_folder() / "zig")
    return {**kept, "ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}


@cache
def cache_folder() -> Path:
    """Where libraries are kept: a folder that nobody else can write to."""
    named = os.environ.get("METAL_SIM_CACHE")
    folder = Path(named or Path(tempfile.gettempdir()) / f"metal-sim-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise SimError(
            f"{folder} belongs to another user; set METAL_SIM_CACHE to a folder of yours."
        )
    return folder
