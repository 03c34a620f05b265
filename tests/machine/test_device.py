"""On a Mac the default tests run on the CPU, and processes they start without Metal kernels."""

import os
import runpy
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_diffgemma.kernels.dispatch import VARIABLE

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The devices that are made the default one, beginning with conftest.py, as on a Mac."""
    chosen: list[Any] = []
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "set_default_device", chosen.append)
    runpy.run_path(str(CONFTEST))
    return chosen


def test_on_a_mac_tests_run_on_the_cpu_and_processes_without_kernels(devices: list[Any]) -> None:
    assert devices == [mx.cpu]
    assert os.environ[VARIABLE] == "off"


def test_what_is_marked_metal_gets_the_gpu(
    devices: list[Any], request: pytest.FixtureRequest
) -> None:
    fixture = runpy.run_path(str(CONFTEST))["gpu_where_it_is_asked_for"].__wrapped__
    assert list(fixture(request)) == [None]
    request.node.add_marker(pytest.mark.metal)
    assert list(fixture(request)) == [None]
    assert devices == [mx.cpu, mx.cpu, mx.gpu, mx.cpu]
