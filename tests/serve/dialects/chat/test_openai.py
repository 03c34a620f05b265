"""The official client of OpenAI's API in front of a running server with an embedded checkpoint."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from facts import assert_says
from live import Running, running
from openai import pydantic_function_tool
from pydantic import BaseModel
from tiny_engines import tiny_engine
from tiny_tools import TOOLS, results_of

from mlx_diffgemma.serve.dialects.routes import DIALECTS

PICTURES = Path(__file__).parents[3] / "assets" / "data" / "pictures"
ITALY = "What is the capital of Italy?"
ROME = "The capital of Italy is Rome."
STORY = "Tell me a story about a bear."


@pytest.fixture(scope="module")
def url(server: Running) -> str:
    return f"{server.url}/v1"


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
        yield client


def asking(text: str, **more: Any) -> Any:
    return {"model": "gpt-9", "messages": [{"role": "user", "content": text}], "seed": 1, **more}


def test_an_answer(client):
    reply = client.chat.completions.create(**asking(ITALY))
    assert reply.choices[0].message.content == ROME
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model == "tiny-chat"
    usage = reply.usage
    assert usage.completion_tokens == len(ROME) + 1
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert reply.model_extra["x_seed"] == 1
    assert reply.model_extra["x_warnings"] == []
    assert reply.model_extra["x_timings"]["steps"] >= 1


def test_a_stream_and_its_usage(client):
    asked = asking(ITALY, stream=True, stream_options={"include_usage": True})
    role, *chunks, finish, last = client.chat.completions.create(**asked)
    assert (role.choices[0].delta.role, role.choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == ROME
    assert finish.choices[0].finish_reason == "stop"
    assert finish.model_extra["x_seed"] == 1
    assert (last.choices, last.usage.completion_tokens) == ([], len(ROME) + 1)
    assert {chunk.id for chunk in chunks} == {role.id}


def test_clients_that_wait(url):
    async def both() -> list[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
            reply = await client.chat.completions.create(**asking(ITALY))
            stream = await client.chat.completions.create(**asking(ITALY, stream=True))
            deltas = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return [reply.choices[0].message.content, "".join(deltas)]

    assert asyncio.run(both()) == [ROME, ROME]


@pytest.mark.slow
def test_a_seed_nobody_chose_gives_the_same_answer_again(client):
    first = client.chat.completions.create(**asking(ITALY, seed=None))
    again = client.chat.completions.create(**asking(ITALY, seed=first.model_extra["x_seed"]))
    assert again.choices[0].message == first.choices[0].message


def test_a_thought_and_an_answer(client):
    reply = client.chat.completions.create(**asking("What is 17 + 25?", reasoning_effort="low"))
    message = reply.choices[0].message
    assert message.content == "17 + 25 = 42."
    assert message.model_extra["reasoning_content"] == "7+5=12 carry 1\n1+2+1=4"
    assert reply.usage.completion_tokens_details.reasoning_tokens > 20
    messages = [*asking("What is 17 + 25?")["messages"], message.to_dict()]
    messages.append({"role": "user", "content": "What is 11 + 2?"})
    other = {"extra_body": {"diffusion": {"reasoning_field": "reasoning"}}}
    asked = {**asking("", reasoning_effort="high", stream=True), "messages": messages, **other}
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(**asked)]
    assert "".join(delta.content or "" for delta in deltas) == "11 + 2 = 13."
    assert "".join(delta.model_extra.get("reasoning", "") for delta in deltas)


@pytest.mark.parametrize("stream", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_agents_loop(client, stream):
    messages = cast(list[Any], asking("how much is 14 + 1?")["messages"])
    finishes, cached = [], []
    for _ in range(3):
        asked = {**asking(""), "messages": messages, "tools": TOOLS}
        if stream:
            usage = {"stream_options": {"include_usage": True}}
            with client.chat.completions.stream(**asked, **usage) as events:
                events.until_done()
                reply = events.get_final_completion()
        else:
            reply = client.chat.completions.create(**asked)
        choice = reply.choices[0]
        finishes.append(choice.finish_reason)
        cached.append(reply.usage.prompt_tokens_details.cached_tokens)
        if choice.finish_reason != "tool_calls":
            break
        assert not choice.message.content
        messages += [choice.message.to_dict(), *results_of(choice.message.tool_calls)]
    assert finishes == ["tool_calls", "stop"]
    assert choice.message.content == "14 + 1 = 15."
    assert cached[1] > 300  # the tools and the question


def test_a_named_tool_is_called(client):
    choice = {"type": "function", "function": {"name": "timer"}}
    asked = asking("Wake me in 20 minutes.", tools=TOOLS, tool_choice=choice)
    reply = client.chat.completions.create(**asked)
    (call,) = reply.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("timer", {"minutes": 20})
    assert reply.choices[0].finish_reason == "tool_calls"
    assert reply.model_extra["x_constraint"]["kind"] == "tools"


class Add(BaseModel):
    """Add two numbers."""

    a: int
    b: int


class Person(BaseModel):
    name: str
    colour: str
    pet: str


MAX = "Make JSON: name Max, colour yellow, pet bird."


def test_a_structured_answer(client):
    reply = client.chat.completions.parse(**asking(MAX, response_format=Person))
    assert reply.choices[0].message.parsed == Person(name="Max", colour="yellow", pet="bird")
    assert reply.model_extra["x_constraint"]["kind"] == "schema"


@pytest.mark.parametrize(
    "stream", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["whole", "stream"]
)
def test_a_structured_answer_beside_tools_that_may_be_called(client, stream):
    """As agents with an output type send it: the model calls a tool, or gives the record."""

    def said(text: str, **more: Any) -> Any:
        asked = asking(text, tools=[pydantic_function_tool(Add, name="add")], **more)
        if not stream:
            return client.chat.completions.parse(**asked, response_format=Person)
        with client.chat.completions.stream(**asked, response_format=Person) as events:
            events.until_done()
            return events.get_final_completion()

    called = said("how much is 14 + 1?")
    (call,) = called.choices[0].message.tool_calls
    assert call.function.parsed_arguments == Add(a=14, b=1)
    assert called.choices[0].finish_reason == "tool_calls"
    assert called.choices[0].message.parsed is None
    answered = said(MAX)
    assert answered.choices[0].finish_reason == "stop"
    assert answered.choices[0].message.parsed == Person(name="Max", colour="yellow", pet="bird")
    assert not answered.choices[0].message.tool_calls
    forced = said(MAX, tool_choice="required")
    assert forced.choices[0].finish_reason == "tool_calls"
    assert forced.choices[0].message.tool_calls[0].function.name == "add"
    own = () if stream else (called, answered)  # of a stream the SDK keeps none of our fields
    for reply in own:
        assert reply.model_extra["x_warnings"] == []
        assert reply.model_extra["x_constraint"]["kind"] == "schema"
        assert reply.model_extra["x_constraint"]["strain"] < 0.1
        assert reply.usage.completion_tokens > 10


@pytest.mark.slow
def test_a_structured_answer_as_a_stream(client):
    asked = asking(MAX, response_format=Person)
    with client.chat.completions.stream(**asked) as events:
        events.until_done()
        assert events.get_final_completion().choices[0].message.parsed.pet == "bird"


@pytest.mark.slow
def test_a_sudoku_in_a_picture():
    data = base64.b64encode((PICTURES / "01-square.png").read_bytes()).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    with (
        running(tiny_engine("tiny-sudoku"), DIALECTS) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client,
    ):
        drafts = {"extra_body": {"diffusion": {"drafts": True}}, "stream": True}
        chunks = list(client.chat.completions.create(**asking([image], **drafts)))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    entries = json.loads((PICTURES / "pictures.json").read_text(encoding="utf-8"))
    assert text.replace("\n", "") == entries[0]["solution"]
    drafted = [chunk.model_extra["x_draft"] for chunk in chunks if not chunk.choices]
    assert [draft["step"] for draft in drafted] == list(range(len(drafted)))
    assert drafted[-1]["text"] == text


def test_a_text_goes_on(client):
    reply = client.completions.create(model="x", prompt="Add 1", max_tokens=3, seed=1, echo=True)
    assert reply.choices[0].text.startswith("Add 1")
    assert reply.model == "tiny-chat"


def test_a_gap_is_filled(client):
    asked = {"model": "x", "prompt": "A lemon is ", "suffix": ".", "max_tokens": 8, "seed": 1}
    chunks = list(client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "yellow"
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.slow
def test_a_gap_ends_at_a_text(client):
    asked = {"model": "x", "prompt": "A lemon is ", "suffix": ".", "max_tokens": 8, "seed": 1}
    cut = client.completions.create(**asked, stop=["lo", "\n"])
    assert (cut.choices[0].text, cut.model_extra["x_stop"]) == ("yel", "lo")


def test_a_template_is_filled(client):
    template = {"template": "The capital of Spain is [[10]]."}
    prompt = "Fill in: What is the capital of Spain?"
    asked = {"model": "x", "prompt": prompt, "seed": 1, "extra_body": {"diffusion": template}}
    reply = client.completions.create(**asked)
    assert reply.choices[0].text == "The capital of Spain is Madrid."
    assert reply.model_extra["x_holes"] == ["Madrid"]


@pytest.mark.parametrize(
    ("asked", "param", "code", "facts"),
    [
        (asking(ITALY, n=2), "n", None, "2 ... 1"),
        (asking("x" * 5000), None, "context_length_exceeded", "2,048"),
        (asking([{"type": "image_url", "image_url": {"url": "http://a.org"}}]), *(
            "messages[0].content[0].image_url.url", None, "fetches",
        )),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_refusals_before_anything_is_sent(client, asked, param, code, facts, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked, stream=stream)
    error = caught.value
    assert (error.status_code, error.param, error.code) == (400, param, code)
    assert error.type == "invalid_request_error"
    assert_says(error.body["message"], facts)


@pytest.mark.slow
def test_a_story_over_canvases_comes_in_pieces(client):
    asked = asking(STORY, extra_body={"diffusion": {"drafts": True}})
    whole = client.chat.completions.create(**asked).choices[0].message.content
    chunks = list(client.chat.completions.create(**asked, stream=True))
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(texts) == whole
    assert len(list(filter(None, texts))) > 1
    drafts = [chunk.model_extra["x_draft"] for chunk in chunks if not chunk.choices]
    assert {draft["canvas"] for draft in drafts} >= {0, 1}


@pytest.mark.slow
def test_a_story_that_ends_at_a_text_or_where_no_more_was_wanted(client):
    stopped = client.chat.completions.create(**asking(STORY, stop=["."]))
    assert stopped.choices[0].finish_reason == "stop"
    assert "." not in stopped.choices[0].message.content
    assert stopped.model_extra["x_stop"] == "."
    short = client.chat.completions.create(**asking(STORY, max_tokens=10, temperature=0))
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 10
    assert_says(short.model_extra["x_warnings"][0], "temperature")
    written = {"extra_body": {"diffusion": {"mode": "ar"}}, "temperature": 0, "stream": True}
    chunks = list(client.chat.completions.create(**asking(STORY, max_tokens=40, **written)))
    assert len(chunks) > 4
    assert chunks[-1].model_extra["x_warnings"] == []
