"""Compilers, and the folder where compiled kernels are kept."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from metal_sim import NoCompilerError, SimError
from metal_sim import compiler as module
from metal_sim.compiler import ZIG, Compiler, compiler, kernel_library
from metal_sim.lower import lowered

TEXT = lowered(
    """[[kernel]] void adds(
  const device float* x [[buffer(0)]],
  device float* out [[buffer(1)]],
  uint3 thread_position_in_grid [[thread_position_in_grid]]) {
out[thread_position_in_grid.x] = x[thread_position_in_grid.x] + 1;
}
""",
    "adds",
)
PROGRAM = """
from one_kernel import run_body
print(run_body("threadgroup float s[64]; s[t] = float(half(x[i])); "
    "threadgroup_barrier(mem_flags::mem_threadgroup); "
    "out[i] = simd_sum(metal::precise::tanh(s[63 - t]));").sum())
"""


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of this test's own."""
    monkeypatch.setenv("METAL_SIM_CACHE", str(tmp_path / "cache"))
    module.cache_folder.cache_clear()
    yield tmp_path / "cache"
    module.cache_folder.cache_clear()


@pytest.fixture
def another_search() -> Iterator[None]:
    """The compiler is looked for again, here and after."""
    compiler.cache_clear()
    yield
    compiler.cache_clear()


def found_here() -> list[tuple[str, ...]]:
    """Every compiler of this machine that the search would take."""
    return [command for command in module.candidates() if module.usable(command)]


def pretend(folder: Path, version: str) -> Path:
    """A program that says it is a compiler."""
    file = folder / "clang++"
    file.write_text(f"#!/bin/sh\necho '{version}'\n", encoding="utf-8")
    file.chmod(0o755)
    return file


def test_a_text_is_compiled_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = kernel_library(TEXT, None)
    monkeypatch.setattr(module, "compile_text", lambda *_: pytest.fail("compiled again"))
    assert kernel_library(TEXT, None) == library
    assert library.parent == empty_cache
    assert {file.name for file in empty_cache.iterdir()} <= {library.name, "zig"}


def test_another_text_or_header_is_another_library(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = [kernel_library(TEXT, None), kernel_library(TEXT.replace("+ 1", "+ 2"), None)]
    monkeypatch.setattr(module, "_runtime_text", lambda: "other headers")
    libraries.append(kernel_library(TEXT, None))
    assert len(set(libraries)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("command", found_here(), ids=" ".join)
def test_every_compiler_here_works_without_a_home(command: tuple[str, ...], tmp_path: Path) -> None:
    """All at the same time, into one cache, and again: the result is the same to the bit."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "HOME"},
        "METAL_SIM_CXX": shlex.join(command),
        "METAL_SIM_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    printed = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    sums = np.tanh(np.arange(64)).reshape(2, 32).sum(1)
    assert printed[0] == printed[1]
    assert float(printed[0]) == pytest.approx(32 * sums.sum(), rel=1e-6)


def test_the_search_prefers_the_systems_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    names = [command[0] for command in module.candidates()]
    assert names[:2] == ["clang++-40", "clang++-39"]
    assert names.index("clang++-17") < names.index("clang++")
    assert module.candidates()[-1] == ZIG


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("Debian clang version 19.1.7 (3)", True),
        ("clang version 17.0.6", True),
        ("clang version 16.0.6", False),
        ("Apple clang version 16.0.0 (clang-1600)", True),
        ("Apple clang version 15.0.0", False),
        ("g++ (Debian 12.2.0-14) 12.2.0", False),
    ],
)
def test_versions(version: str, taken: bool, tmp_path: Path) -> None:
    command = (str(pretend(tmp_path, version)),)
    assert (module.usable(command) is not None) is taken


@pytest.mark.usefixtures("another_search")
def test_a_forced_compiler_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAL_SIM_CXX", str(pretend(tmp_path, "clang version 12.0.0")))
    with pytest.raises(NoCompilerError, match=r"METAL_SIM_CXX=.*clang >= 17"):
        compiler()


def test_a_folder_of_somebody_else_is_refused(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.getuid()
    monkeypatch.setattr("os.getuid", lambda: owner + 1)
    with pytest.raises(SimError, match="belongs to another user"):
        module.cache_folder()


def test_zig_is_recognised() -> None:
    assert Compiler(ZIG, "clang version 22").is_zig
    assert Compiler(("/opt/zig/zig", "c++"), "clang version 22").is_zig
    assert not Compiler(("clang++-19",), "clang version 19").is_zig
