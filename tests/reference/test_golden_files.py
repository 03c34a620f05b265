"""tests/golden is what the installed reference computes; scripts/make_golden.py --check says so."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is absent: the golden files were not recomputed")

pytestmark = pytest.mark.reference

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_golden.py"


def test_golden_files_are_current() -> None:
    run = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
