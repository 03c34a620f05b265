"""Streams of completions, byte for byte, and what clients make of them."""

import json

import pytest
from openai.types import Completion
from openai_kinds import COMPLETION, asked, spoken
from transcripts import ENVELOPE, stored, whole

from mlx_diffgemma.serve.dialects.routes import COMPLETIONS

DONE = sorted(set(COMPLETION) - {"failure"})


@pytest.mark.parametrize("kind", COMPLETION)
def test_a_stream_is_what_it_was(kind):
    assert spoken("completions", kind).encode() == stored("completions", kind).read_bytes()


def test_no_transcript_is_of_nothing():
    names = {path.stem for path in stored("completions", "plain").parent.iterdir()}
    assert names == set(COMPLETION)


def events(kind):
    lines = spoken("completions", kind).split("\n\n")
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


@pytest.mark.parametrize("kind", DONE)
def test_the_body_says_what_the_stream_says(kind):
    *chunks, last = events(kind)
    for chunk in chunks:  # the API's chunks lack a finish until the last, its type does not say so
        assert json.loads(chunk)["object"] == "text_completion"
    body, steps = COMPLETION[kind]
    said = COMPLETIONS.encoder(ENVELOPE, asked(COMPLETIONS, body)).whole(whole(steps))
    read = Completion.model_validate_json(json.dumps(said), strict=True)
    choices = [choice for chunk in map(json.loads, chunks) for choice in chunk["choices"]]
    assert last == "[DONE]"
    assert read.choices[0].text == "".join(choice["text"] for choice in choices)
    assert read.choices[0].finish_reason == choices[-1]["finish_reason"]


def test_a_failure_ends_a_stream_without_its_mark():
    assert "error" in json.loads(events("failure")[-1])


def test_a_stop_text_cuts_a_gap_across_what_is_said():
    texts = [
        choice["text"]
        for event in events("gap_cut")[:-1]
        for choice in json.loads(event)["choices"]
    ]
    assert "".join(texts) == " a cat"
    assert json.loads(events("gap_cut")[-2])["x_holes"] == [" a cat"]
    assert json.loads(events("gap_cut")[-2])["x_stop"] == ", i"
