"""Whole test files run under a sanitizer as they are."""

from pathlib import Path
from typing import Any

import pytest

from metal_sim import SimError, run_sanitized, simulated
from metal_sim import sanitized as module
from metal_sim.compiler import Compiler

HERE = Path(__file__).parent
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_right_kernels_are_clean(sanitizer: Any) -> None:
    done = run_sanitized(sanitizer, *PYTEST, str(HERE / "test_semantics.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


@pytest.mark.slow
def test_a_failing_test_says_what_the_sanitizer_saw(tmp_path: Path) -> None:
    file = tmp_path / "test_wrong.py"
    file.write_text(
        "from one_kernel import run_body\n"
        "def test_wrong():\n"
        "    run_body('out[i] = x[i + 1];', threads=61)\n",
        encoding="utf-8",
    )
    done = run_sanitized("address", *PYTEST, "-W", "ignore", str(file))
    assert done.returncode == 1
    assert "SimError: tested: reported by the sanitizer (threadgroup 0, 0, 0)" in done.stdout
    assert "0 bytes after 244-byte region" in done.stdout


def test_what_kills_the_process_is_still_reported() -> None:
    program = (
        "from one_kernel import run_body\nrun_body('out[i] = x[size_t(i) << 40];', threads=61)"
    )
    done = run_sanitized("address", "-c", program)
    assert done.returncode != 0
    assert "AddressSanitizer: SEGV" in done.stdout


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_a_compiler_without_a_sanitizer_skips(
    sanitizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "compiler", lambda: Compiler(("zig", "c++"), "clang version 22"))
    monkeypatch.setattr(module, "runtime_of", lambda _: None)
    with pytest.raises(pytest.skip.Exception, match=f"nothing ran under the {sanitizer} sanitizer"):
        run_sanitized(sanitizer, "-c", "raise SystemExit(1)")


def test_a_python_that_does_not_start_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := module.missing("address"):
        pytest.skip(f"nothing was started: {reason}")
    monkeypatch.setattr("sys.executable", "/bin/false")
    module.does_not_start.cache_clear()
    with pytest.raises(pytest.skip.Exception, match="Python does not start under it"):
        run_sanitized("address", "-c", "")
    module.does_not_start.cache_clear()


def test_a_sanitizer_needs_a_process_of_its_own() -> None:
    with pytest.raises(SimError, match="use run_sanitized"), simulated(sanitizer="address"):
        pass
