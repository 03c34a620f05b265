"""Streams of the Responses API: byte for byte, and as the official SDK reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.responses import Response
from pydantic import BaseModel
from scripted import done
from sdk_clients import async_openai_reading, openai_reading
from transcripts import ENVELOPE, KINDS, answered, stored, transcript

from mlx_diffgemma.serve.dialects.dialect import COMMENT
from mlx_diffgemma.serve.dialects.responses.encoder import ResponsesEncoder
from mlx_diffgemma.serve.dialects.responses.items import failed
from mlx_diffgemma.serve.dialects.routes import RESPONSES
from mlx_diffgemma.serve.events import Answer, Call, Text
from mlx_diffgemma.serve.refusal import Refusal

FAILED, CUT = ("failure", "refused"), ("length", "thinking")
COMPLETED = [kind for kind in KINDS if kind not in (*FAILED, *CUT)]
ASKED: dict[str, Any] = {"model": "gpt-9", "input": "Hello?"}


class Named(BaseModel):
    name: str


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_the_golden_one_byte_for_byte(kind: str) -> None:
    assert transcript(RESPONSES, kind).encode() == stored("responses", kind).read_bytes()


def test_every_golden_stream_is_of_a_kind() -> None:
    assert {path.stem for path in stored("responses", "plain").parent.iterdir()} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_response_is_the_one_that_is_sent_whole(kind: str) -> None:
    last = list(_events(kind))[-1]
    if kind in FAILED:
        assert last["response"]["status"] == "failed"
        return
    whole = RESPONSES.encoder(ENVELOPE, KINDS[kind][0]).whole(answered(kind))
    told = last["response"]
    if kind == "after":  # whose text is in two pieces
        assert [item["type"] for item in told["output"]] == ["message", "function_call", "message"]
        whole["output"] = told["output"]
    assert told == whole


@pytest.mark.parametrize("kind", KINDS)
def test_events_are_numbered_and_belong_to_items_that_are_open(kind: str) -> None:
    opened: dict[int, str] = {}
    done: list[dict[str, Any]] = []
    for number, event in enumerate(_events(kind)):
        assert event["sequence_number"] == number
        if event["type"] == "response.output_item.added":
            assert event["output_index"] == len(opened) == len(done)
            opened[event["output_index"]] = event["item"]["id"]
        elif event["type"] == "response.output_item.done":
            assert opened[event["output_index"]] == event["item"]["id"]
            done.append(event["item"])
        elif "item_id" in event:
            assert opened[event["output_index"]] == event["item_id"]
            assert len(done) == event["output_index"]
    assert list(_events(kind))[-1]["response"]["output"] == done


@pytest.mark.parametrize("kind", COMPLETED)
def test_the_sdk_makes_a_response_of_a_stream(kind: str) -> None:
    with openai_reading(transcript(RESPONSES, kind)).responses.stream(**ASKED) as stream:
        response = stream.get_final_response()
    answer = answered(kind)
    assert response.output_text == answer.text
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        (call.name, call.arguments) for call in answer.calls
    ]
    thoughts = [item for item in response.output if item.type == "reasoning"]
    assert "".join(item.summary[0].text for item in thoughts) == answer.thought
    assert response.usage is not None
    assert answer.done is not None
    assert response.usage.output_tokens_details.reasoning_tokens == answer.done.usage.thought
    assert response.usage.input_tokens_details.cached_tokens == answer.done.usage.cached


@pytest.mark.parametrize("kind", KINDS)
def test_the_types_of_the_sdk_hold_every_response(kind: str) -> None:
    for event in _events(kind):
        if "response" in event:
            Response.model_validate(_as_declared(event["response"]), strict=True)


@pytest.mark.parametrize("kind", CUT)
def test_an_answer_that_is_cut_is_incomplete(kind: str) -> None:
    client = openai_reading(transcript(RESPONSES, kind))
    last = list(client.responses.create(**ASKED, stream=True))[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert [item.status for item in last.response.output if item.type != "program"] == [
        "incomplete"
    ]


@pytest.mark.parametrize("kind", FAILED)
def test_a_failure_is_told_with_what_was_there(kind: str) -> None:
    client = openai_reading(transcript(RESPONSES, kind))
    last = list(client.responses.create(**ASKED, stream=True))[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    code = {"failure": "server_error", "refused": "rate_limit_exceeded"}[kind]
    assert last.response.error.code == code
    assert last.response.output_text == {"failure": "It was a", "refused": ""}[kind]


def test_a_prompt_that_is_too_long_has_the_code_that_clients_look_for() -> None:
    for kind, code in (("context", "context_length_exceeded"), ("invalid", "invalid_prompt")):
        assert failed({}, [], Refusal(kind, "no."))["error"]["code"] == code


def test_a_text_in_front_of_a_call_is_complete_where_the_answer_is_cut_behind_it() -> None:
    asked, said = KINDS["tools"][0], [Text("One."), Call("k1", "weather", {}), done("length")]
    answer = Answer()
    encoder = RESPONSES.encoder(ENVELOPE, asked)
    for event in said:
        answer.take(event)
        list(encoder.encode(event))
    whole = RESPONSES.encoder(ENVELOPE, asked).whole(answer)
    assert whole["status"] == "incomplete"
    assert [item["status"] for item in whole["output"]] == ["completed", "completed"]
    assert isinstance(encoder, ResponsesEncoder)
    assert encoder.output == whole["output"]


def test_a_stream_of_a_form_is_parsed() -> None:
    client = openai_reading(transcript(RESPONSES, "form"))
    with client.responses.stream(**ASKED, text_format=Named) as stream:
        assert stream.get_final_response().output_parsed == Named(name="Fay")


def test_the_deltas_of_a_thought_are_those_that_clients_show() -> None:
    client = openai_reading(transcript(RESPONSES, "thought"))
    events = list(client.responses.create(**ASKED, stream=True))
    thought = [e.delta for e in events if e.type == "response.reasoning_summary_text.delta"]
    assert thought == ["2 and 2", " is 4."]
    assert not any("reasoning_text" in event.type for event in events)  # clients would show both


def test_the_async_sdk_reads_the_same() -> None:
    async def read() -> str:
        client = async_openai_reading(transcript(RESPONSES, "plain"))
        async with client.responses.stream(**ASKED) as stream:
            return (await stream.get_final_response()).output_text

    assert asyncio.run(read()) == answered("plain").text


def test_drafts_are_events_of_their_own_where_they_were_asked_for() -> None:
    client = openai_reading(transcript(RESPONSES, "drafts"))
    kinds = [event.type for event in client.responses.create(**ASKED, stream=True)]
    assert kinds.count("x_draft") == 2  # type: ignore[comparison-overlap]
    assert "x_draft" not in transcript(RESPONSES, "undrafted")


def test_pings_are_comments() -> None:
    assert transcript(RESPONSES, "pinged").count(COMMENT) == 3


def _events(kind: str) -> Iterator[dict[str, Any]]:
    for block in transcript(RESPONSES, kind).split("\n\n"):
        if block and not block.startswith(":"):
            named, data = block.split("\n")
            event = json.loads(data.removeprefix("data: "))
            assert named == f"event: {event['type']}"
            yield event


def _as_declared(response: dict[str, Any]) -> dict[str, Any]:
    """A response with the codes of errors that the SDK's types do not name."""
    return {**response, "created_at": float(response["created_at"])}
