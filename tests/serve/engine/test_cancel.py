"""Answers that nobody waits for any more end at once, and leave what was encoded."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from loaded_engines import cached_of, cancelled_at, chat, engine_of, events_of, text_of

import mlx_diffgemma as dg
from mlx_diffgemma.constrain.compiling import cancelled_by
from mlx_diffgemma.conversation.form import Wanted
from mlx_diffgemma.serve.engine.engine import Cancellation
from mlx_diffgemma.serve.engine.loaded import LoadedEngine
from mlx_diffgemma.serve.events import Begun, Done

MODES: dict[str, dict[str, Any]] = {
    "diffusion": {},
    "ar": {"mode": "ar"},
    "auto": {"mode": "auto", "auto_times": (30.0, 10.0)},
}


@pytest.mark.parametrize(
    "mode", ["diffusion", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("ar", "auto"))]
)
def test_an_answer_can_be_left_at_every_look_and_asked_again(
    engine: LoadedEngine, random_folder: Any, mode: str
) -> None:
    """Each look is a piece of the prompt, a denoising step or a token; the text stays the same."""
    asked = chat("a question of some length, so that it has pieces", max_tokens=12, **MODES[mode])
    whole = text_of(events_of(engine_of(random_folder, chunk=16), asked))
    for look in count():
        try:
            events = events_of(engine, asked, cancelled_at(look))
        except Cancellation:
            continue
        assert text_of(events) == whole
        break
    assert look > 8
    assert text_of(events_of(engine, asked)) == whole


def test_a_retry_goes_on_with_what_was_encoded(engine: LoadedEngine, encoded: list[int]) -> None:
    asked = chat("x" * 100, max_tokens=8)
    length = engine.count(asked)
    looks = count()

    def gone() -> bool:
        """The client leaves behind the third piece."""
        return sum(encoded) >= 48 and next(looks) >= 0

    with pytest.raises(Cancellation):
        events_of(engine, asked, gone)
    assert encoded == [16, 16, 16]
    assert engine.counters.encoded_tokens == 48
    encoded.clear()
    events = events_of(engine, asked)
    assert cached_of(events) == 48
    assert sum(encoded) == length - 48
    assert engine.counters.encoded_tokens == length
    assert engine.counters.prompt_tokens == 2 * length


def test_a_flag_that_is_set_before_anything_leaves_all_as_it_was(
    engine: LoadedEngine, encoded: list[int]
) -> None:
    with pytest.raises(Cancellation):
        events_of(engine, chat("x" * 100), cancelled_at(0))
    assert encoded == []
    assert engine.counters.loads == 0


def test_an_answer_whose_events_are_left_alone_ends_when_it_is_closed(
    engine: LoadedEngine,
) -> None:
    answer = engine.answer(engine.prepare(chat("x" * 40, max_tokens=40)), lambda: False)
    assert isinstance(next(answer), Begun)
    next(answer)
    answer.close()  # type: ignore[attr-defined]
    assert isinstance(events_of(engine, chat("x" * 40, max_tokens=8))[-1], Done)


def test_steps_and_tokens_of_a_cancelled_answer_count(engine: LoadedEngine) -> None:
    asked = chat("x" * 40, max_tokens=40)
    with pytest.raises(Cancellation):
        events_of(engine, asked, cancelled_at(8))
    counters = engine.counters
    assert counters.steps > 0
    assert counters.prompt_tokens == counters.encoded_tokens == engine.count(asked)


def test_an_error_behind_the_beginning_is_told_without_particulars(
    engine: LoadedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_diffgemma.serve.events import Failed

    broken = dg.NumericsError("layer 3 holds NaN in /home/somebody/model")
    monkeypatch.setattr(dg.Model, "encode", _raising(broken))
    *_, last = events_of(engine, chat("hello"))
    assert isinstance(last, Failed)
    assert last.refusal.kind == "internal"
    assert last.refusal.__cause__ is broken
    assert "NaN" not in str(last.refusal)
    assert "/" not in str(last.refusal)
    monkeypatch.undo()
    assert isinstance(events_of(engine, chat("hello", max_tokens=8))[-1], Done)


def test_for_want_of_memory_all_that_is_kept_is_let_go_of(
    engine: LoadedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("[metal::malloc] Attempting to allocate 99999 bytes")
    events_of(engine, chat("hello", max_tokens=8))
    monkeypatch.setattr(dg.Model, "encode", _raising(error))
    *_, last = events_of(engine, chat("another"))
    assert "memory" in str(last.refusal)  # type: ignore[union-attr]
    assert engine.counters.kept_conversations == 0


def _raising(error: Exception) -> Any:
    def raises(*_: Any, **__: Any) -> None:
        raise error

    return raises


def test_a_form_that_is_given_up_is_no_error_of_the_servers(talking: LoadedEngine) -> None:
    """Its look ends the preparing as it is, and the same form is made anew for who asks again."""

    def leave() -> None:
        raise Cancellation

    asked = chat("hello", wanted=Wanted(schema={"enum": ["given up"]}), max_tokens=40)
    with cancelled_by(leave), pytest.raises(Cancellation):
        talking.prepare(asked)
    assert talking.prepare(asked).question.checked.form is not None
