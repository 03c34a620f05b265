"""The set-up scripts, run with programs that only write down what they are asked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = [".ci/newest", ".ci/run", "scripts/check", "scripts/demo", "scripts/test"]


@pytest.mark.parametrize("name", COMMANDS)
def test_script_is_executable(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)


@pytest.mark.parametrize("name", [*COMMANDS, "scripts/lib.sh"])
def test_script_parses(name: str) -> None:
    ran = subprocess.run(["bash", "-n", str(ROOT / name)], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_demo_puzzles_are_puzzles() -> None:
    lines = (ROOT / "scripts/demo").read_text().splitlines()
    puzzles = [line for line in lines if line and set(line) <= set("123456789.")]
    assert [len(puzzle) for puzzle in puzzles] == [81, 81, 81]
    assert [81 - puzzle.count(".") for puzzle in puzzles] == [40, 45, 50]


# A Python that only writes down what it is asked, and makes a venv holding a copy of itself.
FAKE_PYTHON = """#!/bin/bash
printf '%s\\n' "$*" >>"$LOG"
if [[ $* == "-m venv "* ]]; then
  mkdir -p "$3/bin"
  cp "$0" "$3/bin/python"
fi
"""
BROKEN_PYTHON = "#!/bin/bash\necho 'no such version' >&2\nexit 127\n"


class Checkout:
    """Copies of the scripts in a folder with a space in its name, and only the given programs."""

    def __init__(self, folder: Path, **programs: str) -> None:
        self.root = folder / "a checkout"
        self.log = folder / "log"
        self.bin = folder / "bin"
        self.log.touch()
        self.root.mkdir()
        self.bin.mkdir()
        for name in (".ci", "scripts"):
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        os.utime(self.root / "pyproject.toml", (0, 0))
        for name in ("bash", "cat", "cp", "dirname", "env", "grep", "mkdir", "rm"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        for name, text in programs.items():
            self.add(name, text)

    def add(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def run(
        self, script: str, *arguments: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs from another folder, with an empty HOME."""
        self.log.write_text("")
        return subprocess.run(
            [self.root / script, *arguments],
            cwd=self.bin,
            env={"PATH": str(self.bin), "LOG": str(self.log), "HOME": ""} | variables,
            capture_output=True,
            text=True,
        )

    def asked(self) -> list[str]:
        """What the last run asked of Python, but for questions about versions and modules."""
        return [line for line in self.log.read_text().splitlines() if line.startswith("-m ")]


def test_set_up_installs_once(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON)
    first = checkout.run("scripts/test", "-k", "two words")
    assert (first.returncode, first.stdout) == (0, "")
    assert checkout.asked() == [
        f"-m venv {checkout.root}/.venv",
        "-m pip install -qq --editable .[test]",
        "-m pytest -n auto --dist worksteal -k two words",
    ]
    second = checkout.run("scripts/test")
    assert (second.returncode, second.stderr) == (0, "")
    assert checkout.asked() == ["-m pytest -n auto --dist worksteal"]


def test_set_up_installs_again_where_needed(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON)
    checkout.run("scripts/test")
    (checkout.root / "pyproject.toml").touch()
    os.utime(checkout.root / "pyproject.toml", (2e9, 2e9))
    checkout.run("scripts/test")
    assert checkout.asked()[0] == "-m pip install -qq --editable .[test]"

    os.utime(checkout.root / "pyproject.toml", (0, 0))
    checkout.root = checkout.root.rename(tmp_path / "moved")
    checkout.run("scripts/test")
    assert checkout.asked()[0] == "-m pip install -qq --editable .[test]"


def test_set_up_passes_over_a_python_that_does_not_run(tmp_path: Path) -> None:
    fakes = {"python3": BROKEN_PYTHON, "python3.13": BROKEN_PYTHON, "python3.12": FAKE_PYTHON}
    checkout = Checkout(tmp_path, **fakes)
    ran = checkout.run("scripts/test")
    assert ran.returncode == 0
    assert ran.stderr.startswith("making .venv with python3.12\n")


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test", "scripts/check"])
def test_no_python_is_one_line(tmp_path: Path, script: str) -> None:
    ran = Checkout(tmp_path, python3=BROKEN_PYTHON).run(script)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stderr.startswith("error: no Python >= 3.11 here")


def test_demo_solves_three_puzzles(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON)
    checkout.run("scripts/demo")
    command = checkout.root / ".venv/bin/mlx-diffgemma"
    command.symlink_to(checkout.root / ".venv/bin/python")
    ran = checkout.run("scripts/demo", "--steps", "16")
    assert ran.returncode == 0
    assert ran.stderr.count("a sudoku with") == 3
    calls = [line for line in checkout.log.read_text().splitlines() if line.startswith("generate ")]
    assert len(calls) == 3
    assert all(
        call.startswith("generate --model tiny-sudoku --seed 7 --steps 16 ") for call in calls
    )


def test_check_runs_every_gate_and_names_those_that_failed(tmp_path: Path) -> None:
    failing = FAKE_PYTHON + '[[ $* != "-m mypy" ]]\n'
    checkout = Checkout(tmp_path, python3=failing)
    ran = checkout.run("scripts/check", "--fix")
    assert ran.returncode == 1
    assert ran.stderr.endswith("error: failed: mypy\n")
    assert checkout.asked()[2:] == [
        "-m ruff check --fix-only .",
        "-m ruff format .",
        "-m ruff format --check .",
        "-m ruff check .",
        "-m mypy",
        "-m pytest -n auto --dist worksteal",
    ]


def test_ci_installs_venv_on_a_bare_debian(tmp_path: Path) -> None:
    bare = FAKE_PYTHON + '[[ $* != *ensurepip* ]] || grep -q apt-get "$LOG"\n'
    note = '#!/bin/bash\nprintf "%s\\n" "-m apt-get $*" >>"$LOG"\n'
    checkout = Checkout(tmp_path, python3=bare, sudo='#!/bin/bash\n"$@"\n', **{"apt-get": note})
    ran = checkout.run(".ci/run")
    assert ran.returncode == 0, ran.stderr
    assert checkout.asked() == [
        "-m apt-get update -qq",
        "-m apt-get install -y -qq python3-venv",
        f"-m venv {checkout.root}/.venv",
        "-m pip install -qq --editable .[test]",
        "-m pytest -n auto --dist worksteal -m not (reference or metal or weights)",
    ]


def test_ci_runs_the_tests_last_and_fails_with_any_gate(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON + '[[ $* != "-m mypy" ]]\n')
    ran = checkout.run(".ci/run", CI="true")
    assert ran.returncode == 1
    assert "-m mypy" in checkout.asked()
    assert checkout.asked()[-4:] == [
        "-m pytest -n auto --dist worksteal -m not (reference or metal or weights)",
        "-m pip install -qq torch==2.13.0",
        "-m pip install -qq --editable .[test,reference]",
        "-m pytest -m reference",
    ]


def test_ci_says_where_it_could_not_compare_with_the_reference(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON + "[[ $* != *torch* ]]\n")
    ran = checkout.run(".ci/run", CI="true")
    assert ran.returncode == 0, ran.stderr
    assert "nothing was compared with the reference" in ran.stderr
    assert checkout.asked()[-1] == "-m pip install -qq torch==2.13.0"


def test_ci_installs_the_newest_clang_with_sanitizers_there_is(tmp_path: Path) -> None:
    apt = '#!/bin/bash\nprintf "%s\\n" "-m apt-get $*" >>"$LOG"\n[[ $* != *clang-19* ]]\n'
    fakes = {"sudo": '#!/bin/bash\n"$@"\n', "apt-get": apt, "clang++-18": BROKEN_PYTHON}
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON, **fakes)
    ran = checkout.run(".ci/run", CI="true")
    assert ran.returncode == 0, ran.stderr
    assert [line for line in checkout.asked() if "clang" in line] == [
        "-m apt-get install -y -qq clang-19 libclang-rt-19-dev",
        "-m apt-get install -y -qq clang-18 libclang-rt-18-dev",
    ]


def test_ci_takes_the_clang_that_is_there_and_goes_on_without_one(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON)
    ran = checkout.run(".ci/run", CI="true")
    assert ran.returncode == 0, ran.stderr
    assert "the kernels are not searched for races" in ran.stderr
    checkout.add("clang++-17", "#!/bin/bash\n")
    checkout.add("apt-get", BROKEN_PYTHON)
    ran = checkout.run(".ci/run", CI="true")
    assert (ran.returncode, "clang" in ran.stderr) == (0, False), ran.stderr


def test_newest_leaves_the_bounds_out_and_fails_with_either_run(tmp_path: Path) -> None:
    real = f'if [[ $1 == - ]]; then exec "{sys.executable}" "$@"; fi\n'
    checkout = Checkout(
        tmp_path, python3=FAKE_PYTHON + real + '[[ $* != "-m pytest -m reference" ]]\n'
    )
    ran = checkout.run(".ci/newest")
    assert ran.returncode == 1
    names = (checkout.root / ".venv/newest.txt").read_text().splitlines()
    assert {"torch", "transformers", "mlx-vlm", "mlx[cpu]; sys_platform == 'linux'"} <= set(names)
    assert not any(sign in name for name in names for sign in ("<", ">", "0."))
    assert [line.partition(" -r ")[0] for line in checkout.asked()[-5:]] == [
        "-m pip install -qq --editable .",
        "-m pip install -qq --upgrade --upgrade-strategy eager",
        "-m pip list --disable-pip-version-check",
        "-m pytest -n auto --dist worksteal -m not (slow or reference or metal or weights)",
        "-m pytest -m reference",
    ]
