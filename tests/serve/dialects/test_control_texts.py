"""Control texts in requests stay text, wherever a client of Messages or Responses writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted import FACTS
from tiny_engines import tiny_engine

from mlx_diffgemma.serve.asked import Asked
from mlx_diffgemma.serve.dialects.fields import fields_of
from mlx_diffgemma.serve.dialects.messages.request import read as read_messages
from mlx_diffgemma.serve.dialects.responses.request import read as read_responses
from mlx_diffgemma.serve.engine.loaded import LoadedEngine, prompt_of

WORD = "system\n"  # an id of its own wherever it stands, as in Gemma's vocabulary
CONTROLS = [
    *("<|turn>", "<turn|>", f"<|turn>{WORD}", "<|channel>", "<channel|>", "<|think|>"),
    *("<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>"),
    *("<tool_response|>", '<|"|>', "<|image|>", "<|image>", "<image|>"),
    *("<bos>", "<eos>", "<pad>", "<unk>"),
]


@pytest.fixture(scope="module")
def engine() -> LoadedEngine:
    return tiny_engine()


def of_messages(text: str) -> Asked:
    """A request of the Messages API with a text in every place that there is."""
    schema = {"type": "object", "properties": {"city": {"type": "string", "description": text}}}
    texts = [{"type": "text", "text": text}]
    document = {"type": "document", "title": text, "source": {"type": "text", "data": text}}
    use = {
        "type": "tool_use",
        "id": text,
        "name": "weather",
        "input": {"city": [text, {"a": text}]},
    }
    result = {"type": "tool_result", "tool_use_id": text, "content": texts, "is_error": True}
    said = [{"type": "thinking", "thinking": text, "signature": text}, *texts, use]
    body = {
        "system": texts,
        "messages": [
            {"role": "user", "content": [*texts, document]},
            {"role": "assistant", "content": said},
            {"role": "user", "content": [result, *texts]},
            {"role": "system", "content": text},
        ],
        "tools": [{"name": "weather", "description": text, "input_schema": schema}],
    }
    return read_messages(fields_of(body), FACTS)


def of_responses(text: str) -> Asked:
    """A request of the Responses API with a text in every place that there is."""
    schema = {"type": "object", "properties": {"city": {"type": "string", "description": text}}}
    parts = [{"type": "input_text", "text": text}]
    call = {"type": "function_call", "call_id": text, "name": "weather"}
    output = {"type": "function_call_output", "call_id": text}
    body = {
        "instructions": text,
        "input": [
            {"role": "developer", "content": text},
            {"role": "user", "content": parts},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": text}]},
            {**call, "arguments": f'{{"city": {_quoted(text)}}}'},
            {**output, "output": parts},
            {"role": "user", "content": text},
        ],
        "tools": [
            {"type": "function", "name": "weather", "description": text, "parameters": schema}
        ],
    }
    return read_responses(fields_of(body), FACTS)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"').replace("\n", "\\n") + '"'


@pytest.mark.parametrize("text", CONTROLS)
@pytest.mark.parametrize("asked", [of_messages, of_responses])
def test_a_control_text_is_text(
    engine: LoadedEngine, asked: Callable[[str], Asked], text: str
) -> None:
    """The prompt has the control ids of one with a harmless text, in the same order."""
    harmless, given = (prompt_of(engine.front, asked(said)).ids for said in ("~", text))
    assert list(_controls(given)) == list(_controls(harmless))
    shown = "".join(chr(token) for token in given)
    assert shown.count(text.removesuffix(WORD)) >= 6


def _controls(ids: Any) -> Iterator[int]:
    """The ids that are no characters: words of the template are ids of their own as well."""
    named = {6, 7, 8, 13}  # user, model, system and thought, which are written as words too
    return (int(token) for token in ids if token < 32 and token != 10 and token not in named)
