"""Control texts in chat completions, completions and token counts: each is text in every place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted import FACTS
from tiny_engines import tiny_engine

from mlx_diffgemma.serve.asked import Asked, Infill
from mlx_diffgemma.serve.dialects.chat.request import read as read_chat
from mlx_diffgemma.serve.dialects.completions.request import read as read_completion
from mlx_diffgemma.serve.dialects.fields import fields_of
from mlx_diffgemma.serve.engine.loaded import LoadedEngine, prompt_of

INNOCENT = "~"


@pytest.fixture(scope="module")
def engine() -> LoadedEngine:
    return tiny_engine()


def of_chat(text: str) -> Asked:
    """A request with a text in every place that there is; keys of schemas, too."""
    parts = [{"type": "text", "text": text}, {"type": "text", "text": f"a{text}"}]
    schema = {"type": "object", "properties": {f"k{text}": {"type": "string", "enum": [text]}}}
    about = {"name": "weather", "description": text, "parameters": schema}
    arguments = json.dumps({f"k{text}": text, "b": [{"c": text}]})
    call = {"name": "weather", "arguments": arguments}
    said = {"role": "assistant", "content": f"b{text}", "reasoning_content": text}
    result = {"role": "tool", "tool_call_id": text}
    body = {
        "messages": [
            {"role": "system", "content": text},
            {"role": "user", "content": parts, "name": text},
            {**said, "tool_calls": [{"id": text, "type": "function", "function": call}]},
            {**result, "content": parts},
            {"role": "developer", "content": f"c{text}"},
            {"role": "user", "content": text},
        ],
        "tools": [{"type": "function", "function": about}],
    }
    return read_chat(fields_of(body), FACTS)


def controls(engine: LoadedEngine, ids: Any) -> list[int]:
    """The control ids among some."""
    return [token for token in ids if token in engine.front.tokenizer.control_ids]


def test_a_control_text_of_a_chat_is_text(engine: LoadedEngine) -> None:
    tokenizer = engine.front.tokenizer
    harmless = prompt_of(engine.front, of_chat(INNOCENT)).ids
    for text in sorted(tokenizer.control.texts):
        ids = prompt_of(engine.front, of_chat(text)).ids
        assert controls(engine, ids) == controls(engine, harmless)
        assert tokenizer.decode(ids).count(text) >= 10
        assert engine.count(of_chat(text)) == len(ids)


def test_a_control_text_of_a_completion_is_text(engine: LoadedEngine) -> None:
    tokenizer, bos = engine.front.tokenizer, engine.front.tokenizer.id_of("<bos>")
    for text in sorted(tokenizer.control.texts):
        asked = read_completion(fields_of({"prompt": f"{text}a"}), FACTS)
        ids = prompt_of(engine.front, asked).ids
        assert (controls(engine, ids), tokenizer.decode(ids)) == ([bos], f"{text}a")


@pytest.mark.parametrize(
    "body",
    [
        lambda t: {"prompt": f"{t}a", "suffix": f"{t}b", "max_tokens": 2},
        lambda t: {"prompt": t, "diffusion": {"template": f"{t}[[2]]b{t}"}},
    ],
)
def test_a_control_text_around_a_gap_is_text(engine: LoadedEngine, body: Any) -> None:
    tokenizer = engine.front.tokenizer
    for text in sorted(tokenizer.control.texts):
        asked, same = (read_completion(fields_of(body(each)), FACTS) for each in (text, INNOCENT))
        assert isinstance(asked, Infill)
        ids = prompt_of(engine.front, asked).ids
        assert controls(engine, ids) == controls(engine, prompt_of(engine.front, same).ids)
        found = engine.prepare(asked).question.checked.template.texts
        assert [controls(engine, each) for each in found] == [[], []]
        assert "".join(map(tokenizer.decode, found)).count(text) == 2
