"""Decisions of the engine: apart by default, given up between two pieces, kept beside the chats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loaded_engines import cancelled_at, chat, engine_of, events_of

import mlx_diffgemma as dg
from mlx_diffgemma.decide.request import Request, read_request
from mlx_diffgemma.serve.engine.engine import Cancellation
from mlx_diffgemma.serve.engine.loaded import LoadedEngine
from mlx_diffgemma.serve.refusal import Refusal

STATE = "The lamp in the hall is on."


def request(*names: str, **others: Any) -> Request:
    """A request with a question of each name."""
    questions = {name: {"type": "noul", "instructions": f"Is {name} so?"} for name in names}
    return read_request({"state": STATE, "questions": questions, "samples": 1, **others})


def test_questions_are_read_apart_unless_the_request_says_otherwise(
    engine: LoadedEngine,
) -> None:
    both = engine.decide(request("one", "two"), lambda: False)
    turned = engine.decide(request("two", "one"), lambda: False)
    alone = engine.decide(request("one"), lambda: False)
    assert both.layout == "own"
    assert both.answers["one"] == turned.answers["one"] == alone.answers["one"]
    assert engine.decide(request("one", layout="joint"), lambda: False).layout == "joint"


def test_a_decision_is_the_sessions(engine: LoadedEngine, random_folder: Path) -> None:
    asked = request("one", "two")
    session = dg.load(random_folder)
    questions = {name: dg.Noul(f"Is {name} so?") for name in ("one", "two")}
    alone = session.decide(STATE, questions, samples=1, layout="own")
    assert engine.decide(asked, lambda: False).answers == alone.answers


def test_a_decision_can_be_given_up_and_goes_on_with_what_was_encoded(
    engine: LoadedEngine, encoded: list[int]
) -> None:
    whole = engine.decide(request("one"), lambda: False)
    total = sum(encoded)
    engine.unload()
    encoded.clear()
    for look in range(1, 20):
        try:
            again = engine.decide(request("one"), cancelled_at(look))
        except Cancellation:
            continue
        break
    assert look > 2
    assert sum(encoded) == total
    assert again.answers == whole.answers


def test_prefixes_of_decisions_count_and_give_way(engine: LoadedEngine) -> None:
    engine.decide(request("one"), lambda: False)
    decided = engine.counters.kept_bytes
    assert decided > 0
    events_of(engine, chat("hello", max_tokens=8))
    assert engine.counters.kept_bytes > decided
    weights = engine._weights
    assert weights is not None
    limit = 2 * decided

    def require_room(context: int, beside: int = 0) -> None:
        if beside > limit:
            raise dg.FitError("it needs more; take less.")

    weights.session.require_room = require_room
    limit = 0
    events_of(engine, chat("another question", max_tokens=8))
    assert weights.reader.kept.num_bytes() == 0
    assert engine.counters.kept_conversations == 1


def test_for_want_of_memory_all_that_is_kept_is_let_go_of(
    engine: LoadedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    events_of(engine, chat("hello", max_tokens=8))

    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(dg.Model, "decode_many", fails)
    with pytest.raises(MemoryError):
        engine.decide(request("one"), lambda: False)
    assert engine.counters.kept_bytes == engine.counters.kept_conversations == 0
    monkeypatch.undo()
    assert engine.decide(request("one"), lambda: False).answers


def test_conversations_give_way_to_a_decision(random_folder: Path) -> None:
    limits = [10**12]

    def read(session: dg.Session) -> dg.Session:
        def require_room(context: int, beside: int = 0) -> None:
            if beside > limits[0]:
                raise dg.FitError("it needs more; take less.")

        session.require_room = require_room
        return session

    engine = engine_of(random_folder, read=read)
    for letter in "ab":
        events_of(engine, chat(letter * 40, max_tokens=8))
    assert engine.counters.kept_conversations == 2
    limits[0] = engine.counters.kept_bytes - 1
    assert engine.decide(request("one"), lambda: False).answers
    assert engine.counters.kept_conversations == 1
    limits[0] = -1
    with pytest.raises(Refusal, match="it needs more; shorten"):
        engine.decide(request("two"), lambda: False)
