"""The models that are measured."""

import shutil
from pathlib import Path
from typing import cast

import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.conversation.session import Session

SUDOKU = cast(Path, embedded_folder("tiny-sudoku"))


def write_random(folder: Path, layers: str) -> Path:
    """Random weights and tiny-sudoku's tokenizer; canvas 8, 4 steps."""
    from checkpoints import Sizes, write_checkpoint

    sizes = Sizes(layers, vocab_size=128, sliding_window=16, std=0.03, sharpness=40.0)
    write_checkpoint(folder, sizes, generation={"max_denoising_steps": 4})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SUDOKU / name, folder)
    return folder


@pytest.fixture(scope="session")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 layers in the real pattern."""
    return write_random(tmp_path_factory.mktemp("deep"), "sssssf" * 5)


@pytest.fixture(scope="session")
def deep(deep_folder: Path) -> Session:
    """A session with 30 layers."""
    return dg.load(deep_folder)


@pytest.fixture(scope="session")
def shallow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, for what does not depend on how many there are."""
    return write_random(tmp_path_factory.mktemp("shallow"), "sf")


@pytest.fixture(scope="session")
def shallow(shallow_folder: Path) -> Session:
    """A session with two layers."""
    return dg.load(shallow_folder)


@pytest.fixture(scope="session")
def sudoku() -> Session:
    """A session with tiny-sudoku."""
    return dg.load("tiny-sudoku")
