"""Fixtures of the tests of several Macs: processes of this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Ranks, hostfile


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """A hostfile of two."""
    return hostfile(tmp_path)


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Ranks]:
    made = Ranks(tmp_path)
    yield made
    made.kill()
