"""The memory there is: Metal's, the machine's or the container's."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.machine import memory as module
from mlx_diffgemma.machine.memory import available_memory, raised_limit


def test_metal_says_what_it_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    info: dict[str, Any] = {"memory_size": 64_000, "max_recommended_working_set_size": 48_000}
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    # Of the GPU: asked of the default device, a CPU says nothing of memory.
    monkeypatch.setattr(mx, "device_info", lambda device=None: info if device == mx.gpu else {})
    assert available_memory() == 48_000
    del info["max_recommended_working_set_size"]
    assert available_memory() == 64_000


def test_a_model_loads_on_the_cpu_of_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"memory_size": 2**36, "max_recommended_working_set_size": 2**35}
    limits: list[int] = []
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda device=None: info if device == mx.gpu else {})
    monkeypatch.setattr(mx, "set_wired_limit", limits.append)
    dg.load("tiny-sudoku")
    assert limits == [2**35]


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 8_000_000), (5_000_000, 5_000_000), (9_000_000, 8_000_000)]
)
def test_elsewhere_it_is_the_machines_memory_or_the_containers(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, expected: int
) -> None:
    sizes = {"SC_PAGE_SIZE": 4000, "SC_PHYS_PAGES": 2000}
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(module, "_container_limit", lambda: limit)
    assert available_memory() == expected


def test_a_machine_that_does_not_say_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> int:
        raise ValueError(f"unrecognized configuration name {name}")

    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    monkeypatch.setattr(os, "sysconf", unknown)
    assert available_memory() is None


@pytest.mark.parametrize(("text", "limit"), [("max\n", None), ("4294967296\n", 4_294_967_296)])
def test_a_control_group_may_have_a_limit(
    monkeypatch: pytest.MonkeyPatch, text: str, limit: int | None
) -> None:
    monkeypatch.setattr(module, "Path", lambda place: SimpleNamespace(read_text=lambda: text))
    assert module._container_limit() == limit


def test_without_control_groups_there_is_no_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "Path", lambda place: tmp_path / "memory.max")
    assert module._container_limit() is None


# --- a limit that a Mac's owner can raise

GIB = 2**30


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A Mac; the test says how much memory it has."""
    info: dict[str, Any] = {"memory_size": 24 * GIB}
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda device=None: info if device == mx.gpu else {})
    return info


@pytest.mark.parametrize(
    ("memory", "needed", "limit"),
    [
        (24, 17_500_000_000, 16_896),  # 16,690 MiB, a multiple of 256
        (24, 20 * GIB, 20_480),
        (24, 20 * GIB + 1, None),  # less than 4 GiB would be left
        (16, 12 * GIB, 12_288),
        (16, 12 * GIB + 1, None),
        (64, 57 * GIB, 58_368),
        (64, 58 * GIB, None),  # less than a tenth would be left
        (192, 170 * GIB, 174_080),
        (192, 173 * GIB, None),
    ],
)
def test_a_limit_suffices_and_leaves_the_system_its_rest(
    mac: dict[str, Any], memory: int, needed: int, limit: int | None
) -> None:
    mac["memory_size"] = memory * GIB
    assert raised_limit(needed) == limit
    assert limit is None or needed <= limit * 2**20 <= needed + 256 * 2**20


@pytest.mark.parametrize(("system", "metal"), [("linux", True), ("darwin", False)])
def test_there_is_such_a_limit_only_on_a_mac_with_metal(
    mac: dict[str, Any], monkeypatch: pytest.MonkeyPatch, system: str, metal: bool
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(mx.metal, "is_available", lambda: metal)
    assert raised_limit(GIB) is None
