"""The editor of a chat, on a pseudo-terminal of the test's own."""

import atexit
import os
import pty
import signal
import sys
import termios
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from mlx_diffgemma.cli.chat.editor import Editor
from mlx_diffgemma.cli.terminal import keys
from mlx_diffgemma.cli.terminal.signals import signals_held


def test_a_signal_waits_until_typed_keys_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives the terminal its whole lines back, for which the read would then wait for ever."""
    from prompt_toolkit.input import DummyInput

    ours, theirs = pty.openpty()
    waits_for_lines: list[bool] = []

    def read(descriptor: int, count: int) -> bytes:
        signal.raise_signal(signal.SIGINT)
        waits_for_lines.append(bool(termios.tcgetattr(theirs)[keys.LOCAL] & termios.ICANON))
        return b""

    patched = SimpleNamespace(read=read, tcgetpgrp=os.tcgetpgrp, getpgrp=os.getpgrp)
    session: Any = SimpleNamespace(app=SimpleNamespace(input=DummyInput()))
    with open(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        editor = Editor(())
        atexit.unregister(editor.close)
        monkeypatch.setattr(keys, "os", patched)
        with pytest.raises(KeyboardInterrupt), signals_held(editor._hurry), ExitStack() as stack:
            editor._take_typed(session, stack)
        assert termios.tcgetattr(theirs) == editor.found
    os.close(ours)
    assert waits_for_lines == [False]
