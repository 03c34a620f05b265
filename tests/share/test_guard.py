"""The fences of one process: a watch that looks away, and errors that stay what they are."""

import threading

import pytest

from mlx_diffgemma.errors import ShareError
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

TWO = Share(1, 2, hosts=("10.0.0.1", "10.0.0.2"))


def test_one_process_agrees_with_itself() -> None:
    require_agreement(ALONE, {"a": 1})
    require_equal_work(ALONE, [1])
    assert from_rank_0(ALONE, b"x") == b"x"
    assert number_from_rank_0(ALONE, 7) == 7


def test_a_watch_ends_the_process_where_nobody_says_alive() -> None:
    said: list[str] = []
    ended = threading.Event()

    def end(line: str) -> None:
        said.append(line)
        ended.set()

    watch = Watch(TWO, 0.2, end)
    for _ in range(10):  # twice as long as it waits
        watch.alive()
        assert not ended.wait(0.04)
    assert ended.wait(5)
    (line,) = said
    assert "no answer from" in line
    assert "0.2 s" in line
    assert "rank 1 (10.0.0.2)" in line


def test_a_watch_that_is_stopped_ends_nothing_and_is_gone() -> None:
    """A program that asks often has no thread more for each answer."""
    ended = threading.Event()
    watch = Watch(TWO, 60, lambda line: ended.set())
    (thread,) = (each for each in threading.enumerate() if each.name == "watch of other Macs")
    watch.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert not ended.is_set()


def test_a_watched_share_has_a_watch_that_stops_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(Watch.__init__, "__defaults__", (60.0, lambda line: ended.set()))
    with watched(TWO, 0.2) as share:
        assert share == TWO
        share.alive()
    assert not ended.wait(0.5)
    with watched(TWO, 0.1):
        assert ended.wait(5)


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
