"""Fences: every moment of a step belongs to one part, and the model is left as it was."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.diffusion import canvas as loop
from mlx_diffgemma.kernels.denoise import trial as decision
from mlx_diffgemma.model.work import (
    ATTENTION,
    DENSE_MLP,
    EXPERTS,
    HEAD,
    NORMS,
    ROUTER,
    SELF_CONDITIONING,
)
from mlx_diffgemma.profile.components import (
    COMPONENTS,
    HOST,
    SAMPLER,
    Components,
    Fences,
    summarise,
)
from mlx_diffgemma.profile.measure import Meter
from mlx_diffgemma.profile.samples import StepParts
from mlx_diffgemma.profile.workload import Workload, first_questions


class FakeClock:
    """Stands still but for what is said to pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float, result: Any = None) -> Any:
        self.now += seconds
        return result


def test_every_second_belongs_to_the_innermost_part() -> None:
    clock = FakeClock()
    fences = Fences(clock)
    inner = fences.part(EXPERTS, lambda x: clock.passes(3, x + 1))

    def outer(x: mx.array) -> mx.array:
        clock.passes(10)
        y: mx.array = inner(x)
        return clock.passes(20, y)

    whole = fences.part(NORMS, outer)
    inner(mx.array(1))  # outside of a step nothing is counted
    fences.begin()
    clock.passes(100)
    assert whole(mx.array(1)).item() == 2
    clock.passes(200)
    fences.end()
    clock.passes(1000)
    step = fences.take()
    assert step.seconds == {EXPERTS: 3, NORMS: 30, HOST: 300}
    assert step.total == 333
    assert step.fences == {EXPERTS: 1, NORMS: 2, HOST: 1}
    assert [(s.name, s.began, s.seconds) for s in step.spans] == [
        (EXPERTS, 213, 3),
        (NORMS, 203, 33),
    ]


def test_a_new_step_begins_from_nothing_and_encoding_is_no_part_of_it() -> None:
    clock = FakeClock()
    fences = Fences(clock)
    experts = fences.part(EXPERTS, lambda: clock.passes(5))
    encode = fences.part("encoder", lambda: (clock.passes(50), experts()))
    fences.begin()
    encode()
    experts()
    fences.end()
    assert fences.take().seconds == {EXPERTS: 5, HOST: 0}
    fences.begin()
    fences.end()
    assert fences.take() == StepParts({HOST: 0.0}, {HOST: 0})


def test_a_part_that_fails_is_left() -> None:
    clock = FakeClock()
    fences = Fences(clock)

    def fail() -> None:
        raise ArithmeticError

    fences.begin()
    with pytest.raises(ArithmeticError):
        fences.part(EXPERTS, fail)()
    clock.passes(7)
    fences.end()
    assert fences.take().seconds[HOST] == 7


def one_step(session: Session, clock: Callable[[], float] = time.perf_counter) -> StepParts:
    """The parts of a step in mid-canvas."""
    question = first_questions(session, Workload(steps=3, context=150))[0]
    meter = Meter(session.model, clock=clock, fences=Fences(clock))
    return meter.answer(question, commit_last=True).canvases[0].parts[1]


def test_counts_of_a_step(deep: Session) -> None:
    """Each layer's parts once, the head and what mixes the soft embedding once a row chunk."""
    step = one_step(deep)
    calls = Counter(span.name for span in step.spans)
    layers = len(deep.model.layers)
    assert {name: calls[name] for name in (ATTENTION, EXPERTS, DENSE_MLP, ROUTER)} == dict.fromkeys(
        (ATTENTION, EXPERTS, DENSE_MLP, ROUTER), layers
    )
    assert (calls[NORMS], calls[SAMPLER], calls[HEAD]) == (1, 2, 1)  # submitted, and read
    text = deep.model.config.text
    assert step.expert_rows.shape == (layers, text.num_experts)
    rows = deep.model.config.canvas_length * text.top_k_experts
    assert step.expert_rows.sum(axis=1).tolist() == [rows] * layers
    assert calls[SELF_CONDITIONING] == 2  # the MLP on what came before, and the mix for what comes
    assert set(step.seconds) == set(COMPONENTS)


def test_fencing_changes_neither_the_tokens_nor_the_model(deep: Session) -> None:
    def arrays() -> dict[str, Any]:
        layer = deep.model.layers[0]
        owners = (deep.model, deep.model.embedding, layer, layer.after_attention, loop)
        return {f"{number} {k}": v for number, o in enumerate(owners) for k, v in vars(o).items()}

    before = arrays()
    question = first_questions(deep, Workload(steps=4, context=150))[0]
    plain = Meter(deep.model).answer(question, commit_last=True)
    fenced = Meter(deep.model, fences=Fences()).answer(question, commit_last=True)
    assert fenced.token_ids == plain.token_ids
    assert arrays() == before
    assert [len(c.parts) for c in fenced.canvases] == [4]
    with pytest.raises(KeyboardInterrupt), Fences().around(deep.model):
        raise KeyboardInterrupt
    assert arrays() == before


@pytest.mark.slow
def test_a_slowed_sampler_is_the_part_that_grows(
    sudoku: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By as much as it was slowed, on the machine's clock, which is put forward meanwhile."""
    late = 1000.0
    ahead = 0.0
    fast = decision.commit

    def slow(*arguments: Any) -> Any:
        nonlocal ahead
        ahead += late
        return fast(*arguments)

    def clock() -> float:
        return time.perf_counter() + ahead

    monkeypatch.setattr(decision, "commit", slow)
    seconds = one_step(sudoku, clock).seconds
    assert late < seconds[SAMPLER] < 1.5 * late
    assert all(seconds[name] < late / 2 for name in COMPONENTS if name != SAMPLER)


def test_the_loop_is_divided_on_a_fake_clock(
    deep: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attention takes 1 s, each router 2, the head 4, a decision 8: and nothing else does."""
    clock = FakeClock()
    attention, router = (
        type(deep.model.layers[0].attention),
        type(deep.model.layers[0].after_attention.router),
    )

    def slowed(function: Any, seconds: float) -> Any:
        return lambda *arguments: clock.passes(seconds, function(*arguments))

    monkeypatch.setattr(attention, "__call__", slowed(attention.__call__, 1))
    monkeypatch.setattr(router, "__call__", slowed(router.__call__, 2))
    embedding = type(deep.model.embedding)
    monkeypatch.setattr(embedding, "head", slowed(embedding.head, 4))
    monkeypatch.setattr(decision, "commit", slowed(decision.commit, 8))
    question = first_questions(deep, Workload(steps=2, context=150))[0]
    record = Meter(deep.model, clock=clock, fences=Fences(clock)).answer(
        question, commit_last=False
    )
    for step in record.canvases[0].parts:
        taken = {name: seconds for name, seconds in step.seconds.items() if seconds}
        assert taken == {ATTENTION: 30, ROUTER: 60, HEAD: 4, SAMPLER: 8}
    assert record.canvases[0].step_seconds[1] == 102


# --- from steps to figures


def steps_of(*totals: float) -> list[StepParts]:
    return [
        StepParts({EXPERTS: 0.75 * t, SAMPLER: 0.25 * t}, {EXPERTS: 3, SAMPLER: 1}) for t in totals
    ]


def test_the_overhead_is_taken_off_by_fences() -> None:
    found = summarise([1.0] * 8, steps_of(*[1.08] * 8))
    assert found.overhead_ms == pytest.approx(80)
    assert found.overhead_share == pytest.approx(0.08)
    assert found.plain_ms == pytest.approx(1000)
    assert found.ms[EXPERTS] == pytest.approx(810 - 60)
    assert found.ms[SAMPLER] == pytest.approx(270 - 20)
    assert sum(found.ms.values()) == pytest.approx(found.plain_ms)
    assert sum(share or 0 for share in found.shares.values()) == pytest.approx(1)
    assert (found.fences, found.ms[HEAD]) == (4, 0)


def test_the_sum_is_the_median_step_whatever_the_outliers() -> None:
    plain = [1.0, 1.1, 1.0, 1.2, 9.0, 1.1, 1.0, 1.1]
    found = summarise(plain, steps_of(*[p + 0.05 for p in plain]))
    assert sum(found.ms.values()) == pytest.approx(1100, rel=0.01)


@pytest.mark.parametrize(("fenced", "shown"), [(1.09, True), (1.11, False), (0.95, True)])
def test_shares_need_a_small_overhead(fenced: float, shown: bool) -> None:
    found = summarise([1.0] * 4, steps_of(*[fenced] * 4))
    assert all((share is not None) == shown for share in found.shares.values())
    assert found.ms[EXPERTS] > 0


def test_no_part_is_wiped_out() -> None:
    """What fences cannot explain all parts bear alike; what noise takes away all get back alike."""
    fenced = [StepParts({EXPERTS: 1.0, HOST: 0.01}, {EXPERTS: 1, HOST: 9})] * 4
    found = summarise([0.51] * 4, fenced)
    assert 0 < found.ms[HOST] < 5
    assert sum(found.ms.values()) == pytest.approx(510)
    faster = summarise([2.02] * 4, fenced)
    assert faster.overhead_ms == pytest.approx(-1010)
    assert (faster.ms[EXPERTS], faster.ms[HOST]) == (pytest.approx(2000), pytest.approx(20))
    assert Components({EXPERTS: 0.0}, 1.0, 0.0, 1.0).shares == {EXPERTS: None}


def test_components_need_no_embedding_of_their_own() -> None:
    """A model on which nothing was measured stays what it was for everyone else."""
    model = dg.load("tiny-sudoku").model
    with Fences().around(model):
        hidden = model.decode(mx.arange(90), model.encode([1, 2, 3]))
    again = model.decode(mx.arange(90), model.encode([1, 2, 3]))
    assert mx.array_equal(hidden, again)
