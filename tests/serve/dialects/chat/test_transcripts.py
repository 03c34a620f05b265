"""Streams of chat completions, byte for byte, and what clients make of them."""

import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai_kinds import CHAT, asked, spoken
from transcripts import ENVELOPE, stored, whole

from mlx_diffgemma.serve.dialects.routes import CHAT_COMPLETIONS
from mlx_diffgemma.serve.events import Failed
from mlx_diffgemma.serve.refusal import Refusal

FAILING = {kind for kind, (_, steps) in CHAT.items() if isinstance(steps[-1], Failed)}


@pytest.mark.parametrize("kind", CHAT)
def test_a_stream_is_what_it_was(kind):
    assert spoken("chat", kind).encode() == stored("chat", kind).read_bytes()


def test_no_transcript_is_of_nothing():
    assert {path.stem for path in stored("chat", "plain").parent.iterdir()} == set(CHAT)


def events(kind):
    lines = spoken("chat", kind).split("\n\n")
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


@pytest.mark.parametrize("kind", sorted(set(CHAT) - FAILING))
def test_a_stream_is_of_chunks_and_ends(kind):
    *chunks, last = events(kind)
    read = [ChatCompletionChunk.model_validate_json(chunk, strict=True) for chunk in chunks]
    assert last == "[DONE]"
    assert read[0].choices[0].delta.role == "assistant"
    finishes = [choice.finish_reason for chunk in read for choice in chunk.choices]
    assert finishes[-1]
    assert not any(finishes[:-1])
    assert {chunk.id for chunk in read} == {"chatcmpl-0a1b2c"}
    assert {chunk.model for chunk in read} == {"tiny-chat"}


@pytest.mark.parametrize("kind", sorted(FAILING))
def test_a_failure_ends_a_stream_without_its_mark(kind):
    *chunks, last = events(kind)
    assert all("choices" in json.loads(chunk) for chunk in chunks)
    assert set(json.loads(last)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("kind", sorted(set(CHAT) - FAILING))
def test_the_body_says_what_the_stream_says(kind):
    body, steps = CHAT[kind]
    said = CHAT_COMPLETIONS.encoder(ENVELOPE, asked(CHAT_COMPLETIONS, body)).whole(whole(steps))
    read = ChatCompletion.model_validate_json(json.dumps(said), strict=True)
    text, thought, calls, ours = "", "", [], {}
    for chunk in map(json.loads, events(kind)[:-1]):
        ours |= {name: value for name, value in chunk.items() if name.startswith("x_")}
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text += delta.get("content", "")
            thought += delta.get("reasoning_content", "") + delta.get("reasoning", "")
            calls += [{**call, "index": None} for call in delta.get("tool_calls", [])]
    message = said["choices"][0]["message"]
    assert (read.choices[0].message.content or "") == text
    assert message.get("reasoning_content", message.get("reasoning", "")) == thought
    assert [{"index": None, **call} for call in message.get("tool_calls", [])] == calls
    ours.pop("x_draft", None)
    assert {name: value for name, value in said.items() if name.startswith("x_")} == ours


def test_content_beside_calls_alone_is_null():
    body, steps = CHAT["parallel"]
    said = CHAT_COMPLETIONS.encoder(ENVELOPE, asked(CHAT_COMPLETIONS, body)).whole(whole(steps))
    assert said["choices"][0]["message"]["content"] is None
    assert said["choices"][0]["finish_reason"] == "tool_calls"


def test_an_answer_that_failed_has_no_body():
    with pytest.raises(Refusal, match="not finite"):
        whole(CHAT["failure"][1])
