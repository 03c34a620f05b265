"""The times that mode auto decides by: where they are from, and what refines them."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from replayed import together

import mlx_diffgemma as dg
from mlx_diffgemma.autoregressive.router import Times
from mlx_diffgemma.conversation import state
from mlx_diffgemma.conversation import times as module
from mlx_diffgemma.conversation.segments import Begun
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.conversation.times import Clock, shared_times
from mlx_diffgemma.machine.chips import Chip
from mlx_diffgemma.machine.choices import Choices, ModeTimes
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.share.part import Part
from mlx_diffgemma.share.share import Share

TUNED = ModeTimes(100.0, 10.0, commit_ms=60.0)
FOUND = Times(50.0, 5.0, "found")


def canvas(seconds: float, steps: int = 10) -> Begun:
    return Begun("diffusion", 0.0, 1.0, 1.0 + seconds, steps, seconds)


def tokens(seconds: float, count: int = 11, waited: float = 1.0) -> Begun:
    return Begun("ar", 0.0, 1.0, 1.0 + seconds, count, waited * seconds)


def never() -> Times:
    raise AssertionError("these times were not needed")


def found() -> Times:
    return FOUND


def test_what_is_given_goes_before_all_else() -> None:
    clock = Clock(step_ms=[1.0], token_ms=[1.0])
    assert clock.times((3, 4), TUNED, never) == Times(3, 4, "given")
    assert clock.times((3, 4, 5), TUNED, never).commit_ms == 5


def test_what_was_tuned_goes_before_what_is_found() -> None:
    assert Clock().times(None, TUNED, never) == Times(100.0, 10.0, "tuned", 60.0)
    assert Clock().times(None, None, found) == FOUND


def test_times_are_found_once_a_session() -> None:
    clock = Clock()
    clock.times(None, None, found)
    assert clock.times(None, None, never) == FOUND


def test_what_was_seen_goes_before_what_was_tuned_but_for_the_first_of_each_mode() -> None:
    """The first one compiles kernels, or fills caches: it is slower than any later one."""
    clock = Clock()
    clock.saw([canvas(9.0), tokens(9.0)])
    assert clock.times(None, TUNED, never).source == "tuned"
    clock.saw([canvas(2.0), canvas(4.0), canvas(3.0)])
    times = clock.times(None, TUNED, never)
    assert (times.step_ms, times.token_ms) == (300.0, 10.0)
    assert times.source == "steps seen in this session, tokens tuned"
    assert times.commit_ms == pytest.approx(210.0)
    clock.saw([tokens(0.2)])
    times = clock.times(None, TUNED, never)
    assert times == Times(300.0, pytest.approx(20.0), "seen in this session")


def test_tokens_alone_are_seen_too() -> None:
    clock = Clock(warm={"ar"})
    clock.saw([tokens(0.2)])
    source = "steps tuned, tokens seen in this session"
    assert clock.times(None, TUNED, never) == Times(100.0, pytest.approx(20.0), source)


@pytest.mark.parametrize(
    "segment", [canvas(1.0, steps=1), tokens(1.0, count=7), tokens(10.0, waited=0.3)]
)
def test_too_few_and_a_reader_that_was_slower_tell_no_time(segment: Begun) -> None:
    clock = Clock(warm={"ar", "diffusion"})
    clock.saw([segment])
    assert (clock.step_ms, clock.token_ms) == ([], [])


def test_times_do_not_change_during_an_answer(session: Session) -> None:
    """And are refined behind it."""
    options = dg.Settings(mode="auto", seed=5, max_tokens=24)
    session.tuned = Choices(times=ModeTimes(1.0, 1.0))
    turn = session.turn("Hello", settings=options)
    seen = {id(turn.router.times) for _ in turn if turn.router}
    assert len(seen) == 1
    again = session.ask("Hello", settings=options)
    assert again.router is not None
    assert again.router.source == "steps tuned, tokens seen in this session"


def test_a_chip_of_the_table_is_reckoned_and_any_other_machine_is_measured(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(chip: Callable[[], Chip | None]) -> dg.Reply:
        monkeypatch.setattr(state, "this_chip", chip)
        fresh = replace(session, clock=Clock())
        return fresh.ask("Hello", mode="auto", seed=5, max_tokens=2)

    slow, fast = (source(lambda t=t: Chip("M9", 8, t, 100)) for t in (1e-9, 1e9))  # type: ignore[misc]
    assert slow.router is not None
    assert fast.router is not None
    assert slow.router.source == fast.router.source == "arithmetic for M9"
    assert slow.router.step_ms > 1e6 * fast.router.step_ms
    measured = source(lambda: None)
    assert measured.router is not None
    assert measured.router.source == "measured at the start"


def test_templates_tell_no_times(session: Session) -> None:
    for seed in range(2):
        session.fill("a[[3]]", seed=seed)
    assert session.clock.step_ms == []
    for seed in range(2):
        session.ask("Hello", seed=seed, max_tokens=8)
    assert len(session.clock.step_ms) == 1


# --- several Macs


def model_of(share: Share) -> Model:
    return cast(Model, SimpleNamespace(part=Part(share, "layers")))


@pytest.mark.parametrize("given", [None, (7, float("inf")), (0.1, 0.2, 0.3)])
def test_macs_decide_by_rank_0s_times_to_the_last_bit(given: Any) -> None:
    """Each has seen others, and a question may bring some."""

    def found(share: Share) -> Times:
        rank = share.rank
        clock = Clock(known=Times(50 / 3 + rank, 5 / 3, f"found by {rank}"))
        own = None if given is None else tuple(each + rank for each in given)
        return shared_times(model_of(share), clock, own)

    right = Times(50 / 3, 5 / 3, "found by 0")
    if given is not None:
        right = Times(given[0], given[1], "given", *given[2:])
    assert together(3, found) == [right] * 3


def test_macs_measure_together_once_and_know_no_times_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a clock has seen alone would leave one of them without the messages of the others."""
    measured: list[int] = []

    def measure(model: Model) -> Times:
        measured.append(model.part.share.rank)
        return Times(40.0 + model.part.share.rank, 4.0, "measured at the start")

    def found(share: Share) -> list[Times]:
        measured.clear()
        seen = Clock(step_ms=[9.0], token_ms=[3.0]) if share.rank else Clock()
        times = [shared_times(model_of(share), seen, None) for _ in range(2)]
        assert measured == [share.rank]
        return times

    monkeypatch.setattr(module, "measure", measure)
    assert together(2, found) == [[Times(40.0, 4.0, "measured at the start")] * 2] * 2
