"""The fences of one process: a watch that looks away, and errors that stay what they are."""

import threading

import pytest
from waiting import SECONDS, wait_for

from mlx_diffgemma.errors import ShareError
from mlx_diffgemma.share import guard
from mlx_diffgemma.share.guard import (
    Watch,
    from_rank_0,
    lost_macs,
    number_from_rank_0,
    require_agreement,
    require_equal_work,
    watched,
)
from mlx_diffgemma.share.share import ALONE, Share

WATCH = "watch of other Macs"  # the name of its thread
TWO = Share(1, 2, hosts=("10.0.0.1", "10.0.0.2"))


class Clock:
    """In place of `time`, for watches: it is set by hand."""

    def __init__(self) -> None:
        self.now, self.looks = 100.0, 0

    def monotonic(self) -> float:
        if threading.current_thread().name == WATCH:
            self.looks += 1
        return self.now

    def passes(self, seconds: float) -> None:
        """Let time pass, and return when the watch has looked at it."""
        self.now += seconds
        before = self.looks
        wait_for(lambda: self.looks > before + 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(guard, "time", made)
    return made


def test_one_process_agrees_with_itself() -> None:
    require_agreement(ALONE, {"a": 1})
    require_equal_work(ALONE, [1])
    assert from_rank_0(ALONE, b"x") == b"x"
    assert number_from_rank_0(ALONE, 7) == 7


def test_a_watch_ends_the_process_where_nobody_says_alive(clock: Clock) -> None:
    said: list[str] = []
    ended = threading.Event()

    def end(line: str) -> None:
        said.append(line)
        ended.set()

    watch = Watch(TWO, 0.2, end)
    for _ in range(10):  # far longer than it waits
        watch.alive()
        clock.passes(0.19)
        assert not said
    clock.now += 0.02
    assert ended.wait(SECONDS)
    (line,) = said
    assert "no answer from" in line
    assert "0.2 s" in line
    assert "rank 1 (10.0.0.2)" in line


def test_a_watch_that_is_stopped_ends_nothing_and_is_gone() -> None:
    """A program that asks often has no thread more for each answer."""
    ended, before = threading.Event(), threading.enumerate()
    watch = Watch(TWO, 3600, lambda line: ended.set())
    (thread,) = set(threading.enumerate()) - {*before}
    watch.stop()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert not ended.is_set()


def test_a_watched_share_has_a_watch_that_stops_behind_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, before = threading.Event(), threading.enumerate()
    monkeypatch.setattr(Watch.__init__, "__defaults__", (60.0, lambda line: ended.set()))
    with watched(TWO, 0.2) as share:
        (thread,) = set(threading.enumerate()) - {*before}
        assert share == TWO
        share.alive()
    thread.join(SECONDS)
    clock.now += 60
    assert not thread.is_alive()
    assert not ended.is_set()
    with watched(TWO, 0.1):
        clock.now += 0.11
        assert ended.wait(SECONDS)


def test_one_process_has_no_watch() -> None:
    ended = threading.Event()
    Watch(ALONE, 0.05, lambda line: ended.set())
    assert not ended.wait(0.2)


def test_the_loss_of_a_mac_is_told_and_other_errors_stay() -> None:
    with (
        pytest.raises(ShareError, match=r"rank 1 \(10.0.0.2\) lost the connection"),
        lost_macs(TWO),
    ):
        raise RuntimeError("[ring] connection to a peer was lost")
    with pytest.raises(RuntimeError, match="allocat"), lost_macs(TWO):
        raise RuntimeError("[metal] could not allocate")
    with pytest.raises(RuntimeError, match="ring"), lost_macs(ALONE):
        raise RuntimeError("[ring] connection to a peer was lost")
