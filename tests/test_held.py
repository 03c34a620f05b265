"""What a run takes is told apart from what others hold, let go of or left in cycles."""

from functools import partial

import mlx.core as mx
from held import held, peak_of, settled, taken_by

LARGE = 10_000_000  # bytes of what others hold


def large() -> mx.array:
    made = mx.zeros(LARGE, mx.uint8)
    mx.eval(made)
    return made


def small(numbers: int) -> mx.array:
    return mx.zeros(numbers, mx.float32) + 1


def test_what_others_hold_or_have_left_is_in_no_peak() -> None:
    """Bug: a peak was compared with a number of bytes, and failed behind tests that hold more."""
    alone = peak_of(partial(small, 1000))
    others = [large(), [large()]]
    others[1].append(others[1])  # a cycle, which goes with the next collection
    assert peak_of(partial(small, 1000)) == alone
    del others
    assert 4000 <= peak_of(partial(small, 1000)) == alone


def test_what_is_left_and_what_is_cached_are_the_runs_own() -> None:
    made = [large()]
    made.clear()
    assert mx.get_cache_memory() >= LARGE
    taken = taken_by(lambda: small(1000))
    assert 4000 <= taken.left < taken.peak + 1
    assert taken.cached < LARGE
    assert taken.result.tolist() == [1.0] * 1000
    assert taken_by(lambda: None).left == taken_by(lambda: None).peak == 0


def test_what_is_let_go_of_stays_cached_until_it_is_to_settle() -> None:
    before = settled()
    made = [large()]
    made.clear()
    assert held() == before
    assert mx.get_cache_memory() >= LARGE
    assert settled() == before
    assert mx.get_cache_memory() == 0
