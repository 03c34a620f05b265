"""The machine as its system's tools tell it; no Mac wrote these samples.

They are put together from the tools' manuals and from reports of users.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlx_diffgemma.machine import identity as machine
from mlx_diffgemma.machine.identity import ask_system, gpu_cores, sources_hash, this_machine

DISPLAYS = {
    "SPDisplaysDataType": [
        {
            "_name": "Apple M4 Pro",
            "spdisplays_mtlgpufamilysupport": "spdisplays_metal4",
            "spdisplays_vendor": "sppci_vendor_Apple",
            "sppci_bus": "spdisplays_builtin",
            "sppci_cores": "20",
            "sppci_device_type": "spdisplays_gpu",
            "sppci_model": "Apple M4 Pro",
        }
    ]
}
ANSWERS = {
    "machdep.cpu.brand_string": "Apple M4 Pro\n",
    "hw.memsize": "51539607552\n",
    "SPDisplaysDataType": json.dumps(DISPLAYS),
}


def mac(command: Sequence[str]) -> str | None:
    return ANSWERS[command[-1]]


def test_gpu_cores() -> None:
    assert gpu_cores(json.dumps(DISPLAYS)) == 20


@pytest.mark.parametrize("report", [None, "", "\n", "nonsense", "{}", "[1]", '{"a": [{}]}', "null"])
def test_what_cannot_be_read_is_none(report: str | None) -> None:
    assert gpu_cores(report) is None


def test_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(machine.platform, "mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
    here = this_machine(mac)
    assert (here.chip, here.gpu_cores, here.memory_bytes) == ("Apple M4 Pro", 20, 51_539_607_552)
    assert here.system == "macOS 26.1"


def test_a_mac_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    here = this_machine(lambda command: None)
    assert (here.chip, here.gpu_cores, here.memory_bytes) == (None, None, None)


def test_this_machine() -> None:
    here = this_machine()
    assert here.system
    assert here.versions["mlx"]
    assert here.python.startswith("3.")


@pytest.mark.parametrize("mac", ["26.1", ""])
def test_the_system_of_an_identity_holds_the_kernels_version(
    monkeypatch: pytest.MonkeyPatch, mac: str
) -> None:
    monkeypatch.setattr(machine.platform, "mac_ver", lambda: (mac, ("", "", ""), ""))
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin" if mac else "Linux")
    monkeypatch.setattr(machine.platform, "release", lambda: "25.1.0")
    expected = "macOS 26.1, Darwin 25.1.0" if mac else "Linux 25.1.0"
    assert machine.identity("0123").system == expected


def test_a_missing_or_failing_command_is_no_answer() -> None:
    assert ask_system(["no-such-command-anywhere"]) is None
    assert ask_system(["false"]) is None
    assert ask_system(["echo", "hello"]) == "hello\n"


def test_a_command_that_hangs_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("system_profiler", 20)

    monkeypatch.setattr(machine.subprocess, "run", hang)
    assert ask_system(["system_profiler"]) is None


def test_linux_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine, "Path", lambda name: Path("/no") / name.strip("/"))
    assert this_machine().chip is None


def test_the_hash_covers_the_sources_of_folders_in_a_folder(tmp_path: Path) -> None:
    for folder, content in (("a", "x"), ("b", "x"), ("b", "y")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "launch.py").write_text(content)
    whole = sources_hash(tmp_path)
    (tmp_path / "b" / "launch.py").rename(tmp_path / "b" / "trial.py")
    assert sources_hash(tmp_path) != whole
