"""The weights go away and come back; questions are prepared without them."""

from __future__ import annotations

from pathlib import Path

import pytest
from held import settled
from loaded_engines import cached_of, chat, engine_of, events_of, text_of

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.decide.request import read_request
from mlx_diffgemma.serve.engine.engine import Cancellation
from mlx_diffgemma.serve.engine.loaded import LoadedEngine
from mlx_diffgemma.serve.refusal import Refusal

ASKED = chat("a question", max_tokens=16)


def test_questions_are_prepared_and_counted_without_weights(engine: LoadedEngine) -> None:
    assert engine.count(ASKED) == len(engine.prepare(ASKED).question.checked.asked.ids) > 10
    with pytest.raises(Refusal):
        engine.prepare(chat("x" * 5000))
    assert engine.counters.loads == 0


def test_memory_goes_with_the_weights_and_answers_stay_the_same(engine: LoadedEngine) -> None:
    before = settled()
    first = text_of(events_of(engine, ASKED))
    engine.decide(
        read_request({"state": "s", "questions": {"q": {"type": "noul", "instructions": "?"}}}),
        lambda: False,
    )
    held = settled() - before
    assert held > engine.counters.kept_bytes > 0
    engine.unload()
    assert settled() - before < 0.02 * held
    assert (engine.counters.kept_bytes, engine.counters.kept_conversations) == (0, 0)
    again = events_of(engine, ASKED)
    assert text_of(again) == first
    assert cached_of(again) == 0
    assert engine.counters.loads == 2


def test_weights_are_loaded_once_and_a_question_prepared_before_can_be_answered(
    engine: LoadedEngine,
) -> None:
    ready = engine.prepare(ASKED)
    engine.load()
    engine.load()
    assert engine.counters.loads == 1
    engine.unload()
    assert list(engine.answer(ready, lambda: False))
    assert engine.counters.loads == 2


def test_times_that_were_seen_outlive_the_weights(engine: LoadedEngine) -> None:
    for _ in range(3):
        events_of(engine, chat("a question", max_tokens=8))
    seen = [*engine.clock.step_ms]
    assert seen
    engine.unload()
    events_of(engine, chat("a question", max_tokens=8))
    assert engine.clock.step_ms[: len(seen)] == seen


def test_a_model_that_cannot_be_loaded_is_the_servers_fault(random_folder: Path) -> None:
    def broken(session: Session) -> Session:
        raise dg.CheckpointError(f"{random_folder}/model.safetensors ends early")

    engine = engine_of(random_folder, read=broken)
    with pytest.raises(Refusal, match=r"^the model could not be loaded") as refused:
        events_of(engine, ASKED)
    assert refused.value.kind == "internal"
    assert str(random_folder) not in str(refused.value)
    assert isinstance(refused.value.__cause__, dg.CheckpointError)


def test_a_loading_that_is_given_up_is_a_cancellation(random_folder: Path) -> None:
    def given_up(session: Session) -> Session:
        raise Cancellation

    with pytest.raises(Cancellation):
        events_of(engine_of(random_folder, read=given_up), ASKED)
