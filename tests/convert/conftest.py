"""Runs the tests here on the CPU."""

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from converting import SIZES, add_small_files


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu() -> Iterator[None]:
    """Packed bits are compared with those made on the same device."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A bfloat16 checkpoint with a vision tower, tokenizer and templates."""
    from checkpoints import write_checkpoint

    folder = write_checkpoint(
        tmp_path / "source",
        SIZES,
        dtype="bfloat16",
        generation={"eos_token_id": [1, 106, 50], "t_max": 0.9},
    )
    return add_small_files(folder)
