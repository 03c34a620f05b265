"""Makes each test a session of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of three layers: window 16, canvas 8, context 4,096, no stop ids, no task."""
    from small import write_random

    return write_random(tmp_path_factory.mktemp("random"))


@pytest.fixture
def session(folder: Path) -> Session:
    """A session with the network of `folder`."""
    return dg.load(folder)


@pytest.fixture(scope="module")
def loaded() -> Session:
    """tiny-chat, once for all."""
    return dg.load("tiny-chat")


@pytest.fixture
def chat(loaded: Session) -> Iterator[Session]:
    """tiny-chat with nothing said."""
    yield loaded
    loaded.reset()
    loaded.system = None


@pytest.fixture(scope="session")
def seeing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `folder`, with a vision tower: an image has at most four soft tokens."""
    from small import write_seeing

    return write_seeing(tmp_path_factory.mktemp("seeing"))


@pytest.fixture
def seeing(seeing_folder: Path) -> Session:
    """A session with the network of `seeing_folder`."""
    return dg.load(seeing_folder)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The tokenizer of sessions that are told what to say."""
    from small import write_tokenizer

    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))
