"""What the workflows run, and that they take no more rights and no other code than they name."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = ["ci.yml", "mac.yml", "newest.yml"]


def read(name: str) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text())
    return content


def commands(name: str) -> list[str]:
    jobs = read(name)["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_these_are_all() -> None:
    assert sorted(file.name for file in FOLDER.iterdir()) == WORKFLOWS


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read_and_ends(name: str) -> None:
    workflow = read(name)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert 0 < job["timeout-minutes"] <= 90


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_and_say_their_version(name: str) -> None:
    used = re.findall(r"uses: (.*)", (FOLDER / name).read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


def test_linux_runs_both_commands_of_the_readme_and_every_gate() -> None:
    ran = commands("ci.yml")
    assert {"./scripts/demo", "./scripts/test", ".ci/run"} <= set(ran)
    gates = read("ci.yml")["jobs"]["gates"]["steps"]
    assert [step["env"] for step in gates if step.get("run") == ".ci/run"] == [{"CI": "true"}]


def test_a_mac_runs_the_tests_the_kernels_and_the_demo() -> None:
    ran = commands("mac.yml")
    assert {"./scripts/test", "./scripts/test -m metal", "./scripts/demo"} <= set(ran)
    assert sum("selftest" in command for command in ran) == 2
    assert read("mac.yml")["defaults"]["run"]["shell"] == "bash"  # with pipefail


def test_once_a_week_the_newest_of_everything_is_tried() -> None:
    workflow = read("newest.yml")
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}  # YAML reads `on` as true
    assert ".ci/newest" in commands("newest.yml")
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert not any("continue-on-error" in step for step in steps)
