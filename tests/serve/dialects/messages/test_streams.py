"""Streams of the Messages API: byte for byte, and as the official SDK reads them."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel
from sdk_clients import anthropic_reading, async_anthropic_reading
from transcripts import ENVELOPE, KINDS, answered, stored, transcript

from mlx_diffgemma.serve.dialects.messages.encoder import SIGNATURE, STOP_REASONS
from mlx_diffgemma.serve.dialects.routes import MESSAGES

BROKEN = {"failure": "api_error", "refused": "rate_limit_error"}
WHOLE = [kind for kind in KINDS if kind not in BROKEN]
ASKED: dict[str, Any] = {
    "model": "claude-opus-9",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hello?"}],
}


class Named(BaseModel):
    name: str


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_the_golden_one_byte_for_byte(kind: str) -> None:
    assert transcript(MESSAGES, kind).encode() == stored("messages", kind).read_bytes()


def test_every_golden_stream_is_of_a_kind() -> None:
    assert {path.stem for path in stored("messages", "plain").parent.iterdir()} == set(KINDS)


@pytest.mark.parametrize("kind", WHOLE)
def test_the_sdk_makes_of_a_stream_the_message_that_is_sent_whole(kind: str) -> None:
    with anthropic_reading(transcript(MESSAGES, kind)).messages.stream(**ASKED) as stream:
        message = stream.get_final_message()
    whole = MESSAGES.encoder(ENVELOPE, KINDS[kind][0]).whole(answered(kind))
    sent = message.to_dict()
    if kind != "after":  # whose text is in two pieces
        assert _without_nulls(sent["content"]) == whole["content"]
    for name in ("id", "type", "role", "model", "stop_reason", "stop_sequence", "usage"):
        assert sent[name] == whole[name], name
    assert whole["x_seed"] == 7
    assert whole["x_timings"]["steps"] == 3


def test_blocks_stand_in_the_order_of_the_events() -> None:
    with anthropic_reading(transcript(MESSAGES, "after")).messages.stream(**ASKED) as stream:
        content = stream.get_final_message().content
    assert [block.type for block in content] == ["text", "tool_use", "text"]


def test_the_events_of_the_sdk_have_text_thought_and_arguments() -> None:
    told = {"text": "", "thinking": "", "input_json": "", "signature": ""}
    for kind in ("thought", "parallel"):
        with anthropic_reading(transcript(MESSAGES, kind)).messages.stream(**ASKED) as stream:
            for event in stream:
                if event.type == "text":
                    told["text"] += event.text
                elif event.type == "thinking":
                    told["thinking"] += event.thinking
                elif event.type == "input_json":
                    told["input_json"] += event.partial_json
                elif event.type == "signature":
                    told["signature"] = event.signature
    assert told == {
        "text": "4.",
        "thinking": "2 and 2 is 4.Two cities.",
        "input_json": '{"city":"Paris"}{"city":"Zürich","days":[1,2],"at":{"hour":null}}',
        "signature": SIGNATURE,
    }


@pytest.mark.parametrize("kind", BROKEN)
def test_a_failure_in_a_stream_is_an_error_of_the_sdk(kind: str) -> None:
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        anthropic_reading(transcript(MESSAGES, kind)).messages.stream(**ASKED) as stream,
    ):
        stream.get_final_message()
    assert caught.value.type == BROKEN[kind]


def test_a_stream_of_a_form_is_parsed() -> None:
    client = anthropic_reading(transcript(MESSAGES, "form"))
    with client.messages.stream(**ASKED, output_format=Named) as stream:
        assert stream.get_final_message().parsed_output == Named(name="Fay")


def test_the_async_sdk_reads_the_same() -> None:
    async def read() -> str:
        client = async_anthropic_reading(transcript(MESSAGES, "plain"))
        async with client.messages.stream(**ASKED) as stream:
            return "".join([text async for text in stream.text_stream])

    assert asyncio.run(read()) == answered("plain").text


def test_raw_events_pass_drafts_on_and_nobody_sees_a_ping() -> None:
    client = anthropic_reading(transcript(MESSAGES, "drafts"))
    kinds = [event.type for event in client.messages.create(**ASKED, stream=True)]
    assert kinds.count("x_draft") == 2
    client = anthropic_reading(transcript(MESSAGES, "pinged"))
    kinds = [event.type for event in client.messages.create(**ASKED, stream=True)]
    assert kinds[0] == "message_start"
    assert "ping" not in kinds


def test_drafts_that_nobody_asked_for_are_not_sent() -> None:
    assert "x_draft" not in transcript(MESSAGES, "undrafted")


def test_nothing_is_sent_of_an_empty_text() -> None:
    assert "content_block" not in transcript(MESSAGES, "empty")


def test_each_end_has_a_reason_that_the_sdk_knows() -> None:
    known = {"end_turn", "max_tokens", "stop_sequence", "tool_use"}
    assert set(STOP_REASONS.values()) == known


def _without_nulls(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in block.items() if v is not None} for block in blocks]
