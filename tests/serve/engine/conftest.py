"""Engines that tests share, and a count of what is encoded."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loaded_engines import CHAT, counting_encoder, engine_of
from small import write_random

from mlx_diffgemma.serve.engine.loaded import LoadedEngine


@pytest.fixture(scope="session")
def talking() -> LoadedEngine:
    """tiny-chat's engine, which may have kept what earlier tests asked."""
    return engine_of(CHAT)


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of three layers: window 16, canvas 8, context 4,096, no stop ids, no task."""
    return write_random(tmp_path_factory.mktemp("random"))


@pytest.fixture
def engine(random_folder: Path) -> LoadedEngine:
    """An engine of `random_folder` of a test's own; prompts are encoded 16 positions at a time."""
    return engine_of(random_folder, chunk=16)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The positions of each piece of a prompt that is encoded."""
    yield from counting_encoder(monkeypatch)
