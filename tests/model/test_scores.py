"""The blocks of attention and the memory that it takes, against arithmetic done by hand."""

import shutil
from pathlib import Path

import pytest

from mlx_diffgemma.checkpoint.config import ModelConfig, read_config
from mlx_diffgemma.model import scores as module
from mlx_diffgemma.model.scores import attention_bytes, block_sizes

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    """The published sizes: 16 heads of 256 or 512, window 1,024, canvas 256."""
    shutil.copy(DATA / "google-config.json", tmp_path / "config.json")
    return read_config(tmp_path)


# --- blocks


@pytest.mark.parametrize(
    ("queries", "keys", "window", "block"),
    [
        (256, 16_384, None, (16, 256)),  # 2**26 scores: one call
        (2048, 2048, None, (16, 2048)),
        (2048, 2048, 1024, (16, 2048)),
        (256, 16_385, None, (16, 128)),  # two blocks of one size, not 255 queries and one
        (2048, 16_384, None, (16, 256)),
        (2048, 3071, 1024, (16, 1024)),  # n queries see n + 1,023 keys
        (2048, 32_768, None, (16, 128)),
        (2048, 32_800, None, (1, 1024)),  # below 128 queries: a head at a time
        (256, 262_144, None, (1, 256)),
        (1, 262_144, None, (16, 1)),
        (16, 2**22, None, (1, 16)),
        (16, 2**23, None, (1, 8)),
        (16, 2**27, None, (1, 1)),  # keys are never divided
    ],
)
def test_blocks_of_16_heads_by_hand(
    queries: int, keys: int, window: int | None, block: tuple[int, int]
) -> None:
    assert block_sizes(16, queries, keys, window) == block


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("queries", [1, 31, 64, 200, 517])
def test_a_block_stays_within_the_bound(
    monkeypatch: pytest.MonkeyPatch, queries: int, window: int | None
) -> None:
    for most in (10, 700, 4096, 50_000, 2_000_000):
        monkeypatch.setattr(module, "MOST_SCORES", most)
        for keys in (queries, queries + 39, 3000):
            heads, rows = block_sizes(4, queries, keys, window)
            seen = keys if window is None else min(keys, rows + window - 1)
            assert heads in (1, 4)
            assert 1 <= rows <= queries
            assert heads * rows * seen <= most or (heads, rows) == (1, 1)


# --- bytes


@pytest.mark.parametrize(
    ("context", "scores", "rows"),
    [
        (0, 0, 0),
        (256, 16 * 256 * 256, 256),
        (2048, 2**26, 2048),
        (16_384, 2**26, 2048),
        (262_144, 2**26, 2048),
    ],
)
@pytest.mark.parametrize("item", [2, 4])
def test_attention_of_the_26b_model_by_hand(
    config: ModelConfig, context: int, scores: int, rows: int, item: int
) -> None:
    """Twice the scores, eight times queries, keys and values of the wider kind of layer: 18 heads
    of 512, against 32 of 256 on sliding ones."""
    full = (2 * scores + 8 * rows * 18 * 512) * item
    assert attention_bytes(config, context, 2048, item) == full


def test_small_chunks_leave_the_canvas_as_the_most(config: ModelConfig) -> None:
    step = (2 * 16 * 256 * 4096 + 8 * 256 * 18 * 512) * 2
    assert attention_bytes(config, 4096, 64, 2) == step


def test_a_longer_context_never_takes_less(config: ModelConfig) -> None:
    for chunk in (100, 512, 2048, 4096):
        taken = [attention_bytes(config, n, chunk, 2) for n in range(0, 40_000, 97)]
        assert taken == sorted(taken)
