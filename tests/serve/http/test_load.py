"""The load test of scripts/bench, made short: a real process, a kill in the middle."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "bench" / "serve_load.py"


@pytest.mark.slow
def test_under_load_every_request_has_its_own_answer_and_an_end():
    command = [sys.executable, SCRIPT, "--requests", "48", "--seed", "2"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=600)
    found = json.loads(said.stdout)  # its exit code also judges times, which are the machine's
    assert found["load"]["answered"] >= 20
    lists = {**found["load"], **found["killed"]}
    assert {name: value for name, value in lists.items() if isinstance(value, list) and value} == {}
    assert found["killed"]["errors"] + found["killed"]["cut_streams"] > 0
    memory = found["memory_mb"]["mlx_without_kept"]
    assert memory["last"] < memory["first"] * 1.2 + 1
