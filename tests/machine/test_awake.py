"""A Mac that does not sleep meanwhile, with a `caffeinate` that only notes what it is asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_for

from mlx_diffgemma.machine.awake import awake


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the tool in front of all others notes its arguments, on a Mac."""
    tool, notes = tmp_path / "caffeinate", tmp_path / "notes"
    tool.write_text(
        f'#!/bin/sh\necho "$$ $*" > "{notes}.new"\nmv "{notes}.new" "{notes}"\nexec sleep 3600\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "platform", "darwin")
    return notes


def noted(notes: Path) -> list[str]:
    wait_for(notes.exists)
    return notes.read_text().split()


def test_it_holds_as_long_as_the_context_and_watches_this_process(notes: Path) -> None:
    with awake():
        number, *arguments = noted(notes)
        assert arguments == ["-i", "-w", str(os.getpid())]
        os.kill(int(number), 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(number), 0)


def test_it_ends_with_an_error_too(notes: Path) -> None:
    def interrupted() -> None:
        with awake():
            noted(notes)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    number = int(noted(notes)[0])
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_elsewhere_nothing_is_started(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    with awake():
        pass


@pytest.mark.parametrize("tool", ["absent", "not to be run"])
def test_a_mac_without_the_tool_goes_on(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tool == "not to be run":
        (tmp_path / "caffeinate").write_text("#!/no/such/interpreter\n")
        (tmp_path / "caffeinate").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "darwin")
    with awake():
        pass
