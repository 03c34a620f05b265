"""Completion in real shells; slow, and those that are not installed are not tried."""

import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from waiting import SECONDS

from mlx_diffgemma.cli.completion.scripts import SCRIPTS, VARIABLE

ROOT = Path(__file__).parents[3]
LONGEST_SECONDS = 0.3  # of a process, as a user waits for it at every Tab
BASH = r"""
source "$1"
line=$2
COMP_LINE=$line COMP_POINT=${#line} COMP_WORDS=($line)
[[ $line == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_mlx_diffgemma mlx-diffgemma "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""
# zsh completes only where a line is edited: another zsh, under a terminal, edits it, and Ctrl-L
# there shows the line that has come of it.
ZSH = r"""
zmodload zsh/zpty
zpty z "zsh -f -i"
zpty -w z "PS1= TERM=dumb; cd ${(q)PWD}; source ${(q)1}"
zpty -w z "unsetopt beep; bindkey '^I' menu-complete"
zpty -w z "show() { print -r -- \"<<\$BUFFER>>\"; BUFFER= }; zle -N show; bindkey '^L' show"
zpty -w z "print re''ady"
zpty -r z seen '*ready*'
zpty -w -n z "$2"$'\t'$'\f'
zpty -r z seen '*<<*>>*'
print -r -- "${${seen##*<<}%%>>*}"
zpty -d z
"""
FILE = "my notes.txt"

pytestmark = pytest.mark.slow


@pytest.fixture(params=sorted(SCRIPTS))
def shell(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed: completion was not tried in it")
    return name


@pytest.fixture
def complete(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Complete":
    """What a shell offers for a line, in a folder with a file that has a blank in its name."""
    program = tmp_path / "bin" / "mlx-diffgemma"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mlx_diffgemma "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))
    script = tmp_path / f"completion.{shell}"
    script.write_text(SCRIPTS[shell])
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / FILE).write_text("")
    return Complete(shell, script, folder)


class Complete:
    """A shell, its completion and the folder that it is in."""

    def __init__(self, shell: str, script: Path, folder: Path) -> None:
        self.shell, self.script, self.folder = shell, script, folder

    def __call__(self, line: str) -> list[str]:
        """The words for the end of a line; of zsh the line with the first of them."""
        commands: Mapping[str, Sequence[str]] = {
            "bash": ("bash", "--norc", "-c", BASH, "bash", str(self.script), line),
            "fish": ("fish", "--no-config", "-c", f"source {self.script}; complete -C $argv", line),
            "zsh": ("zsh", "-f", "-c", ZSH, "zsh", str(self.script), line),
        }
        ran = subprocess.run(
            commands[self.shell], cwd=self.folder, capture_output=True, text=True, timeout=SECONDS
        )
        assert ran.stderr == ""
        words = [word.partition("\t")[0] for word in ran.stdout.splitlines()]
        return [word.strip().rpartition(" ")[2] for word in words] if self.shell == "zsh" else words


def test_a_command_an_option_a_value_and_a_model(complete: Complete) -> None:
    assert complete("mlx-diffgemma gen") == ["generate"]
    assert complete("mlx-diffgemma generate --max-t") == ["--max-tokens"]
    assert complete("mlx-diffgemma generate --mode di") == ["diffusion"]
    assert complete("mlx-diffgemma info tiny-s") == ["tiny-sudoku"]


def test_a_value_behind_an_equals_sign(complete: Complete) -> None:
    value = "diffusion" if complete.shell == "bash" else "--mode=diffusion"
    assert complete("mlx-diffgemma generate --mode=di") == [value]


def test_a_file_with_a_blank_in_its_name(complete: Complete) -> None:
    """bash completes files itself where the function offers none."""
    shown = {"bash": [""], "fish": [FILE], "zsh": ["notes.txt"]}
    assert complete("mlx-diffgemma generate --prompt-file my") == shown[complete.shell]


def test_an_answer_comes_quickly() -> None:
    """Without MLX, Rich and the like; the fastest of some, since other tests run beside.

    Unlike `info`'s own answer, where Typer's conversion of options alone takes 0.2 s.
    """
    command = [sys.executable, "-X", "importtime", "-m", "mlx_diffgemma", "info", ""]
    seconds = []
    for _ in range(3):
        before = _children()
        ran = subprocess.run(command, cwd=ROOT, env={VARIABLE: "zsh"}, capture_output=True)
        seconds.append(_children() - before)
    names = {
        line.rpartition(b"|")[2].strip().partition(b".")[0] for line in ran.stderr.split(b"\n")
    }
    assert names.isdisjoint({b"mlx", b"rich", b"numpy", b"prompt_toolkit", b"transformers"})
    assert min(seconds) < LONGEST_SECONDS


def _children() -> float:
    """Processor seconds of the processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
