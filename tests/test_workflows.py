"""What the workflows run, and that they take no more rights and no other code than they name."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = ["ci.yml", "mac.yml", "newest.yml", "release.yml"]
RIGHTS = {  # of single jobs, beside reading
    ("release.yml", "github"): {"contents": "write"},
    ("release.yml", "pypi"): {"id-token": "write"},
}
FOREIGN = {"release.yml": ["pypa/gh-action-pypi-publish"]}  # actions that are not GitHub's own


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
    for job_name, job in workflow["jobs"].items():
        assert job.get("permissions") == RIGHTS.get((name, job_name))
        assert 0 < job["timeout-minutes"] <= 90


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_and_say_their_version(name: str) -> None:
    used = re.findall(r"uses: (.*)", (FOLDER / name).read_text())
    assert used
    pinned = [re.fullmatch(r"([\w/-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used]
    actions = [action and action[1] for action in pinned]
    assert None not in actions
    assert [each for each in actions if not each.startswith("actions/")] == FOREIGN.get(name, [])


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


# --- a release


def job(name: str) -> dict[str, Any]:
    found: dict[str, Any] = read("release.yml")["jobs"][name]
    return found


def test_a_tag_alone_releases() -> None:
    assert read("release.yml")[True] == {"push": {"tags": ["v*"]}}


def test_nothing_is_published_that_was_not_built_and_tried() -> None:
    """Files of a release are those that were installed on both systems, byte for byte."""
    assert {name: job(name).get("needs") for name in read("release.yml")["jobs"]} == {
        "build": None,
        "try": "build",
        "github": "try",
        "pypi": "try",
    }
    assert {runner.partition("-")[0] for runner in job("try")["strategy"]["matrix"]["runner"]} == {
        "ubuntu",
        "macos",
    }
    for name in ("try", "github", "pypi"):
        downloads = [s for s in job(name)["steps"] if "download-artifact" in s.get("uses", "")]
        assert "dist" in [step["with"]["name"] for step in downloads]
        assert not any("build" in step.get("run", "") for step in job(name)["steps"])


def test_a_release_is_what_release_check_checks() -> None:
    ran = [step["run"] for step in job("build")["steps"] if "run" in step]
    assert ran[0].startswith('python scripts/release.py notes "$GITHUB_REF_NAME"')
    assert {"python -m build", "python scripts/release.py files dist/*.whl"} < set(ran)
    tried = [step["run"] for step in job("try")["steps"] if "run" in step]
    assert tried == ["python scripts/release.py try dist/*.whl"]


def test_pypi_waits_for_a_person() -> None:
    publish = job("pypi")
    assert publish["if"] == "vars.PUBLISH_TO_PYPI == 'true'"
    assert publish["environment"] == "pypi"
    assert not any("run" in step or "password" in str(step) for step in publish["steps"])
