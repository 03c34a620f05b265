"""Loops in an answer: the last 64 tokens repeat a period at least three times."""

import pytest

from mlx_diffgemma.autoregressive.repetition import repeats

START = list(range(1000, 1100))


@pytest.mark.parametrize("period", [1, 2, 5, 20, 21])
def test_a_period_that_fits_three_times_is_found(period: int) -> None:
    loop = (list(range(period)) * 64)[:64]
    assert repeats([*START, *loop]) == period
    assert repeats(loop) == period


def test_the_shortest_period_counts() -> None:
    assert repeats([7, 8] * 40) == 2


@pytest.mark.parametrize("period", [22, 32, 63])
def test_a_period_that_fits_less_often_is_none(period: int) -> None:
    assert repeats((list(range(period)) * 64)[:64]) is None


def test_one_other_token_is_enough_to_be_no_loop() -> None:
    for at in range(64):
        loop = [1, 2, 3, 4] * 16
        loop[at] = 99
        assert repeats(loop) is None


def test_fewer_than_64_tokens_are_no_loop() -> None:
    assert repeats([5] * 63) is None
    assert repeats([5] * 64) == 1
    assert repeats([]) is None
