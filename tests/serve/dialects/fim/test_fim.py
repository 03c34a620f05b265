"""Gaps in the form of Mistral's API, as Continue asks for them and reads them."""

import json
from typing import Any
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import pytest
from openai.types.chat import ChatCompletionChunk
from openai_kinds import EDITOR, GAPS, asked, spoken
from transcripts import ENVELOPE, stored, whole
from waiting import SECONDS

from mlx_diffgemma.serve.dialects.routes import COMPLETIONS, FIM

DONE = sorted(set(GAPS) - {"failure"})


@pytest.mark.parametrize("kind", GAPS)
def test_a_stream_is_what_it_was(kind):
    assert spoken("fim", kind).encode() == stored("fim", kind).read_bytes()


def test_no_transcript_is_of_nothing():
    assert {path.stem for path in stored("fim", "gap").parent.iterdir()} == set(GAPS)


def chunks(stream: str) -> list[dict[str, Any]]:
    """The chunks of a stream; AssertionError where it does not end as it should."""
    *events, last = stream.removesuffix("\n\n").split("\n\n")
    assert last == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def inserted(stream: str) -> str:
    """The text that Continue puts into a file: of the first choice of every chunk."""
    return "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks(stream))


@pytest.mark.parametrize("kind", sorted(set(DONE) - {"usage"}))
def test_every_chunk_has_a_text_and_the_body_has_all_of_it(kind):
    stream = spoken("fim", kind)
    for chunk in chunks(stream):
        ChatCompletionChunk.model_validate_json(json.dumps(chunk), strict=True)
    body, steps = GAPS[kind]
    said = FIM.encoder(ENVELOPE, asked(FIM, body)).whole(whole(steps))
    read = said["choices"][0]
    assert read["message"]["content"] == inserted(stream)
    assert read["finish_reason"] == chunks(stream)[-1]["choices"][0]["finish_reason"]


def test_a_question_is_that_of_a_completion():
    assert asked(FIM, EDITOR) == asked(COMPLETIONS, EDITOR)


def test_a_failure_ends_a_stream_without_its_mark():
    assert "error" in json.loads(spoken("fim", "failure").split("\n\n")[-2].removeprefix("data: "))
    assert "[DONE]" not in spoken("fim", "failure")


def test_a_gap_is_filled_as_an_editor_asks(server):
    """Continue sends its fields and headers so; its base URL ends with a slash."""
    body = {**EDITOR, "prompt": "A lemon is ", "suffix": ".", "seed": 1}
    headers = {"Content-Type": "application/json", "x-api-key": "any"}
    url = urljoin(f"{server.url}/v1/", "fim/completions")
    with urlopen(Request(url, json.dumps(body).encode(), headers), timeout=SECONDS) as reply:
        stream = reply.read().decode()
    assert inserted(stream) == "yellow"
    assert "temperature" in chunks(stream)[-1]["x_warnings"][0]
