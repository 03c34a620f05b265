"""When Ctrl-C and SIGTERM are let through, and when they wait."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from pseudo_terminal import Tty

from mlx_diffgemma.cli.terminal.signals import (
    HELD,
    Interrupts,
    end_at_first_signal,
    forget_interrupts,
    raise_lost,
    signals_held,
)

CTRL_C = signal.SIGINT


def test_held_signals_come_afterwards() -> None:
    done = []

    def held() -> None:
        with signals_held():
            signal.raise_signal(CTRL_C)
            done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        held()
    assert done == ["the rest"]


def test_held_signals_are_told() -> None:
    told = []

    def held() -> None:
        with signals_held(lambda: told.append(list(waiting))) as waiting:
            signal.raise_signal(CTRL_C)
            signal.raise_signal(CTRL_C)

    with pytest.raises(KeyboardInterrupt):
        held()
    assert told == [[CTRL_C], [CTRL_C, CTRL_C]]


def test_ctrl_c_waits_for_a_place_where_it_is_allowed() -> None:
    before = signal.getsignal(CTRL_C)
    done = []
    with Interrupts() as interrupts:
        signal.raise_signal(CTRL_C)
        done.append("outside")
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            done.append("never")
        with interrupts.allowed():
            done.append("inside")
    assert done == ["outside", "inside"]
    assert signal.getsignal(CTRL_C) == before


def test_a_second_ctrl_c_does_not_hit_what_handles_the_first() -> None:
    done = []
    with Interrupts() as interrupts:
        try:
            with interrupts.allowed():
                signal.raise_signal(CTRL_C)
        except KeyboardInterrupt:
            signal.raise_signal(CTRL_C)
            done.append("handled")
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            done.append("never")
    assert done == ["handled"]


def test_an_error_closes_the_place() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(ValueError, match="no"), interrupts.allowed():
            raise ValueError("no")
        signal.raise_signal(CTRL_C)


def test_held_signals_reach_the_place_around_them() -> None:
    with (
        Interrupts() as interrupts,
        pytest.raises(KeyboardInterrupt),
        interrupts.allowed(),
        signals_held(),
    ):
        signal.raise_signal(CTRL_C)


# Ends at the first signal, but clears up until its input ends. A further signal counts after as
# many seconds as asked.
SLOW_END = """
import sys, time
from mlx_diffgemma.cli.terminal import signals
signals.PATIENCE = float(sys.argv[1])
signals.end_at_first_signal()
try:
    print("READY", flush=True)
    while True:
        time.sleep(0.01)
except KeyboardInterrupt as interrupt:
    print(type(interrupt).__name__, flush=True)
    sys.stdin.read()
    print("CLEAR", flush=True)
"""


@pytest.mark.parametrize(
    ("sent", "name"), [(CTRL_C, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated")]
)
def test_only_the_first_raises(sent: signal.Signals, name: str) -> None:
    command = [sys.executable, "-c", SLOW_END, "3600"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "READY\n"
        process.send_signal(sent)
        assert process.stdout.readline() == f"{name}\n"
        process.send_signal(signal.SIGTERM)
        process.send_signal(CTRL_C)
        assert process.communicate() == ("CLEAR\n", "")
    assert process.returncode == 0


def test_a_later_one_does_not_wait_for_clearing_up() -> None:
    with Tty("-c", SLOW_END, "0.1") as tty:
        tty.until("READY").type("\x03")
        tty.until("KeyboardInterrupt")
        os.write(tty.theirs, b"\x1b[?25l")  # as a progress bar does
        time.sleep(0.2)
        tty.type("\x03")
        assert tty.wait() == -CTRL_C
        tty.assert_given_back()
        assert "CLEAR" not in tty.text()


def test_an_interrupt_that_gets_lost_is_raised_again() -> None:
    before = {number: signal.getsignal(number) for number in HELD}
    try:
        end_at_first_signal()
        raise_lost()
        with suppress(KeyboardInterrupt):  # as C++ does with an error of its first attempt
            signal.raise_signal(CTRL_C)
        with pytest.raises(KeyboardInterrupt):
            raise_lost()
        forget_interrupts()
        raise_lost()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_chat_gets_a_lost_interrupt_in_the_answer_that_it_was_meant_for() -> None:
    with Interrupts() as interrupts:
        with interrupts.allowed():
            with suppress(KeyboardInterrupt):
                signal.raise_signal(CTRL_C)
            with pytest.raises(KeyboardInterrupt):
                raise_lost()
        with interrupts.allowed():
            raise_lost()
