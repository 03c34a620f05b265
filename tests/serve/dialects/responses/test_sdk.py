"""The Responses API of the official openai SDK against a running server with the tiny models."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from live import Running, running
from openai.lib.responses_tool_runner import RegisteredFunction, ResponsesToolRunner
from pydantic import BaseModel
from scripted import ScriptedEngine, done
from tiny_engines import tiny_engine
from transcripts import BEGUN, KINDS, WEATHER, Step

from mlx_diffgemma.serve.asked import Asked, Chat
from mlx_diffgemma.serve.dialects.routes import RESPONSES
from mlx_diffgemma.serve.events import Text

PICTURE = Path(__file__).parents[4] / "docs" / "examples" / "sudoku.png"
SEED = {"seed": 1}
ITALY = "What is the capital of Italy?"
ROME = "The capital of Italy is Rome."
MAX = "Make JSON: name Max, colour yellow, pet bird."
ADD: dict[str, Any] = {
    "type": "function",
    "name": "add",
    "description": "Add two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "strict": True,
}
WEATHER_TOOL: dict[str, Any] = {"type": "function", **WEATHER["function"], "strict": False}


class Pet(BaseModel):
    name: str
    colour: str
    pet: str


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with opened(server) as there:
        yield there


def opened(server: Running) -> openai.OpenAI:
    """A client of a server, which closes what it opens."""
    return openai.OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0)


def asked(**changes: Any) -> dict[str, Any]:
    """The arguments of a question."""
    return {"model": "gpt-9", "input": ITALY, "extra_body": SEED, **changes}


def test_a_response(client: openai.OpenAI) -> None:
    response = client.responses.create(**asked())
    assert response.output_text == ROME
    assert (response.model, response.status) == ("tiny-chat", "completed")
    told = response.to_dict()
    assert told["x_seed"] == 1
    assert told["x_warnings"] == []
    assert response.usage.total_tokens == response.usage.input_tokens + len(ROME) + 1


def test_a_stream_comes_to_the_same_response(client: openai.OpenAI) -> None:
    with client.responses.stream(**asked()) as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert "".join(texts) == response.output_text == ROME
    assert response.usage.output_tokens == len(ROME) + 1


def test_an_agents_loop(client: openai.OpenAI) -> None:
    """A call, its output, the answer, with all that the first response said sent back."""
    history: list[Any] = [{"role": "user", "content": "how much is 14 + 1?"}]
    with client.responses.stream(**asked(input=history, tools=[ADD])) as stream:
        first = stream.get_final_response()
    (call,) = (item for item in first.output if item.type == "function_call")
    assert (call.name, call.parsed_arguments) == ("add", {"a": 14, "b": 1})
    total = str(sum(json.loads(call.arguments).values()))
    history += [item.to_dict() for item in first.output]
    history += [{"type": "function_call_output", "call_id": call.call_id, "output": total}]
    last = client.responses.create(**asked(input=history, tools=[ADD]))
    assert last.output_text == "14 + 1 = 15."
    assert last.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens


def test_an_answer_is_parsed(client: openai.OpenAI) -> None:
    told = asked(input=MAX, text_format=Pet, max_output_tokens=128)
    expected = Pet(name="Max", colour="yellow", pet="bird")
    assert client.responses.parse(**told).output_parsed == expected


def test_an_answer_beside_tools_is_a_call_or_is_parsed(client: openai.OpenAI) -> None:
    told = asked(text_format=Pet, tools=[ADD], max_output_tokens=128)
    called = client.responses.parse(**{**told, "input": "how much is 14 + 1?"})
    (call,) = called.output
    assert (call.type, call.parsed_arguments) == ("function_call", {"a": 14, "b": 1})
    assert (called.status, called.output_parsed) == ("completed", None)
    with client.responses.stream(**{**told, "input": MAX}) as stream:
        response = stream.get_final_response()
    assert response.output_parsed == Pet(name="Max", colour="yellow", pet="bird")
    assert [item.type for item in response.output] == ["message"]
    assert response.to_dict()["x_warnings"] == []


def test_a_bad_request_has_the_shape_of_the_api(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**asked(previous_response_id="resp_1"))
    assert caught.value.param == "previous_response_id"
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="fetches nothing"):
        client.responses.create(**asked(input=[_picture("https://a/b.png")]))


def test_a_stored_response_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_k1")


@pytest.mark.slow
def test_the_async_client(server: Running) -> None:
    async def ask() -> tuple[str, str]:
        url = f"{server.url}/v1"
        async with openai.AsyncOpenAI(api_key="none", base_url=url) as client:
            response = await client.responses.create(**asked())
            async with client.responses.stream(**asked()) as stream:
                return response.output_text, (await stream.get_final_response()).output_text

    assert asyncio.run(ask()) == (ROME, ROME)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_the_tool_runner_of_the_sdk(client: openai.OpenAI, stream: bool) -> None:
    """It checks every item that comes, and compares those of a stream with the whole response."""
    runner = ResponsesToolRunner(
        functions=[RegisteredFunction(ADD, lambda given: str(given["a"] + given["b"]))]
    )
    response = runner.run(client, asked(input="how much is 14 + 1?"), stream=stream)
    assert response.output_text == "14 + 1 = 15."


@pytest.mark.parametrize("stream", [False, True])
def test_the_tool_runner_takes_a_thought_and_two_calls(stream: bool) -> None:
    def script(asked: Asked) -> Sequence[Step]:
        assert isinstance(asked, Chat)
        results = [turn["content"] for turn in asked.messages if turn["role"] == "tool"]
        return KINDS["parallel"][1] if not results else [BEGUN, Text(" ".join(results)), done()]

    runner = ResponsesToolRunner(
        functions=[RegisteredFunction(WEATHER_TOOL, lambda given: f"{given['city']}: sunny.")]
    )
    with running(ScriptedEngine(script), [RESPONSES]) as server, opened(server) as client:
        response = runner.run(client, {"model": "gpt-9", "input": "Weather?"}, stream=stream)
    assert response.output_text == "Paris: sunny. Zürich: sunny."


@pytest.mark.slow
def test_a_stream_is_parsed(client: openai.OpenAI) -> None:
    told = asked(input=MAX, text_format=Pet, max_output_tokens=128)
    with client.responses.stream(**told) as stream:
        parsed = stream.get_final_response().output_parsed
    assert parsed == Pet(name="Max", colour="yellow", pet="bird")


@pytest.mark.slow
def test_any_json_is_an_object(client: openai.OpenAI) -> None:
    form = {"format": {"type": "json_object"}}
    response = client.responses.create(**asked(input=MAX, text=form, max_output_tokens=128))
    assert isinstance(json.loads(response.output_text), dict)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "add"}])
def test_a_call_that_is_required(client: openai.OpenAI, choice: Any) -> None:
    told = asked(input="how much is 14 + 1?", tools=[ADD], tool_choice=choice)
    response = client.responses.create(**told, parallel_tool_calls=False)
    (call,) = response.output
    assert call.type == "function_call"
    assert set(json.loads(call.arguments)) == {"a", "b"}


@pytest.mark.slow
def test_a_thought_is_an_item_and_may_be_sent_back(client: openai.OpenAI) -> None:
    history: list[Any] = [{"role": "user", "content": "What is 17 + 25?"}]
    with client.responses.stream(**asked(input=history, reasoning={"effort": "low"})) as stream:
        kinds = [event.type for event in stream]
        response = stream.get_final_response()
    assert "response.reasoning_summary_text.delta" in kinds
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output_text == "17 + 25 = 42."
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    history += [item.to_dict() for item in response.output]
    history += [{"role": "user", "content": "Add 72 and 10."}]
    assert client.responses.create(**asked(input=history)).output_text == "72 + 10 = 82."


@pytest.mark.slow
def test_an_answer_that_is_cut_is_incomplete(client: openai.OpenAI) -> None:
    response = client.responses.create(**asked(max_output_tokens=5))
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert ROME.startswith(response.output_text)


@pytest.mark.slow
def test_drafts_come_where_they_are_asked_for(client: openai.OpenAI) -> None:
    told = asked(extra_body={**SEED, "diffusion": {"drafts": True}})
    events = list(client.responses.create(**told, stream=True))
    drafts = [event.to_dict()["x_draft"] for event in events if event.type == "x_draft"]
    assert drafts[-1]["text"] == ROME
    assert events[-1].response.output_text == ROME


@pytest.mark.slow
def test_a_picture_is_seen() -> None:
    url = f"data:image/png;base64,{base64.b64encode(PICTURE.read_bytes()).decode()}"
    with running(tiny_engine("tiny-sudoku"), [RESPONSES]) as server, opened(server) as client:
        told = asked(input=[_picture(url)], extra_body={"seed": 2})
        rows = client.responses.create(**told).output_text.split("\n")
    assert len(rows) == 9
    assert all(set(row) == set("123456789") for row in rows)
    assert all(set(column) == set("123456789") for column in zip(*rows, strict=True))


def _picture(url: str) -> dict[str, Any]:
    part = {"type": "input_image", "image_url": url, "detail": "auto"}
    return {"role": "user", "content": [part]}
