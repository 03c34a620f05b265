"""Lets the tests here import the helpers beside them, and holds the models they measure."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import mlx.core as mx
import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.session import Session

HERE = Path(__file__).parent
for helpers in (HERE, HERE.parent / "session", HERE.parent / "diffusion", HERE.parent):
    if str(helpers) not in sys.path:
        sys.path.append(str(helpers))

SUDOKU = cast(Path, embedded_folder("tiny-sudoku"))


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu() -> Iterator[None]:
    """What is said about the machine here is said about a CPU."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


@pytest.fixture(scope="session")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, 30 layers in the real pattern, tiny-sudoku's tokenizer; canvas 8, 4 steps."""
    from checkpoints import Sizes, write_checkpoint

    sizes = Sizes("sssssf" * 5, vocab_size=128, sliding_window=16, std=0.03, sharpness=40.0)
    folder = write_checkpoint(
        tmp_path_factory.mktemp("deep"), sizes, generation={"max_denoising_steps": 4}
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SUDOKU / name, folder)
    return folder


@pytest.fixture(scope="session")
def deep(deep_folder: Path) -> Session:
    """A session with 30 layers."""
    return dg.load(deep_folder)


@pytest.fixture(scope="session")
def sudoku() -> Session:
    """A session with tiny-sudoku."""
    return dg.load("tiny-sudoku")
