"""Data on standard input that nobody reads: said once, never taken, and not said in a loop."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from facts import assert_says

ROOT = Path(__file__).parents[3]
# The note alone: what generate and fill do around their work, without the work. Without an argument
# the work is short; with one it lasts until something has come.
NOTED = """
import select, sys
from mlx_diffgemma.cli.answer.prompt import PROMPT
from mlx_diffgemma.cli.answer.unread import unread_input_said
with unread_input_said(["a prompt"], None, PROMPT):
    if sys.argv[1:]:
        select.select([sys.stdin], [], [])
"""
LOOPS = {
    "a file": 'while read line; do "$@"; echo "$line"; done < list',
    "a pipe": 'cat list | while read line; do "$@"; echo "$line"; done',
}


def noted(line: str, folder: Path) -> tuple[str, list[str]]:
    """Standard output and lines on standard error of a shell's line; "$@" is the command."""
    command = ["bash", "-c", line, "bash", sys.executable, "-c", NOTED]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=env, stdin=-3, capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize(
    "line", ['echo data | "$@"', '"$@" < list', '(sleep 0.4; echo) | "$@" late']
)
def test_data_for_this_command_alone_are_said(tmp_path: Path, line: str) -> None:
    (tmp_path / "list").write_text("data\n")
    out, err = noted(line, tmp_path)
    assert (out, len(err)) == ("", 1)
    assert_says(err[0], "note ... standard input ... - beside PROMPT")


@pytest.mark.parametrize("line", [': | "$@"', '"$@" < /dev/null', '"$@" <&-', '"$@" < empty'])
def test_nothing_is_nothing_to_say(tmp_path: Path, line: str) -> None:
    (tmp_path / "empty").touch()
    assert noted(line, tmp_path) == ("", [])


@pytest.mark.skipif(not Path("/proc").exists(), reason="/proc: pipes in loops not checked")
@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_goes_on_and_hears_nothing(tmp_path: Path, kind: str) -> None:
    """The rest of the list is the shell's."""
    (tmp_path / "list").write_text("one\ntwo\nthree\n")
    assert noted(LOOPS[kind], tmp_path) == ("one\ntwo\nthree\n", [])
