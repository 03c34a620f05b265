"""The memory that is needed, against arithmetic done by hand."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from facts import raises

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.errors import CheckpointError, FitError
from mlx_diffgemma.model import memory as module
from mlx_diffgemma.model.memory import (
    Footprint,
    cache_bytes,
    fit_check,
    plan_memory,
    sized,
)

DATA = Path(__file__).parents[1] / "data"
SUDOKU = Path(str(embedded_folder("tiny-sudoku")))
SUDOKU_NUMBERS = 1_823_420  # as its MODEL.md says


@pytest.fixture
def google(tmp_path: Path) -> Path:
    """A folder with the published config.json and no weights."""
    shutil.copy(DATA / "google-config.json", tmp_path / "config.json")
    return tmp_path


# --- what is needed


@pytest.mark.parametrize(
    ("dtype", "item"), [(None, 4), ("float32", 4), ("bfloat16", 2), ("float16", 2)]
)
def test_tiny_sudoku_by_hand(dtype: str | None, item: int) -> None:
    """Six layers of 2 key-value heads of 32; context 512 is within what sliding layers keep."""
    need = plan_memory(SUDOKU, dtype)(512)
    assert need.weight_bytes == SUDOKU_NUMBERS * item  # stored in 16 bits, computed in float32
    assert need.cache_bytes == 6 * 2 * 512 * 2 * 32 * item
    attention = (2 * 4 * 512 * 512 + 8 * 512 * (4 + 2 * 2) * 32) * item  # test_scores.py
    assert need.workspace_bytes == 1_000_000_000 + attention
    assert need.needed_bytes == need.weight_bytes + need.cache_bytes + need.workspace_bytes
    assert need.context == 512


@pytest.mark.parametrize(
    ("context", "sliding", "full"),
    [
        (0, 0, 0),
        (256, 256, 256),
        (4096, 4096, 4096),
        (4097, 4096, 4097),  # the window, 1,024, and up to 3,072 positions around it
        (262_144, 4096, 262_144),
    ],
)
def test_the_cache_of_the_26b_model_by_hand(
    google: Path, context: int, sliding: int, full: int
) -> None:
    """25 sliding layers of 8 heads of 256, five full ones of 2 heads of 512; keys and values."""
    by_hand = 25 * 2 * sliding * 8 * 256 * 2 + 5 * 2 * full * 2 * 512 * 2
    assert cache_bytes(read_config(google), context, item_bytes=2) == by_hand
    assert cache_bytes(read_config(google), context, item_bytes=4) == 2 * by_hand
    if context == 262_144:
        assert by_hand == 838_860_800 + 5_368_709_120


def test_packed_weights_count_as_stored_and_floats_in_the_models_dtype(google: Path) -> None:
    arrays = {
        "model.decoder.embed_tokens.weight": mx.zeros((4, 8), mx.uint32),  # 128 bytes
        "model.decoder.embed_tokens.scales": mx.zeros((4, 1), mx.bfloat16),  # 4 numbers
        "model.decoder.norm.weight": mx.zeros(5, mx.float32),  # 5 numbers
        "model.decoder.layers.0.experts.gate_up_proj.scales": mx.zeros((2, 3), mx.uint8),  # 6 bytes
        "model.encoder.vision_tower.std_bias": mx.zeros(1000, mx.bfloat16),  # never loaded
        "model.encoder.embed_vision.embedding_projection.weight": mx.zeros(1000, mx.bfloat16),
    }
    mx.save_safetensors(str(google / "model.safetensors"), arrays)
    assert plan_memory(google)(0).weight_bytes == 128 + 6 + (4 + 5) * 2
    assert plan_memory(google, "float32")(0).weight_bytes == 128 + 6 + (4 + 5) * 4


def test_a_folder_without_weights_is_refused(google: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors file"):
        plan_memory(google)(0)


# --- whether it fits


@pytest.mark.parametrize(("available", "fits"), [(600, True), (599, False), (None, None)])
def test_it_fits_to_the_last_byte(available: int | None, fits: bool | None) -> None:
    assert Footprint(100, 200, 300, available, context=8).fits is fits


def test_what_does_not_fit_is_one_line_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 900_000_000)
    parts = "weights 7.3 MB ... cache for 512 positions 1.6 MB ... workspace 1.01 GB"
    then = "smaller quantisation or context ... --force"
    with raises(FitError, "tiny-sudoku needs 1.02 GB", parts, "900.0 MB", then):
        fit_check(SUDOKU)(512)


@pytest.mark.parametrize("available", [None, 2_000_000_000])
def test_what_fits_or_may_fit_is_not_refused(
    monkeypatch: pytest.MonkeyPatch, available: int | None
) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: available)
    fit_check(SUDOKU)(512)


def test_the_embedded_checkpoint_fits_here() -> None:
    assert plan_memory(SUDOKU)(512).fits is not False


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 kB"),
        (49_999, "50.0 kB"),
        (7_293_680, "7.3 MB"),
        (999_000_000, "999.0 MB"),
        (1_000_000_000, "1.00 GB"),
        (15_608_000_000, "15.61 GB"),
        (838_860_800_000, "838.86 GB"),
    ],
)
def test_bytes_are_told_in_decimal_units(count: int, text: str) -> None:
    assert sized(count) == text


def test_the_model_file_says_how_many_numbers_there_are() -> None:
    assert f"{SUDOKU_NUMBERS:,}" in (SUDOKU / "MODEL.md").read_text()
    assert json.loads((SUDOKU / "config.json").read_text())["dtype"] == "float32"
