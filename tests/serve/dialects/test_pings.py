"""Streams that stay alive without comments, as official clients read them."""

from collections.abc import Iterator

import httpx
import openai
import pytest
from live import Running, running
from scripted import ScriptedEngine, done

from mlx_diffgemma.serve.dialects.routes import DIALECTS
from mlx_diffgemma.serve.events import Begun, Text
from mlx_diffgemma.serve.http.stream import Pace

SILENT = [Begun(7, 12, 0), 0.2, Text("Hello"), 0.2, Text(" there."), done()]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server that has nothing to say for a while, and says so often."""
    engine = ScriptedEngine(script=SILENT)
    with running(engine, DIALECTS, pace=Pace(keepalive=0.02), comments=False) as there:
        yield there


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def test_no_stream_has_a_comment(server: Running) -> None:
    bodies = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
        "/v1/completions": {"prompt": "Hi"},
        "/v1/responses": {"input": "Hi"},
    }
    for path, body in bodies.items():
        text = httpx.post(server.url + path, json={"model": "m", "stream": True, **body}).text
        events = text.split("\n\n")
        assert len(events) > 12, path  # pings are among them
        assert not [event for event in events if event.startswith(":")], path


def test_a_chat_passes_over_chunks_without_content(client: openai.OpenAI) -> None:
    question = [{"role": "user", "content": "Hi"}]
    stream = client.chat.completions.create(model="m", messages=question, stream=True)  # type: ignore[call-overload]
    chunks = [chunk for chunk in stream if chunk.choices]
    assert sum(chunk.choices[0].delta.content is None for chunk in chunks) > 5
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there."


def test_a_completion_passes_over_chunks_without_text(client: openai.OpenAI) -> None:
    stream = client.completions.create(model="m", prompt="Hi", stream=True)
    texts = [chunk.choices[0].text for chunk in stream if chunk.choices]
    assert texts.count("") > 5
    assert "".join(texts) == "Hello there."


def test_a_response_passes_over_events_of_a_type_of_their_own(client: openai.OpenAI) -> None:
    with client.responses.stream(model="m", input="Hi") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == "Hello there."
    assert kinds.count("keepalive") > 5
