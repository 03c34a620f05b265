"""The table of docs/benchmarks.md: only what was measured, and nothing by hand."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = str(ROOT / "scripts" / "bench")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)

import results_table  # noqa: E402


@pytest.fixture
def profile() -> dict[str, Any]:
    (_, value), *_ = results_table.profiles(results_table.RESULTS)
    return dict(value)


def test_the_page_is_what_the_results_say() -> None:
    command = [sys.executable, f"{SCRIPTS}/results_table.py", "--check"]
    ran = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_cpu_rows_are_marked(profile: dict[str, Any]) -> None:
    assert "| **CPU**: " in results_table.table([("a.json", profile)])
    profile["workload"]["kind"] = "fixed"
    assert " | fixed |  | " in results_table.table([("a.json", profile)])
    profile["workload"]["kind"] = "adaptive"
    rates = f" | {profile['tokens_per_step']:.2f} | {profile['tokens_per_second']:.4g} | "
    assert rates in results_table.table([("a.json", profile)])
    profile["machine"] |= {"device": "gpu", "chip": "Apple M4 Pro", "gpu_cores": 20}
    row = results_table.table([("a.json", profile)]).splitlines()[-1]
    assert row.startswith("| Apple M4 Pro, 20 GPU cores | ")
    assert "CPU" not in row
    assert row.endswith("[a](../scripts/bench/results/a.json) |")


def test_every_row_has_every_column(profile: dict[str, Any]) -> None:
    rows = results_table.table([("a.json", profile), ("b.json", profile)]).splitlines()
    assert [row.count(" | ") for row in rows] == [len(results_table.HEAD) - 1] * 4


def test_other_results_are_passed_over_and_broken_profiles_are_not(
    profile: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "other.json").write_text('{"figures": []}')
    (tmp_path / "good.json").write_text(json.dumps(profile))
    assert [name for name, _ in results_table.profiles(tmp_path)] == ["good.json"]
    del profile["step_ms"]
    (tmp_path / "good.json").write_text(json.dumps(profile))
    with pytest.raises(Exception, match="step_ms is missing"):
        results_table.profiles(tmp_path)


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(SystemExit, match="lacks"):
        results_table.filled("no marks", [])
    marked = f"a\n{results_table.BEGIN}\nold\n{results_table.END}\nb\n"
    new = results_table.filled(marked, [])
    assert "old" not in new
    assert results_table.filled(new, []) == new
