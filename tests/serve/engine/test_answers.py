"""Answers of a real checkpoint as events: in every mode, with tools, forms, thoughts and drafts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from loaded_engines import (
    assistant,
    chat,
    done_of,
    events_of,
    of_kind,
    text_of,
)

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.form import Wanted
from mlx_diffgemma.conversation.reply import Fresh
from mlx_diffgemma.conversation.turn import Turn
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.serve.asked import Completion, Infill
from mlx_diffgemma.serve.engine.engine import STOPPED
from mlx_diffgemma.serve.engine.loaded import LoadedEngine
from mlx_diffgemma.serve.events import Begun, Call, Draft, Text, Thought
from mlx_diffgemma.text.holes import read_template

CAPITAL = "What is the capital of Italy?"
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "pet": {"type": "string"}},
    "required": ["name", "pet"],
    "additionalProperties": False,
}
MODES: dict[str, dict[str, Any]] = {
    "diffusion": {},
    "ar": {"mode": "ar"},
    "auto": {"mode": "auto", "auto_times": (30.0, 10.0)},
}


@pytest.fixture(scope="module")
def session() -> dg.Session:
    """The conversation that the engine is compared with."""
    return dg.load("tiny-chat")


@pytest.mark.parametrize("mode", ["diffusion", "ar", pytest.param("auto", marks=pytest.mark.slow)])
def test_an_answer_is_the_sessions_in_every_mode(
    talking: LoadedEngine, session: dg.Session, mode: str
) -> None:
    session.reset()
    reply = session.ask(CAPITAL, seed=1, **MODES[mode])
    events = events_of(talking, chat(CAPITAL, **MODES[mode]))
    assert text_of(events) == reply.text == "The capital of Italy is Rome."
    done = done_of(events)
    assert (done.finish, done.seed) == ("stop", 1)
    assert (done.usage.prompt, done.usage.completion) == (38, reply.generated_tokens)
    assert done.timings.steps == sum(reply.steps)
    assert done.timings.tokens_per_step == reply.tokens_per_step
    assert done.warnings == ()


def test_the_first_event_comes_before_anything_is_encoded(
    talking: LoadedEngine, encoded: list[int]
) -> None:
    events = talking.answer(talking.prepare(chat("What is 30 + 12?")), lambda: False)
    begun = next(events)
    assert isinstance(begun, Begun)
    assert (begun.seed, begun.prompt_tokens, encoded) == (1, 25, [])
    assert text_of(list(events)) == "30 + 12 = 42."
    assert sum(encoded) == 25 - begun.cached_tokens


def test_text_comes_with_each_canvas_and_with_each_token(
    talking: LoadedEngine, engine: LoadedEngine
) -> None:
    long = events_of(engine, chat("hello", max_tokens=24))
    assert len(of_kind(long, Text)) == 3
    tokens = events_of(talking, chat(CAPITAL, mode="ar"))
    assert "".join(each.text for each in of_kind(tokens, Text)) == "The capital of Italy is Rome."
    assert len(of_kind(tokens, Text)) > 20


def test_messages_are_seen_in_full(talking: LoadedEngine) -> None:
    """A follow-up is understood by what was said before, under a system text."""
    asked = chat(
        {"role": "system", "content": "Answer with one word."},
        "What is the opposite of high?",
        assistant("Low."),
        "And wet",
    )
    assert text_of(events_of(talking, asked)).strip(".").lower() == "dry"


def test_tools_are_called_answered_and_told_of(talking: LoadedEngine) -> None:
    wanted = Wanted(tools=[ADD])
    first = events_of(talking, chat("What is 14 + 1?", wanted=wanted))
    (call,) = of_kind(first, Call)
    assert (call.name, call.arguments) == ("add", {"a": 14, "b": 1})
    assert call.key.isalnum()
    assert (text_of(first), done_of(first).finish) == ("", "tool_calls")
    function = {"name": call.name, "arguments": call.arguments}
    made = {"id": call.key, "type": "function", "function": function}
    result = {"role": "tool", "tool_call_id": call.key, "content": "15"}
    asked = chat("What is 14 + 1?", assistant("", tool_calls=[made]), result, wanted=wanted)
    second = events_of(talking, asked)
    assert (text_of(second), done_of(second).finish) == ("14 + 1 = 15.", "stop")
    assert done_of(second).usage.cached >= 150  # of the first prompt's 159


@pytest.mark.parametrize("choice", ["add", pytest.param("required", marks=pytest.mark.slow)])
def test_a_call_that_is_required_has_the_tools_form(talking: LoadedEngine, choice: str) -> None:
    wanted = Wanted(tools=[ADD], tool_choice=choice)
    events = events_of(talking, chat("how much is 14 + 1?", wanted=wanted))
    call = of_kind(events, Call)[0]
    assert call.name == "add"
    assert set(call.arguments) == {"a", "b"}
    assert all(isinstance(value, int) for value in call.arguments.values())
    assert done_of(events).constraint is not None


def test_json_has_the_form_of_a_schema(talking: LoadedEngine) -> None:
    asked = chat("Make JSON: name Max, pet bird.", wanted=Wanted(schema=SCHEMA))
    events = events_of(talking, asked)
    assert json.loads(text_of(events)) == {"name": "Max", "pet": "bird"}
    constraint = done_of(events).constraint
    assert constraint is not None
    assert constraint.kind == "schema"


@pytest.mark.parametrize("mode", ["diffusion", pytest.param("ar", marks=pytest.mark.slow)])
def test_a_thought_comes_before_the_text_where_it_is_asked_for(
    talking: LoadedEngine, mode: str
) -> None:
    events = events_of(talking, chat("8 + 59 =", think=True, **MODES[mode]))
    kinds = [type(event) for event in events if isinstance(event, Text | Thought)]
    assert kinds.index(Text) == kinds.count(Thought) > 0
    assert "".join(each.text for each in of_kind(events, Thought)) == "8+9=17 carry 1\n0+5+1=6"
    assert text_of(events) == "8 + 59 = 67."
    assert done_of(events).usage.thought == 1 + len("\n8+9=17 carry 1\n0+5+1=6\n")


def test_drafts_are_told_only_where_they_are_asked_for(engine: LoadedEngine) -> None:
    drafted = events_of(engine, chat("hello", max_tokens=8, drafts=True))
    drafts = of_kind(drafted, Draft)
    assert [draft.step for draft in drafts] == [*range(done_of(drafted).timings.steps)]
    last = drafts[-1]
    assert last.text == text_of(drafted)
    assert "".join(text for text, kind in last.runs if kind != "f") == last.text
    assert (last.canvas, last.steps) == (0, 4)
    assert 0 < last.accepted <= 8
    plain = events_of(engine, chat("hello", max_tokens=8))
    assert [type(event) for event in plain] == [
        type(event) for event in drafted if not isinstance(event, Draft)
    ]


def test_a_completion_is_the_text_behind_bos_and_no_control_token(engine: LoadedEngine) -> None:
    text = "<|turn>user\nWhat is the capital of Italy?"
    asked = Completion(prompt=text, settings=Settings(seed=1, max_tokens=8))
    ids = engine.prepare(asked).question.checked.asked.ids
    bos, turn = (engine.front.tokenizer.id_of(name) for name in ("<bos>", "<|turn>"))
    assert (ids[0], turn in ids) == (bos, False)
    assert engine.front.tokenizer.decode(ids) == text
    events = events_of(engine, asked)
    assert events[0] == Begun(1, len(ids), 0)
    assert len(text_of(events)) > 0


def test_a_template_is_filled_whole_or_its_hole_alone(talking: LoadedEngine) -> None:
    asked = {
        "template": read_template("The capital of Spain is [[10]]."),
        "prompt": "Fill in: What is the capital of Spain?",
        "settings": Settings(seed=1),
    }
    whole = events_of(talking, Infill(**asked))
    assert text_of(whole) == "The capital of Spain is Madrid."
    assert done_of(whole).holes == ("Madrid",)
    assert done_of(whole).finish == "stop"
    hole = events_of(talking, Infill(**asked, hole_only=True, drafts=True))
    assert text_of(hole) == "Madrid"
    assert of_kind(hole, Draft)[-1].text == "The capital of Spain is Madrid."


def test_an_answer_ends_at_a_stop_text_or_for_want_of_tokens(
    talking: LoadedEngine, engine: LoadedEngine
) -> None:
    events = events_of(talking, chat("List the numbers from 1 to 9", stop=("9", " 3,")))
    done = done_of(events)
    assert (text_of(events), done.finish, done.stop) == ("1, 2,", "stop_text", " 3,")
    cut = done_of(events_of(engine, chat("hello", max_tokens=10)))
    assert (cut.finish, cut.stop, cut.usage.completion) == ("length", None, 10)


def test_fewer_tokens_than_asked_for_are_said(talking: LoadedEngine) -> None:
    """2,048 positions less 38 leave 31 canvases."""
    (note,) = talking.prepare(chat(CAPITAL, max_tokens=5000)).question.notes
    assert "1,984 tokens at most, not 5,000" in note
    exact = talking.prepare(chat(CAPITAL, max_tokens=1984)).question
    free = talking.prepare(chat(CAPITAL)).question
    assert (exact.notes, free.notes, free.checked.settings.max_tokens) == ((), (), 1984)


def test_warnings_of_the_request_come_first(engine: LoadedEngine) -> None:
    asked = chat("hello", think=True, max_tokens=8, warnings=("first",))
    first, second = done_of(events_of(engine, asked)).warnings
    assert (first, "ignores think" in second) == ("first", True)


def test_a_seed_is_fresh_where_none_is_given_and_returned(engine: LoadedEngine) -> None:
    free = [events_of(engine, chat("hello", seed=None, max_tokens=16)) for _ in range(2)]
    seeds = [done_of(events).seed for events in free]
    assert seeds[0] != seeds[1]
    assert [events[0].seed for events in free] == seeds  # type: ignore[union-attr]
    again = events_of(engine, chat("hello", seed=seeds[0], max_tokens=16))
    assert text_of(again) == text_of(free[0]) != text_of(free[1])


def test_only_one_call_is_kept_where_one_is_wanted(
    talking: LoadedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that repeats each of its calls."""
    fresh = Turn.fresh

    def twice(turn: Turn, **others: Any) -> Fresh:
        told = fresh(turn, **others)
        return replace(told, calls=told.calls * 2)

    monkeypatch.setattr(Turn, "fresh", twice)
    wanted = Wanted(tools=[ADD])
    one = events_of(talking, chat("What is 14 + 1?", wanted=wanted, one_call=True))
    assert [call.name for call in of_kind(one, Call)] == ["add"]
    assert "2 calls, one was wanted" in done_of(one).warnings[-1]


def test_a_server_that_stops_ends_an_answer_behind_the_canvas_in_hand(
    talking: LoadedEngine, engine: LoadedEngine
) -> None:
    events = events_of(engine, chat("hello", max_tokens=80), stopping=lambda: True)
    done = done_of(events)
    assert (done.finish, done.usage.completion, done.warnings) == ("length", 8, (STOPPED,))
    short = events_of(talking, chat(CAPITAL), stopping=lambda: True)
    assert (done_of(short).finish, done_of(short).warnings) == ("stop", ())
