"""Runs Python under a sanitizer of clang, in a process of its own.

A sanitizer's runtime has to be the first library of a process, and Python does not bring it: it is
preloaded. In that process `simulated()` compiles kernels with the sanitizer, and what it reports
during a launch is raised as a SimError.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
from waiting import SECONDS

from .compiler import Sanitizer, compiler
from .errors import NoCompilerError
from .reports import REPORTS, SANITIZER

# What they find does not end the process: the launch that did it raises. Python leaks on purpose;
# fibers leave their stacks in ways that use-after-return does not understand. Only kernels are
# compiled for the thread sanitizer: what Python and MLX do is not looked at.
OPTIONS = {
    "address": "detect_leaks=0:halt_on_error=0:detect_stack_use_after_return=0",
    "thread": "halt_on_error=0:exitcode=0:history_size=7:ignore_noninstrumented_modules=1",
}


def missing(sanitizer: Sanitizer) -> str | None:
    """Why the sanitizer cannot be used here, in one line; None where it can."""
    try:
        found = compiler()
    except NoCompilerError as error:
        return str(error)
    if sys.platform != "linux":
        return f"the {sanitizer} sanitizer is preloaded into Python, which is done on Linux only"
    if not runtime_of(sanitizer):
        command = " ".join(found.command)
        return f"{command} has no {sanitizer} sanitizer: install clang and its runtime"
    return does_not_start(sanitizer)


@cache
def does_not_start(sanitizer: Sanitizer) -> str | None:
    """What Python says where it does not start under the sanitizer, in one line.

    Containers may forbid the layout of memory that it needs.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = _run(sanitizer, Path(folder), "-c", "", timeout=SECONDS)
    said = " ".join((done.stdout + done.stderr).split())
    return None if done.returncode == 0 else f"Python does not start under it: {said}"


@cache
def runtime_of(sanitizer: Sanitizer) -> Path | None:
    """The shared library of the sanitizer's runtime, where the compiler has one."""
    short = {"address": "asan", "thread": "tsan"}[sanitizer]
    name = f"libclang_rt.{short}-{platform.machine()}.so"
    command = [*compiler().command, f"-print-file-name={name}"]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    file = Path(done.stdout.strip())
    return file if file.is_absolute() and file.exists() else None


def run_sanitized(
    sanitizer: Sanitizer, *arguments: str, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS` under the sanitizer; skips the test where there is none.

    With "-m", "pytest" and a file, that file's tests run as they are. stdout ends with what the
    sanitizer reported in all.
    """
    if reason := missing(sanitizer):
        pytest.skip(f"nothing ran under the {sanitizer} sanitizer: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        return _run(sanitizer, Path(folder), *arguments, timeout=timeout)


def _run(
    sanitizer: Sanitizer, folder: Path, *arguments: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    """The run itself; what the sanitizer writes goes into `folder`."""
    done = subprocess.run(
        [*_no_random_addresses(sanitizer), sys.executable, *arguments],
        env={**os.environ, **_environment(sanitizer, folder / "report")},
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    written = [file.read_text(encoding="utf-8") for file in sorted(folder.iterdir())]
    done.stdout += "\n".join(written)
    return done


def _environment(sanitizer: Sanitizer, prefix: Path) -> dict[str, str]:
    options = f"{OPTIONS[sanitizer]}:log_path={prefix}"
    variable = {"address": "ASAN_OPTIONS", "thread": "TSAN_OPTIONS"}[sanitizer]
    return {
        SANITIZER: sanitizer,
        REPORTS: str(prefix),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "LD_PRELOAD": str(runtime_of(sanitizer)),
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={prefix}",
        variable: options,
    }


@cache
def _no_random_addresses(sanitizer: Sanitizer) -> tuple[str, ...]:
    """The thread sanitizer's shadow memory does not fit every random layout of addresses.

    Where setarch is forbidden, as in containers, the layout may fit nevertheless.
    """
    command = (shutil.which("setarch") or "", platform.machine(), "-R")
    if sanitizer != "thread" or not command[0]:
        return ()
    allowed = subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if allowed.returncode == 0 else ()
