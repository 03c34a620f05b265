"""Percentiles, spread, and intervals that hold what they promise."""

import numpy as np
import pytest

from mlx_diffgemma.profile.statistics import change, percentiles, pooled_median, spread


def test_percentiles() -> None:
    assert percentiles([float(n) for n in range(101)]) == {"p10": 10, "p50": 50, "p90": 90}
    assert percentiles([3.0]) == {"p10": 3, "p50": 3, "p90": 3}


def test_spread_is_between_groups() -> None:
    assert spread([[1.0, 9.0, 1.0], [1.0, 1.0]]) == 0
    assert spread([[1.0], [1.1], [0.9]]) == pytest.approx(0.2)


def groups(seed: int, scale: float = 1.0) -> list[list[float]]:
    random = np.random.default_rng(seed)
    return [
        list(scale * (1 + 0.01 * random.standard_normal() + 0.03 * random.standard_normal(16)))
        for _ in range(5)
    ]


def test_a_run_with_itself_does_not_differ() -> None:
    same = change(groups(1), groups(1), pooled_median)
    assert (same.share, same.differs) == (0, False)
    assert same.low < 0 < same.high
    constant = change([[1.0]] * 5, [[1.0]] * 5, pooled_median)
    assert (constant.low, constant.high, constant.differs) == (0, 0, False)


def test_twenty_percent_are_seen() -> None:
    slower = change(groups(1), groups(2, 1.2), pooled_median)
    assert slower.differs
    assert 0.1 < slower.low < slower.share < slower.high < 0.3
    assert slower.share == pytest.approx(0.2, abs=0.03)
    assert change(groups(2, 1.2), groups(1), pooled_median).high < 0


def test_steps_of_one_canvas_are_not_independent() -> None:
    """Canvases 3% apart, their steps 1%: no difference; taken one by one, steps say otherwise."""

    def run(seed: int) -> list[list[float]]:
        random = np.random.default_rng(seed)
        return [
            list(1 + 0.03 * random.standard_normal() + 0.01 * random.standard_normal(16))
            for _ in range(5)
        ]

    def alone(groups: list[list[float]]) -> list[list[float]]:
        return [[sample] for group in groups for sample in group]

    pairs = [(run(seed), run(100 + seed)) for seed in range(10)]
    assert sum(change(a, b, pooled_median).differs for a, b in pairs) <= 2
    assert sum(change(alone(a), alone(b), pooled_median).differs for a, b in pairs) >= 4


def test_most_intervals_of_equal_machines_hold_no_change() -> None:
    """Runs that differ by noise alone, of which every canvas has its own."""
    wrong = sum(change(groups(s), groups(100 + s), pooled_median).differs for s in range(20))
    assert wrong <= 4
