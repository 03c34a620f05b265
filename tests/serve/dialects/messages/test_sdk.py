"""The official anthropic SDK against a running server with the embedded checkpoints."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import beta_tool
from claude_code import claude_code
from live import Running, running
from pydantic import BaseModel
from tiny_engines import tiny_engine

from mlx_diffgemma.serve.dialects.routes import MESSAGES

PICTURE = Path(__file__).parents[4] / "docs" / "examples" / "sudoku.png"
SEED = {"seed": 1}
ITALY = [{"role": "user", "content": "What is the capital of Italy?"}]
ROME = "The capital of Italy is Rome."
MAX = "Make JSON: name Max, colour yellow, pet bird."
ADD = {
    "name": "add",
    "description": "Add two numbers.",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}


class Pet(BaseModel):
    name: str
    colour: str
    pet: str


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[anthropic.Anthropic]:
    with opened(server) as there:
        yield there


def opened(server: Running) -> anthropic.Anthropic:
    """A client of a server, which closes what it opens."""
    return anthropic.Anthropic(api_key="none", base_url=server.url, max_retries=0)


def asked(**changes: Any) -> dict[str, Any]:
    """The arguments of a question."""
    told = {"model": "claude-opus-9", "max_tokens": 64, "messages": ITALY, "extra_body": SEED}
    return {**told, **changes}


def test_a_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asked())
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": ROME}]
    assert (message.model, message.stop_reason) == ("tiny-chat", "end_turn")
    told = message.to_dict()
    assert told["x_seed"] == 1
    assert told["x_warnings"] == []
    assert message._request_id


def test_a_stream_comes_to_the_same_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**asked()) as stream:
        texts = list(stream.text_stream)
        message = stream.get_final_message()
    assert "".join(texts) == message.content[0].text == ROME
    assert message.usage.output_tokens == len(ROME) + 1


@pytest.mark.slow
def test_the_async_client(server: Running) -> None:
    async def ask() -> tuple[str, str]:
        async with anthropic.AsyncAnthropic(api_key="none", base_url=server.url) as client:
            message = await client.messages.create(**asked())
            async with client.messages.stream(**asked()) as stream:
                return message.content[0].text, await stream.get_final_text()

    assert asyncio.run(ask()) == (ROME, ROME)


def test_an_agents_loop(client: anthropic.Anthropic) -> None:
    """A call, its result, the answer, with all that the first reply said sent back."""
    messages: list[Any] = [{"role": "user", "content": "how much is 14 + 1?"}]
    with client.messages.stream(**asked(messages=messages, tools=[ADD])) as stream:
        first = stream.get_final_message()
    assert first.stop_reason == "tool_use"
    call = first.content[-1]
    assert (call.type, call.name, call.input) == ("tool_use", "add", {"a": 14, "b": 1})
    total = str(sum(call.input.values()))
    messages += [
        first.to_param(),
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": total}],
        },
    ]
    last = client.messages.create(**asked(messages=messages, tools=[ADD]))
    assert last.content[0].text == "14 + 1 = 15."
    prompt = first.usage.input_tokens + first.usage.cache_read_input_tokens
    assert last.usage.cache_read_input_tokens >= prompt


@pytest.mark.slow
def test_the_tool_runner_of_the_sdk(client: anthropic.Anthropic) -> None:
    """It asks at ?beta=true, runs the function itself, and does without a thread."""
    calls = []

    @beta_tool
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        calls.append((a, b))
        return str(a + b)

    question = [{"role": "user", "content": "Add 72 and 10."}]
    runner = client.beta.messages.tool_runner(**asked(messages=question, tools=[add]))
    assert runner.until_done().content[0].text == "72 + 10 = 82."
    assert calls == [(72, 10)]


@pytest.mark.slow
def test_a_call_that_is_required(client: anthropic.Anthropic) -> None:
    choice = {"type": "tool", "name": "add"}
    question = [{"role": "user", "content": "how much is 14 + 1?"}]
    message = client.messages.create(**asked(messages=question, tools=[ADD], tool_choice=choice))
    assert [block.type for block in message.content] == ["tool_use"]
    assert set(message.content[0].input) == {"a", "b"}


@pytest.mark.slow
def test_an_answer_is_parsed(client: anthropic.Anthropic) -> None:
    question = [{"role": "user", "content": MAX}]
    told = asked(messages=question, max_tokens=128, output_format=Pet)
    with client.messages.stream(**told) as stream:
        message = stream.get_final_message()
    assert message.parsed_output == Pet(name="Max", colour="yellow", pet="bird")
    assert client.messages.parse(**told).parsed_output == message.parsed_output


def test_an_answer_beside_tools_is_a_call_or_is_parsed(client: anthropic.Anthropic) -> None:
    question: list[Any] = [{"role": "user", "content": "how much is 14 + 1?"}]
    told = asked(messages=question, max_tokens=128, output_format=Pet, tools=[ADD])
    called = client.messages.parse(**told)
    (call,) = called.content
    assert (called.stop_reason, called.parsed_output) == ("tool_use", None)
    assert called.to_dict()["x_warnings"] == []
    assert (call.type, call.name, call.input) == ("tool_use", "add", {"a": 14, "b": 1})
    told["messages"] = [{"role": "user", "content": MAX}]
    with client.messages.stream(**told) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert message.parsed_output == Pet(name="Max", colour="yellow", pet="bird")


@pytest.mark.slow
def test_a_thought_is_a_block_and_may_be_sent_back(client: anthropic.Anthropic) -> None:
    question = {"role": "user", "content": "What is 17 + 25?"}
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(**asked(messages=[question], thinking=thinking)) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[1].text == "17 + 25 = 42."
    assert message.content[0].signature
    assert 0 < message.usage.output_tokens_details.thinking_tokens < message.usage.output_tokens
    more = [question, message.to_param(), {"role": "user", "content": "Add 72 and 10."}]
    assert client.messages.create(**asked(messages=more)).content[0].text == "72 + 10 = 82."


@pytest.mark.slow
def test_tokens_are_counted_as_they_are_used(client: anthropic.Anthropic) -> None:
    told = {"model": "claude-opus-9", "messages": ITALY, "system": "Answer with one word."}
    count = client.messages.count_tokens(**told, tools=[ADD]).input_tokens
    usage = client.messages.create(**asked(**told, tools=[ADD])).usage
    assert count == usage.input_tokens + (usage.cache_read_input_tokens or 0)


@pytest.mark.slow
def test_tokens_of_a_prompt_that_is_too_long_are_counted(client: anthropic.Anthropic) -> None:
    """Clients count to see that it is; the same request for an answer is refused."""
    body = claude_code()
    told = {name: body[name] for name in ("model", "messages", "system", "tools", "thinking")}
    assert client.messages.count_tokens(**told).input_tokens > 2048
    with pytest.raises(anthropic.BadRequestError, match=r"2,048"):
        client.messages.create(**told, max_tokens=64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "reason", "stopped"),
    [
        ({"max_tokens": 5}, "max_tokens", None),
        ({"stop_sequences": ["Italy"]}, "stop_sequence", "Italy"),
    ],
)
def test_an_end_has_its_reason(
    client: anthropic.Anthropic, changes: dict[str, Any], reason: str, stopped: str | None
) -> None:
    message = client.messages.create(**asked(**changes))
    assert (message.stop_reason, message.stop_sequence) == (reason, stopped)
    assert ROME.startswith(message.content[0].text)


@pytest.mark.slow
def test_what_is_not_done_is_told(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asked(extra_body={**SEED, "temperature": 0.5}))
    assert "temperature" in message.to_dict()["x_warnings"][0]


@pytest.mark.slow
def test_drafts_come_where_they_are_asked_for(client: anthropic.Anthropic) -> None:
    body = {**SEED, "diffusion": {"drafts": True}}
    drafts = [
        event.to_dict()["x_draft"]
        for event in client.messages.create(**asked(extra_body=body), stream=True)
        if event.type == "x_draft"
    ]
    assert drafts
    assert drafts[-1]["text"] == ROME


def test_a_bad_request_has_the_shape_of_the_api(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**asked(messages=[]))
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(anthropic.BadRequestError, match="fetches nothing"):
        client.messages.create(**asked(messages=[_picture({"type": "url", "url": "https://a"})]))
    with pytest.raises(anthropic.BadRequestError):
        client.messages.count_tokens(model="claude-opus-9", messages=[])


@pytest.mark.slow
def test_a_picture_is_seen() -> None:
    data = base64.b64encode(PICTURE.read_bytes()).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    message = _picture(source)
    with running(tiny_engine("tiny-sudoku"), [MESSAGES]) as server, opened(server) as client:
        told = asked(messages=[message], max_tokens=90, extra_body={"seed": 2})
        rows = client.messages.create(**told).content[0].text.split("\n")
    assert len(rows) == 9
    assert all(set(row) == set("123456789") for row in rows)
    assert all(set(column) == set("123456789") for column in zip(*rows, strict=True))


def _picture(source: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image", "source": source}]}
