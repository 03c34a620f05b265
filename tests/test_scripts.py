"""The set-up scripts, run with programs that only write down what they are asked."""

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from facts import assert_says

import mlx_diffgemma as dg
from mlx_diffgemma.assets.sudoku import SudokuTask

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "scripts/bench/results/tiny-chat-linux-2core.json"
COMMANDS = [
    *(".ci/newest", ".ci/run"),
    *("scripts/check", "scripts/demo", "scripts/finetune_demo", "scripts/release_check"),
    "scripts/test",
]


@pytest.mark.parametrize("name", COMMANDS)
def test_script_is_executable(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)


@pytest.mark.parametrize("name", [*COMMANDS, "scripts/lib.sh"])
def test_script_parses(name: str) -> None:
    ran = subprocess.run(["bash", "-n", str(ROOT / name)], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def demo_puzzle() -> tuple[str, int]:
    """The demo's puzzle and seed."""
    content = (ROOT / "scripts/demo").read_text()
    (puzzle,) = re.findall(r"^puzzle=([1-9.]{81})$", content, re.MULTILINE)
    (seed,) = re.findall(r"tiny-sudoku --seed (\d+) \"", content)
    return puzzle, int(seed)


def test_the_demos_puzzle_takes_steps_enough_to_be_seen() -> None:
    """Bug: its puzzles were solved in two steps, in a tenth of a second."""
    puzzle, seed = demo_puzzle()
    session = dg.load("tiny-sudoku")
    reply = session.ask(puzzle, settings=dg.Settings(seed=seed))
    assert SudokuTask().problem(puzzle, reply.text) is None
    assert reply.steps[0] >= 8  # 14 where rounding is that of the machine that chose it


def demo_story() -> tuple[str, str]:
    """The demo's question and seed."""
    content = (ROOT / "scripts/demo").read_text()
    (question,) = re.findall(r'^question="([^"]+)"$', content, re.MULTILINE)
    (seed,) = re.findall(r"tiny-chat --seed (\d+) \"", content)
    return question, seed


def test_the_demos_story_is_the_pictures() -> None:
    """Which is long enough to be seen, and a story without a slip."""
    content = (ROOT / "scripts/make_picture.py").read_text()
    for part in demo_story():
        assert f'"{part}"' in content


# A Python that only writes down what it is asked, and makes a venv holding a copy of itself.
FAKE_PYTHON = """#!/bin/bash
printf '%s\\n' "$*" >>"$LOG"
if [[ $* == "-m venv "* ]]; then
  mkdir -p "$3/bin"
  cp "$0" "$3/bin/python"
fi
"""
PROGRAMS = (
    *(
        "bash",
        "cat",
        "cp",
        "dirname",
        "env",
        "fold",
        "grep",
        "mkdir",
        "mktemp",
        "rm",
        "sed",
        "stty",
    ),
)
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
        for name in PROGRAMS:
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


@pytest.mark.parametrize("name", ["python3.14", "python3.15", "python3.31", "python"])
def test_set_up_finds_every_version_by_its_name(tmp_path: Path, name: str) -> None:
    """Bug: the list ended at the newest version of its day, and `python` was not on it."""
    fakes = {"python3": BROKEN_PYTHON, "python3.11": BROKEN_PYTHON, name: FAKE_PYTHON}
    ran = Checkout(tmp_path, **fakes).run("scripts/test")
    assert (ran.returncode, ran.stderr.splitlines()[0]) == (0, f"making .venv with {name}")


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test", "scripts/check"])
def test_no_python_is_one_line(tmp_path: Path, script: str) -> None:
    old = '#!/bin/bash\nif [[ $1 == --version ]]; then echo "Python 3.9.6"; else exit 1; fi\n'
    ran = Checkout(tmp_path, python3=old).run(script)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert_says(ran.stderr.removesuffix("\n"), "error:", ">= 3.11", "Python 3.9.6", "python3.11")


# Writes a trace of 14 steps where one is asked for, and what it prints.
FAKE_PROGRAM = """#!/bin/bash
printf '%s\\n' "$*" >>"$LOG"
if [[ $* == *--trace* ]]; then
  trace="$*"; trace=${trace#*--trace }; trace=${trace%% *}
  for _ in {1..14}; do echo '{"type": "step"}'; done >"$trace"
fi
[[ $1 == generate ]] && echo answer
exit 0
"""


@pytest.fixture
def demo(tmp_path: Path) -> Checkout:
    """A checkout in which all is installed, and the program writes down what it is asked."""
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON)
    checkout.run("scripts/test")
    program = checkout.root / ".venv/bin/mlx-diffgemma"
    program.write_text(FAKE_PROGRAM)
    program.chmod(0o755)
    return checkout


def calls(checkout: Checkout) -> list[str]:
    """What the program was asked."""
    lines = checkout.log.read_text().splitlines()
    return [line for line in lines if line.startswith(("generate ", "replay "))]


def assert_tells(said: str, checkout: Checkout) -> None:
    """Three lines at the end: what was seen, the program's full path, the next command."""
    seen, start, then = said.splitlines()[-3:]
    assert seen.startswith("Seen: ")
    assert f"{checkout.root}/.venv/bin/mlx-diffgemma".replace(" ", "\\ ") in start
    assert_says(then, "Next:", "mlx-diffgemma generate")


QUESTION, SEED = demo_story()
STORY = f"generate --model tiny-chat --seed {SEED}"


def test_demo_shows_its_steps_as_lines_without_a_terminal(demo: Checkout) -> None:
    """A story in both modes, and a puzzle."""
    ran = demo.run("scripts/demo")
    assert (ran.returncode, ran.stdout) == (0, "answer\n" * 3)
    puzzle, seed = demo_puzzle()
    assert calls(demo) == [
        f"{STORY} --visual {QUESTION}",
        f"{STORY} --mode ar {QUESTION}",
        f"generate --model tiny-sudoku --seed {seed} --visual {puzzle}",
    ]
    assert_tells(ran.stderr, demo)


def test_demo_says_what_the_modes_are_good_for(demo: Checkout) -> None:
    """In the figures that were measured of the shipped weights."""
    skills = json.loads(RESULTS.read_text())["skills"]
    shares = {
        skill: [row[way]["right"] / row[way]["n"] for way in ("denoised", "autoregressive")]
        for skill, row in skills.items()
    }
    slips = [shares[skill] for skill in ("story", "count", "spelling")]
    (said,) = [line for line in demo.run("scripts/demo").stderr.splitlines() if "slips" in line]
    assert_says(said, *(f"{share:.0%}" for share, _ in slips), "100%", "docs/modes.md")
    assert {exact for _, exact in slips} == {1.0}


def test_demo_with_options_tells_the_story_alone(demo: Checkout) -> None:
    """They may ask for one answer as JSON."""
    ran = demo.run("scripts/demo", "--steps", "16")
    assert (ran.returncode, ran.stdout) == (0, "answer\n")
    assert calls(demo) == [f"{STORY} --visual --steps 16 {QUESTION}"]
    assert_tells(ran.stderr, demo)


def on_terminal(demo: Checkout, *arguments: str, **variables: str) -> str:
    """What a person sees of the demo, on a wide terminal."""
    demo.log.write_text("")
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 400, 0, 0))
    env = {"PATH": str(demo.bin), "LOG": str(demo.log), "HOME": "", "TERM": "xterm", **variables}
    command = [demo.root / "scripts/demo", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # the other end is closed
            while part := os.read(ours, 65536):
                seen += part
    os.close(ours)
    assert process.returncode == 0, seen
    return seen.decode().replace("\r\n", "\n")


def test_demo_plays_its_steps_on_a_terminal(demo: Checkout, tmp_path: Path) -> None:
    """Bug: nothing was seen of denoising, and it ended without a word on how to go on."""
    (tmp_path / "tmp").mkdir()
    seen = on_terminal(demo, "--seed", "5", TMPDIR=str(tmp_path / "tmp"))
    generate, replay = calls(demo)
    assert_says(generate, "generate", "--no-visual", "--trace", "--seed 5")
    assert replay.endswith("tell_story.jsonl --pace 0.500")  # seven seconds
    assert_tells(seen, demo)
    assert "14 steps, in slow motion" in seen
    assert list((tmp_path / "tmp").iterdir()) == []


NO_PILLOW = FAKE_PYTHON + "[[ $* != *'import PIL'* && $* != *'[image]'* ]]\n"


def test_demo_shows_another_installation_and_installs_nothing(demo: Checkout) -> None:
    """A wheel is tried with the demo's own answers, where no clone lies."""
    other = demo.bin / "mlx-diffgemma"
    demo.add(other.name, FAKE_PROGRAM.replace("printf", 'pwd >>"$LOG"\nprintf', 1))
    shutil.rmtree(demo.root / ".venv")
    ran = demo.run("scripts/demo", DEMO_PROGRAM=str(other))
    assert (ran.returncode, ran.stdout) == (0, "answer\n" * 3)
    assert (len(calls(demo)), demo.asked()) == (3, [])
    assert str(demo.root) not in demo.log.read_text()


def test_release_check_hands_its_options_on(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON)
    ran = checkout.run("scripts/release_check", "--no-network")
    assert ran.returncode == 0, ran.stderr
    assert checkout.log.read_text().splitlines()[-1] == "scripts/release.py check --no-network"


def test_demo_goes_on_without_pillow(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, python3=NO_PILLOW)
    checkout.run("scripts/demo")  # makes .venv, in which the program is missing
    program = checkout.root / ".venv/bin/mlx-diffgemma"
    program.write_text(FAKE_PROGRAM)
    program.chmod(0o755)
    ran = checkout.run("scripts/demo")
    assert (ran.returncode, ran.stdout) == (0, "answer\n" * 3)
    assert "-m pip install -qq --editable ." in checkout.asked()
    assert_tells(ran.stderr, checkout)


def test_demos_help_is_generates(demo: Checkout) -> None:
    assert demo.run("scripts/demo", "--help").stderr == ""
    assert calls(demo) == ["generate --help"]


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [((), {"TERM": "dumb"}), ((), {"CI": "true"}), (("--json",), {})],
)
def test_demo_does_not_play_where_nobody_sees_it(
    demo: Checkout, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    assert "answer\n" in on_terminal(demo, *arguments, **variables)
    first, *others = calls(demo)
    assert "--visual" in first.split()
    assert len(others) == (0 if arguments else 2)


def test_finetune_demo_measures_before_and_after_training(demo: Checkout, tmp_path: Path) -> None:
    """The same questions both times, and then what the model knew."""
    ran = demo.run("scripts/finetune_demo", "--quick", TMPDIR=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    lines = demo.log.read_text().splitlines()
    commands = [line for line in lines if line.split()[0] in ("eval", "finetune", "fuse")]
    words = [line.split()[0] for line in commands]
    assert words == ["eval", "eval", "finetune", "eval", "eval", "fuse"]
    before, after = commands[:2], commands[3:5]
    for one, other in zip(before, after, strict=True):
        assert one == other[: other.index(" --adapter ")]
    assert "--mix" in commands[2]
    assert "--check" in commands[5]
    made, table = (line.partition("/scripts/")[2] for line in lines if "/scripts/" in line)
    assert made.startswith("make_lesson.py dots ")
    assert table.startswith("make_lesson_table.py ")
    assert_says(ran.stderr.splitlines()[-1], "Next:", "generate --model", "dots", most=500)


def test_finetune_demo_leaves_a_folder_alone_that_is_there(demo: Checkout, tmp_path: Path) -> None:
    ran = demo.run("scripts/finetune_demo", str(tmp_path))
    assert ran.returncode == 1
    assert_says(ran.stderr.splitlines()[-1], "error:", str(tmp_path), "new folder")


def test_finetune_demo_says_how_it_is_called(demo: Checkout) -> None:
    ran = demo.run("scripts/finetune_demo", "--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert_says(" ".join(ran.stdout.split()), "dots", "[FOLDER]", "--quick", most=500)
    wrong = demo.run("scripts/finetune_demo", "--fast")
    assert wrong.returncode == 2
    assert_says(wrong.stderr.strip(), "--fast", "--quick")


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
        "-m pytest -n auto --dist worksteal -m not (reference or metal or weights or tokenizer)",
    ]


def test_ci_runs_the_tests_last_and_fails_with_any_gate(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON + '[[ $* != "-m mypy" ]]\n')
    ran = checkout.run(".ci/run", CI="true")
    assert ran.returncode == 1
    assert "-m mypy" in checkout.asked()
    assert checkout.asked()[-5:] == [
        "-m pytest -n auto --dist worksteal -m not (reference or metal or weights or tokenizer)",
        "-m pytest -m tokenizer",
        "-m pip install -qq torch==2.13.0",
        "-m pip install -qq --editable .[test,reference]",
        "-m pytest -m reference",
    ]


ALONE = " -n 0 --last-failed --last-failed-no-failures none --maxfail 1 -rp"


@pytest.mark.parametrize(
    ("fails", "code", "again"),
    [
        ('[[ $* != "-m pytest"* || $* == *"-n 0"* ]] || exit 1', 0, True),  # beside others alone
        ('[[ $* != "-m pytest"* ]] || exit 1', 1, True),
        ('[[ $* != "-m pytest"* ]] || exit 2', 2, False),  # interrupted
    ],
)
def test_ci_runs_what_failed_once_more_alone(
    tmp_path: Path, fails: str, code: int, again: bool
) -> None:
    checkout = Checkout(tmp_path, python3=FAKE_PYTHON + fails + "\n")
    ran = checkout.run(".ci/run")
    assert ran.returncode == code, ran.stderr
    first, *others = [line for line in checkout.asked() if line.startswith("-m pytest")]
    assert others == ([first + ALONE] if again else [])
    assert ("failed beside others and passed alone" in ran.stderr) == (code == 0)


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
    assert "-m apt-get install -y -qq zsh fish" in checkout.asked()
    assert "-m apt-get install -y -qq chromium chromium-driver" in checkout.asked()


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
    bare = [name.partition(";")[0] for name in names]
    assert not any(sign in name for name in bare for sign in ("<", ">", "0."))
    assert [line.partition(" -r ")[0] for line in checkout.asked()[-5:]] == [
        "-m pip install -qq --editable .",
        "-m pip install -qq --upgrade --upgrade-strategy eager",
        "-m pip list --disable-pip-version-check",
        "-m pytest -n auto --dist worksteal"
        " -m not (slow or reference or metal or weights or tokenizer)",
        "-m pytest -m reference",
    ]
