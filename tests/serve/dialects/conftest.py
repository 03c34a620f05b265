"""The server that the clients of all dialects ask."""

from collections.abc import Iterator

import pytest
from live import Running, running
from tiny_engines import tiny_engine

from mlx_diffgemma.serve.dialects.routes import DIALECTS


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    """A server with tiny-chat, which may have kept what earlier tests asked."""
    with running(tiny_engine(), DIALECTS) as started:
        yield started
