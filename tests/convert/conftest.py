"""What is converted."""

from pathlib import Path

import pytest
from converting import SIZES, add_small_files


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
