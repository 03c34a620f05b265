"""Bounds of the published model, and the times that its modes should take."""

import pytest

from mlx_diffgemma.checkpoint.config import ModelConfig
from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.machine.chips import CHIPS, Chip, find_chip
from mlx_diffgemma.machine.choices import ModeTimes
from mlx_diffgemma.model.bits import BitsOf, packed_bits
from mlx_diffgemma.model.roofline import (
    LAUNCH_MS,
    ROWS,
    bound,
    estimated_times,
    token_launches,
)
from mlx_diffgemma.model.work import Work, step_work, token_work, total

BOUNDS = {
    "Apple M1": (974, 828),
    "Apple M1 Max": (239, 203),
    "Apple M2 Ultra": (93, 79),
    "Apple M3 Pro": (342, 291),
    "Apple M4 Pro": (275, 234),
    "Apple M4 Max": (138, 117),
    "Apple M5 Max": (38, 33),
}


def chip(brand: str) -> Chip:
    found = find_chip(brand)
    assert found is not None
    return found


@pytest.mark.parametrize("brand", BOUNDS)
def test_bounds_of_the_published_model(published_config: ModelConfig, brand: str) -> None:
    for dense_rows, expected in zip((None, 0), BOUNDS[brand], strict=True):
        work = step_work(published_config, 1024, lambda module: 4.5, dense_rows=dense_rows)
        assert bound(total(work), chip(brand)).compute_ms == pytest.approx(expected, rel=0.012)


def test_memory_bound_of_the_published_recipe() -> None:
    """M4 Pro, 16.2 GB a step: 59 ms."""
    assert bound(Work(0, 16.2e9), chip("Apple M4 Pro")).memory_ms == pytest.approx(59, abs=0.5)
    assert all(bound(Work(1e12, 1e9), one).ms > 0 for one in CHIPS)


# Tokens a second at the full rate of memory, prefix 1k, worked out by hand: the published mix, all
# in 4 bits but the router, 8 bits.
RATES = {
    "Apple M1 Max": (112, 168, 93),
    "Apple M4": (34, 50, 28),
    "Apple M4 Pro": (76, 114, 64),
    "Apple M4 Max": (153, 229, 127),
    "Apple M5 Max": (172, 257, 143),
}


def recipes(mixed: ModelConfig) -> tuple[BitsOf, BitsOf, BitsOf]:
    four, eight = (QuantizationConfig("affine", bits, 64) for bits in (4, 8))
    assert mixed.quantization is not None
    return (
        packed_bits(mixed.quantization.of, 2),
        packed_bits(lambda module: eight if ".router." in module else four, 2),
        packed_bits(lambda module: eight, 2),
    )


@pytest.mark.parametrize("brand", RATES)
def test_tokens_a_second_of_the_published_model(mixed_config: ModelConfig, brand: str) -> None:
    for bits, expected in zip(recipes(mixed_config), RATES[brand], strict=True):
        least = bound(total(token_work(mixed_config, 1024, bits)), chip(brand))
        assert least.ms == least.memory_ms
        assert 1e3 / least.ms == pytest.approx(expected, abs=1)


def times(config: ModelConfig, brand: str) -> ModeTimes:
    return estimated_times(config, recipes(config)[0], chip(brand), 1024)


def test_rows_of_a_pass(mixed_config: ModelConfig) -> None:
    """Ratios to one row, by hand with the milliseconds that another program's launches take."""
    expected = {
        "Apple M4 Pro": (3.37, (1, 1.17, 1.45, 1.88, 2.36)),
        "Apple M5 Max": (5.34, (1, 1.11, 1.31, 1.60, 1.93)),
    }
    for brand, (others_ms, ratios) in expected.items():
        more_ms = others_ms - LAUNCH_MS * token_launches(mixed_config)
        by_hand = {count: ms + more_ms for count, ms in times(mixed_config, brand).rows_ms}
        got = [by_hand[count] / by_hand[1] for count in ROWS]
        assert got == pytest.approx(ratios, rel=0.01), brand


def test_estimated_times(mixed_config: ModelConfig) -> None:
    """A step by arithmetic at 60% of peak, a token by bytes at 85% of bandwidth and launches."""
    pro = times(mixed_config, "Apple M4 Pro")
    assert pro.step_ms == pytest.approx(275 / 0.6, rel=0.01)
    launches = 0.0023 * token_launches(mixed_config)
    assert pro.token_ms == pytest.approx(3.58 / 273 / 0.85 * 1e3 + launches, rel=0.005)
    assert (pro.commit_ms, dict(pro.rows_ms)[1]) == (None, pro.token_ms)
    assert times(mixed_config, "Apple M5 Max").step_ms == pytest.approx(38 / 0.6, rel=0.02)
