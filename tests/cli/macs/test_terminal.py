"""The terminal, or other input with its end, that rank 0 gets from the process that starts it."""

import json
import os
import pty
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from loopback import hostfile
from waiting import SECONDS

from mlx_diffgemma.cli.chat.together import Others
from mlx_diffgemma.cli.errors import ArgumentError, FileError
from mlx_diffgemma.cli.macs import ranks as ranks_module
from mlx_diffgemma.cli.macs.hostfile import read_hostfile
from mlx_diffgemma.cli.macs.launch import _code
from mlx_diffgemma.cli.macs.launcher import LAUNCHER, launching
from mlx_diffgemma.cli.macs.ranks import LAUNCHERS_OWN, Ranks
from mlx_diffgemma.cli.macs.terminal import STREAMS, Streams, require_input, take_streams
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
SPEAK = """
import os, sys
from mlx_diffgemma.cli.macs.terminal import take_streams
take_streams()
os.write(2, b"theirs\\n")
print("mine", file=sys.stderr)
"""
READS = """
import sys
reading, writing = os.pipe()
for byte in sys.argv[1].encode():
    os.write(writing, bytes([byte]))
    try:
        data = launch.os.read(reading, 8192)
    except BlockingIOError:
        continue
    sys.stdout.buffer.write(data.decode(errors="ignore").encode())
os.close(writing)
sys.stdout.buffer.write(launch.os.read(reading, 8192) + b".")
"""


def offered_to(tmp_path: Path, **streams: Any) -> "subprocess.CompletedProcess[str]":
    """A process that takes what another one has offered."""
    return subprocess.run(
        [sys.executable, "-c", OFFER, str(tmp_path), TAKE],
        cwd=ROOT,
        text=True,
        timeout=SECONDS,
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


def test_what_no_python_writes_is_not_for_the_terminal(tmp_path: Path) -> None:
    """MLX says of a lost connection ten lines that name nobody: who starts ranks sifts them."""
    ours, theirs = pty.openpty()
    name, python = os.ttyname(theirs), [sys.executable, "-c", SPEAK]
    env = {**os.environ, STREAMS: f",,{name}"}
    done = subprocess.run(python, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    assert (os.read(ours, 100), done.stderr) == (b"mine\r\n", "theirs\n")
    os.close(ours)
    os.close(theirs)


def test_without_one_there_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a chat; others write to what mlx.launch gives them, or to a terminal alone."""
    monkeypatch.delenv(STREAMS, raising=False)
    take_streams()
    assert Streams(("", "", "")).environment == {}
    for told in ("", Streams(("", "/dev/one", "/dev/one")).environment[STREAMS]):
        monkeypatch.setenv(STREAMS, told)
        with pytest.raises(ArgumentError) as error:
            require_input()
        assert_says(str(error.value), "chat", "mlx.launch", "--macs")
    monkeypatch.setenv(STREAMS, "/dev/absent,,")
    with pytest.raises(FileError, match="/dev/absent"):
        take_streams()


def test_letters_that_two_reads_of_the_launcher_divide_stay_whole() -> None:
    """It drops what is no UTF-8 of each read by itself."""
    text = "aé€😀" * 3
    script = LAUNCHER.replace("launch.main()", READS)
    done = subprocess.run([sys.executable, "-c", script, text], stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode() == text + "."


def test_a_line_of_the_launcher_is_one_write() -> None:
    """Word by word it came between those of ranks, and no code was read of it."""
    script = LAUNCHER.replace("launch.main()", "launch.log_warning('Node with rank 1 was killed')")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        subprocess.run([sys.executable, "-c", script], stderr=theirs, check=True)
        assert ours.recv(1000) == LAUNCHERS_OWN + b" 1 was killed \x1b[0m\n"


def test_a_stopped_rank_is_killed_once_another_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mlx.launch asks it to end, which it hears when it goes on, and waits for it."""
    monkeypatch.setattr(ranks_module, "PATIENCE", 0.5)
    program = (
        "import os, signal, sys, time\n"
        f"stopping = {str(tmp_path / 'stopping')!r}\n"
        "if os.environ['MLX_RANK'] == '0':\n"
        "    open(stopping, 'w').close()\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
        "while not os.path.exists(stopping): time.sleep(0.01)\n"
        "time.sleep(0.2)\n"
        "sys.exit(5)"
    )
    command = [sys.executable, "-c", LAUNCHER, "-n", "2", "--", sys.executable, "-c", program]
    ranks = Ranks(command)
    ranks.wait(tmp_path / "exit")
    assert ranks.ended == [(1, 5)]


SAYS = """
import sys
from pathlib import Path
from mlx_diffgemma.cli.macs.ranks import Ranks
from mlx_diffgemma.cli.terminal.output import unwritten
ranks = Ranks([sys.executable, *{ready}])
ranks.wait(Path("/absent"))
print(unwritten(ranks.unwritten), file=sys.stderr)
"""


def over() -> Ranks:
    """Ranks that have ended."""
    ranks = Ranks([sys.executable, "-c", ""])
    ranks.process.wait()
    ranks.close()
    return ranks


LOST = b"rank 1 (b): error: rank 1 (b) lost the connection to rank 0 (a) (gone); see why.\n"


@pytest.mark.parametrize(("code", "heard"), [("1", False), ("0", False), ("5", True), ("", True)])
def test_others_only_miss_a_rank_0_that_has_said_why_it_ends(
    tmp_path: Path, capfd: Any, code: str, heard: bool
) -> None:
    """What MLX says of its connections names nobody."""
    ranks, ranks.file = over(), tmp_path / "exit"
    ranks.file.write_text(code)
    own = LAUNCHERS_OWN + b" 1 exited with code -9\x1b[0m\n"
    cut = (b"[ring]" + own, b" Socket 6 was closed by the peer\n")
    for line in (
        b"[ring] Socket 6 was closed by the peer\n",
        b"[ring] Too many send\n",
        *cut,
        LOST,
    ):
        ranks._said(line)
    assert capfd.readouterr().err == (LOST.decode() if heard else "")
    ranks._said(b"\n")
    assert capfd.readouterr().err == "\n"


def test_what_the_environment_says_reaches_other_macs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh passes nothing on; the key of a server is seen by whoever lists processes."""
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", "tiny-chat")
    monkeypatch.setenv("MLX_DIFFGEMMA_LINK_SECONDS", "7")
    monkeypatch.setenv("MLX_DIFFGEMMA_API_KEY", "secret")
    command = launching(read_hostfile(hostfile(tmp_path)), 20_000, tmp_path, ["info"])
    told = [each for each in command if each.startswith("--env=MLX_DIFFGEMMA_")]
    assert {"--env=MLX_DIFFGEMMA_MODEL=tiny-chat", "--env=MLX_DIFFGEMMA_LINK_SECONDS=7"} < {*told}
    assert "secret" not in "".join(command)


def test_the_rank_that_ended_first_is_known_and_the_launcher_is_not_heard(capfd: Any) -> None:
    ranks = over()
    for rank, code in ((1, -9), (0, 143)):
        ranks._said(LAUNCHERS_OWN + b" %d exited with code %d\x1b[0m\n" % (rank, code))
    ranks._said(b"a line\n")
    assert ranks.ended == [(1, -9)]
    assert capfd.readouterr().err == "a line\n"
    ranks.told = True
    for _ in range(2):
        ranks._said(b"interrupted.\n")
    assert capfd.readouterr().err == "interrupted.\n"


@pytest.mark.parametrize("left", [None, 143])
def test_a_mac_that_ssh_does_not_reach_is_named(
    tmp_path: Path, capfd: Any, left: int | None
) -> None:
    """Rank 0 may have been ended before it could say anything; mlx.launch keeps ssh quiet."""
    file = tmp_path / "hosts.json"
    one, other = {"ssh": "127.0.0.1", "ips": ["10.0.0.1"]}, {"ssh": "mac b", "ips": ["10.0.0.2"]}
    file.write_text(json.dumps([one, other]))
    ranks = over()
    ranks.ended = [(1, 255)]
    assert _code(read_hostfile(file), ranks, left) == 5
    said = capfd.readouterr().err
    assert_says(said.removesuffix("\n"), "error: rank 1 (mac b) ... 255 ... `ssh 'mac b'", "works")
    ranks.ended = []
    assert _code(read_hostfile(file), ranks, 3) == 3
    assert _code(read_hostfile(file), ranks, None) == 5
    (line,) = capfd.readouterr().err.splitlines()
    assert_says(line, "rank 0 (127.0.0.1)", "without an exit code")
    assert "name this Mac" not in line
    file.write_text(json.dumps([other, one]))
    assert _code(read_hostfile(file), ranks, None) == 5
    (line,) = capfd.readouterr().err.splitlines()
    assert_says(line, "rank 0 (mac b)", "without an exit code", "127.0.0.1")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_an_answer_that_cannot_be_written_is_not_one_that_nobody_reads() -> None:
    script = SAYS.format(ready=["-c", "print(1)"])
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, check=True
        )
    assert_says(done.stderr.decode().strip(), "standard output ... No space left ... incomplete")


def test_a_command_longer_than_a_word_of_a_shell_is_refused(tmp_path: Path) -> None:
    """Quotes take five letters each, and more on their way through ssh."""
    here = read_hostfile(hostfile(tmp_path))
    launching(here, 20_000, tmp_path, ["x" * 99_000])
    for said in ("x" * 100_000, "'" * 20_000):
        with pytest.raises(ArgumentError) as error:
            launching(here, 20_000, tmp_path, [said])
        assert_says(str(error.value), "bytes", "100,000", "file")


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
