"""Lets the tests here import the helpers of tests/, and runs them on the CPU."""

import sys
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest

if str(Path(__file__).parents[1]) not in sys.path:
    sys.path.append(str(Path(__file__).parents[1]))


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu() -> Iterator[None]:
    """Tolerances here are a CPU's; what a GPU must reach is marked metal in test_golden.py."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)
