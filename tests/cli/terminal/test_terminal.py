"""What a person at a terminal sees beside the view: prompts, and the question before a download."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from puzzle import PUZZLE, SOLUTION, SOLVE
from waiting import SECONDS

from mlx_diffgemma.cli.terminal.streams import ERASE

ASKING = """
import mlx_diffgemma.checkpoint.hub as hub
import mlx_diffgemma.checkpoint.remote as remote
from mlx_diffgemma.errors import HubError
hub.survey = lambda repo_id, revision: hub.Download(repo_id, 15_600_000_000, {free})
def fetch_headers(*asked):
    raise HubError("no headers")
remote.fetch_headers = fetch_headers
from mlx_diffgemma.cli.app import main
main()
"""


def at_terminal(
    *command: str,
    types: str = "",
    after: str = "",
    env: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Exit code, and what the terminal shows.

    types is typed once the terminal shows `after`.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **(env or {})},
    )
    os.close(theirs)
    shown = b""
    while True:
        if types and after.encode() in shown:
            os.write(ours, types.encode())
            types = ""
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed
            part = b""
        if not part:
            break
        shown += part
    process.wait(SECONDS)
    os.close(ours)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def test_without_the_view_only_the_answer_stays() -> None:
    code, shown = at_terminal("-m", "mlx_diffgemma", *SOLVE, "--no-visual")
    assert (code, shown.endswith(SOLUTION), "canvas" in shown) == (0, True, False)
    assert "loading layers" in shown
    assert "\x1b[?25l" not in shown  # the bar hides no cursor that a killed process would not show


def test_a_conversion_shows_bytes_rate_and_time_left(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    code, shown = at_terminal("-m", "mlx_diffgemma", "convert", "tiny-sudoku", out)
    assert code == 0
    assert f"{out}: 2.1 MB, 294 tensors in 1 shard" in shown
    assert "converting" in shown
    assert re.search(r"/4\.\d MB", shown)
    assert re.search(r"-?:--|\d:\d\d:\d\d", shown)


def test_no_prompt_at_a_terminal_is_one_line() -> None:
    code, shown = at_terminal("-m", "mlx_diffgemma", "generate", "--model", "tiny-sudoku")
    assert code == 2
    left = shown.rpartition(ERASE)[2]  # of a line about loading that a busy machine shows
    assert all(len(row) <= 80 for row in left.splitlines())
    assert_says(" ".join(left.split()), "error: no prompt ... `mlx-diffgemma generate")


def test_a_dash_reads_the_terminal() -> None:
    command = ("-m", "mlx_diffgemma", "generate", "-", "--model", "tiny-sudoku", "--seed", "1")
    code, shown = at_terminal(*command, types=f"{PUZZLE}\n\x04")
    assert code == 0
    assert SOLUTION in shown


# --- the question


@pytest.mark.parametrize("answer", ["n\n", "what?\n", "\x04"])
def test_a_download_needs_a_yes(answer: str) -> None:
    code, shown = at_terminal(
        "-c", ASKING.format(free=10**11), "generate", "Hi", types=answer, after="now? ["
    )
    assert code == 1
    for part in ("15.60 GB", "100.00 GB", "Download it now? [", "error: ", "was not downloaded"):
        assert part in " ".join(shown.split())


def test_a_download_that_exceeds_the_disk_is_refused() -> None:
    code, shown = at_terminal("-c", ASKING.format(free=10**9), "generate", "Hi")
    assert code == 1
    assert "has 1.00 GB free" in " ".join(shown.split())


def test_the_environment_decides_nothing_here(spawn: Any) -> None:
    """Without a terminal nobody is asked, and nothing is fetched."""
    done = spawn("generate", "Hi")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"mlx-diffgemma pull" in done.stderr


WARNING = """
import time, warnings
from mlx_diffgemma.cli.explain import kernel_warnings_said
from mlx_diffgemma.cli.terminal.progress import Bar
from mlx_diffgemma.errors import KernelWarning
with kernel_warnings_said(), Bar("checking") as bar:
    for done in range(1, 4):
        bar(done, 4)
        time.sleep(0.15)
        if done == 2:
            warnings.warn("experts: no [good] here.", KernelWarning)
"""


def test_a_warning_stands_above_the_bar() -> None:
    code, shown = at_terminal("-c", WARNING)
    assert code == 0
    lines = [line.rpartition("\x1b[2K")[2].rpartition("\r")[2] for line in shown.split("\n")]
    assert "warning: experts: no [good] here." in lines
