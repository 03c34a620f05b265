"""Intervals and counts of right answers."""

import pytest

from mlx_diffgemma.finetune.evaluation.accuracy import Tally, wilson


@pytest.mark.parametrize(
    ("share", "cases", "expected"),
    [  # R: prop.test(x, n, correct = FALSE)$conf.int
        (0.0, 10, (0.0, 0.2775328)),
        (1.0, 10, (0.7224672, 1.0)),
        (0.5, 10, (0.2365931, 0.7634069)),
        (0.8, 100, (0.7111708, 0.8666331)),
    ],
)
def test_wilsons_interval(share: float, cases: int, expected: tuple[float, float]) -> None:
    assert wilson(share, cases) == pytest.approx(expected, abs=1e-6)


def test_an_interval_of_nothing_is_all() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_it_holds_the_truth_in_95_of_100() -> None:
    from math import comb

    n, truth = 60, 0.8
    chances = [comb(n, k) * truth**k * (1 - truth) ** (n - k) for k in range(n + 1)]
    held = [low <= truth <= high for low, high in (wilson(k / n, n) for k in range(n + 1))]
    assert sum(c for c, inside in zip(chances, held, strict=True) if inside) > 0.94


def test_more_seeds_of_one_case_narrow_nothing() -> None:
    once = [Tally(1, case % 2, cases={case}) for case in range(10)]
    assert Tally.together(once * 3).n == 30
    assert Tally.together(once * 3).interval == Tally.together(once).interval


def test_steps_are_by_canvas_and_tokens_by_step() -> None:
    both = Tally.together([Tally(1, 1, 2, 6, 30), Tally(1, 0, 1, 3, 6)])
    assert (both.accuracy, both.mean_steps, both.tokens_per_step) == (0.5, 3.0, 4.0)
    assert Tally(1, 1).mean_steps is None
    assert Tally(1, 1).tokens_per_step is None
