"""Percentiles, spread, and intervals that hold what they promise."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from mlx_diffgemma.profile import statistics
from mlx_diffgemma.profile.statistics import change, percentiles, pooled_median, spread


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten beyond either end of an interval are enough where many intervals are counted."""
    monkeypatch.setattr(statistics, "RESAMPLES", 400)


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


@pytest.mark.usefixtures("few_resamples")
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


def mean_of(groups: Sequence[Sequence[float]]) -> float:
    return float(np.mean([group[0] for group in groups]))


# Student's t at 97.5% for 2 (n - 1) degrees of freedom, from its tables.
STUDENT = {2: 4.303, 3: 2.776, 5: 2.306, 20: 2.024}


@pytest.mark.parametrize("count", STUDENT)
def test_intervals_of_few_groups_are_as_wide_as_students(count: int) -> None:
    """A plain bootstrap of five groups is 24% too narrow: 1 in 10 equal runs would differ."""
    ratios = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        one, other = (1 + 0.01 * random.standard_normal((2, count)))[..., None].tolist()
        found = change(one, other, mean_of)
        errors = [np.var([group[0] for group in run], ddof=1) / count for run in (one, other)]
        ratios.append((found.high - found.low) / (2 * STUDENT[count] * np.sqrt(sum(errors))))
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_one_group_has_no_interval() -> None:
    alone = change([[1.0, 1.1]], [[2.0], [2.1]], pooled_median)
    assert (alone.low, alone.high, alone.differs) == (-1, math.inf, False)


@pytest.mark.usefixtures("few_resamples")
def test_most_intervals_of_equal_machines_hold_no_change() -> None:
    """Runs that differ by noise alone, of which every canvas has its own."""
    wrong = sum(change(groups(s), groups(100 + s), pooled_median).differs for s in range(20))
    assert wrong <= 2
