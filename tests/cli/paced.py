"""The command line under a terminal, with a model that pauses, or waits for the test."""

from pathlib import Path
from typing import Any

from pseudo_terminal import Tty

# The command line with a model that pauses before every step but the first, and notes each step in
# a file when it is done. Behind one of them, if the test names it, it waits until the test lets it
# go on. The terminal has time to answer: a test may be slow to read what it is asked.
PACED = """
import os, sys, time
import mlx_diffgemma.conversation.turn as turn
import mlx_diffgemma.cli.terminal.screen as screen
pause, held, log, fast = float(sys.argv[1]), sys.argv[2], sys.argv[3], turn.generate
screen.PATIENCE = screen.LATE = 60.0

def paced(*arguments, **options):
    for frame in fast(*arguments, **options):
        if not frame.committed:
            with open(log, "a") as file:
                print(frame.canvas, frame.step, file=file)
        yield frame
        if frame.committed:
            continue
        end = time.monotonic() + (3600 if held == f"{frame.canvas} {frame.step}" else pause)
        while time.monotonic() < end and not os.path.exists(log + ".go"):
            time.sleep(0.01)  # a signal right before a sleep is seen when the sleep is over

turn.generate = paced
sys.argv = ["mlx-diffgemma", *sys.argv[4:]]
from mlx_diffgemma.cli.app import main
main()
"""

# A shell in small. It runs a command as a job in the background, brings it to the foreground for
# SIGUSR1, lets it go on in the background for SIGUSR2, and notes in a file what stops it. As bash
# does, it tells a job that runs nothing.
SHELL = """
import os, signal, subprocess, sys
notes, *command = sys.argv[1:]
stopped = False

def job():
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)

def go_on(number, frame):
    global stopped
    if number == signal.SIGUSR1:
        os.tcsetpgrp(0, child.pid)
    if stopped:
        stopped = False
        os.killpg(child.pid, signal.SIGCONT)

signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # as a shell, which takes the terminal back
child = subprocess.Popen([sys.executable, *command], preexec_fn=job)
signal.signal(signal.SIGUSR1, go_on)
signal.signal(signal.SIGUSR2, go_on)
while True:
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        sys.exit(os.waitstatus_to_exitcode(status) % 256)
    stopped = True
    with open(notes, "a") as file:
        print(signal.Signals(os.WSTOPSIG(status)).name, file=file)
"""


def paced(seconds: float, log: Path, *arguments: object, **options: Any) -> Tty:
    """The command line with a model that pauses, under a terminal."""
    return Tty("-c", PACED, seconds, "", log, *arguments, **options)


def paused(
    log: Path, *arguments: object, at: str = "0 0", seconds: float = 0.0, **options: Any
) -> Tty:
    """As `paced`; behind a step of a canvas the model waits for `go_on`, or for a signal."""
    return Tty("-c", PACED, seconds, at, log, *arguments, **options)


def go_on(log: Path) -> None:
    """Let the model of `paused` or `paced` pause no more."""
    Path(f"{log}.go").touch()


def paced_job(seconds: float, log: Path, notes: Path, *arguments: object) -> Tty:
    """The command line with a model that pauses, in the background of a shell in small."""
    return Tty("-c", SHELL, notes, "-c", PACED, seconds, "", log, *arguments)
