"""Pieces of work and the pauses behind them, by a clock that a test sets."""

import mlx.core as mx
import pytest

from mlx_diffgemma.machine.pauses import Pauses


class Clock:
    """A clock by which a layer takes `step` seconds, once it is waited for."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step
        self.asked, self.working = 0, False
        self.slept: list[float] = []

    def __call__(self) -> float:
        """The time; each second reading is behind the work."""
        if self.working:
            self.now += self.step * self.asked
            self.asked = 0
        self.working = not self.working
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def paused(clock: Clock, layers: int, rows: int = 4, pauses: Pauses | None = None) -> list[int]:
    """The layers behind which there was a pause, of a pass of so many."""
    pauses = pauses or Pauses(clock=clock, sleep=clock.sleep)
    found = []
    for layer in range(layers):
        clock.asked += 1
        before = len(clock.slept)
        pauses.after_layer(mx.zeros((1, rows, 2)))
        if len(clock.slept) > before:
            found.append(layer)
    return found


def test_a_fifth_of_the_time_is_free() -> None:
    clock = Clock(0.04)
    clock.asked = 1
    pauses = Pauses(clock=clock, sleep=clock.sleep)
    assert pauses.evaluate(mx.zeros(1)) == pytest.approx(0.04)
    assert clock.slept == [pytest.approx(0.01)]
    assert pauses.seconds == pytest.approx(0.01)


def test_long_layers_are_pieces_of_their_own() -> None:
    assert paused(Clock(0.05), 5) == [0, 1, 2, 3, 4]


def test_short_layers_are_pieces_together() -> None:
    clock = Clock(0.011)
    assert paused(clock, 7) == [0, 3, 6]


def test_a_piece_goes_on_in_the_next_pass() -> None:
    """A token's pass may be shorter than a piece, and would never have a pause."""
    clock = Clock(0.011)
    pauses = Pauses(clock=clock, sleep=clock.sleep)
    assert [paused(clock, 2, pauses=pauses) for _ in range(4)] == [[0], [1], [], [0]]


def test_a_pass_of_other_rows_has_pieces_of_its_own() -> None:
    """A prompt's layer takes longer than a canvas's."""
    clock = Clock(0.002)
    pauses = Pauses(clock=clock, sleep=clock.sleep)
    paused(clock, 1, rows=1, pauses=pauses)
    clock.step = 0.05
    assert paused(clock, 3, rows=2048, pauses=pauses) == [0, 1, 2]
