"""The terminal, or other input with its end, that rank 0 gets from the process that starts it."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says

from mlx_diffgemma.cli.chat.together import Others
from mlx_diffgemma.cli.errors import ArgumentError, FileError
from mlx_diffgemma.cli.macs.launch import LAUNCHERS_OWN, Ranks
from mlx_diffgemma.cli.macs.terminal import STREAMS, take_streams
from mlx_diffgemma.errors import PromptError, ShareError
from mlx_diffgemma.share.jobs import Jobs
from mlx_diffgemma.share.share import ALONE

ROOT = Path(__file__).parents[3]
OFFER = """
import os, subprocess, sys
from pathlib import Path
from mlx_diffgemma.cli.macs.terminal import offered
told = offered(Path(sys.argv[1])).environment
sys.exit(subprocess.run(
    [sys.executable, "-c", sys.argv[2]], stdin=subprocess.DEVNULL, env={**os.environ, **told}
).returncode)
"""
TAKE = """
import sys
from mlx_diffgemma.cli.macs.terminal import take_streams
take_streams()
lines = sys.stdin.readlines()
print(lines, [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)])
"""


def offered_to(tmp_path: Path, **streams: Any) -> "subprocess.CompletedProcess[str]":
    """A process that takes what another one has offered."""
    return subprocess.run(
        [sys.executable, "-c", OFFER, str(tmp_path), TAKE],
        cwd=ROOT,
        text=True,
        timeout=60,
        check=False,
        capture_output=True,
        **streams,
    )


def test_other_input_comes_with_its_end(tmp_path: Path) -> None:
    done = offered_to(tmp_path, input="one\ntwo\n")
    assert done.stdout == "['one\\n', 'two\\n'] [False, False, False]\n", done.stderr


def test_a_terminal_comes_by_its_name(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"typed\n\x04")
    done = offered_to(tmp_path, stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert done.stdout == "['typed\\n'] [True, False, False]\n", done.stderr


def test_without_one_there_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STREAMS, raising=False)
    with pytest.raises(ArgumentError) as error:
        take_streams()
    assert_says(str(error.value), "chat", "mlx.launch", "--macs")
    monkeypatch.setenv(STREAMS, "/dev/absent,,")
    with pytest.raises(FileError, match="/dev/absent"):
        take_streams()


def test_the_rank_that_ended_first_is_known_and_the_launcher_is_not_heard(capfd: Any) -> None:
    ranks = Ranks([sys.executable, "-c", ""])
    ranks.process.wait()
    for reader in ranks.readers:
        reader.join()
    for stream in (ranks.process.stdin, ranks.process.stdout, ranks.process.stderr):
        assert stream is not None
        stream.close()
    for rank, code in ((1, -9), (0, 143)):
        ranks._said(LAUNCHERS_OWN + b" %d exited with code %d\x1b[0m\n" % (rank, code))
    ranks._said(b"a line\n")
    assert ranks.ended == [(1, -9)]
    assert capfd.readouterr().err == "a line\n"


def test_an_error_in_the_midst_of_an_answer_ends_a_shared_chat_unless_all_have_it() -> None:
    others = Others(Jobs(ALONE), busy=True)
    others.require_survived(PromptError("too long"))
    for error in (ShareError("gone"), FileError("no room"), OSError("x")):
        with pytest.raises(type(error)):
            others.require_survived(error)
    others.busy = False
    others.require_survived(FileError("no such file"))
    with pytest.raises(ArgumentError, match="one Mac"):
        others.require_none("/model NAME")
    Others().require_survived(OSError("x"))
