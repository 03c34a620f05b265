"""Requests of the Messages API: what is read of them, and what is refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from claude_code import TOOLS, claude_code
from scripted import FACTS

from mlx_diffgemma.serve.asked import Chat
from mlx_diffgemma.serve.dialects.fields import fields_of
from mlx_diffgemma.serve.dialects.messages.request import read
from mlx_diffgemma.serve.dialects.routes import MESSAGES
from mlx_diffgemma.serve.refusal import Refusal
from mlx_diffgemma.text.turns import fit_for_template

PNG = b"\x89PNG and more"
IN_BASE64 = base64.b64encode(PNG).decode()
IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": IN_BASE64},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
WEATHER = {"name": "weather", "description": "Of a city.", "input_schema": SCHEMA}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}


def asked(**changes: Any) -> Chat:
    """The question of a request, with changes."""
    body = {
        "model": "claude-opus-9",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Hello?"}],
        **changes,
    }
    return read(fields_of({k: v for k, v in body.items() if v is not ...}), FACTS)


def said(*content: Any, role: str = "user") -> Chat:
    """The question of one message with some blocks."""
    return asked(messages=[{"role": role, "content": list(content)}])


def answering(**result: Any) -> dict[str, Any]:
    """The tool's message that a result becomes."""
    block = {"type": "tool_result", "tool_use_id": "toolu_1", **result}
    messages = [{"role": "assistant", "content": [USE]}, {"role": "user", "content": [block]}]
    return dict(asked(messages=messages).messages[1])


def test_a_plain_request() -> None:
    chat = asked()
    assert chat.messages == ({"role": "user", "content": "Hello?"},)
    assert chat.settings.max_tokens == 64
    assert (chat.think, chat.stream, chat.drafts, chat.warnings) == (None, False, False, ())


def test_a_request_of_claude_code_is_read() -> None:
    chat = read(fields_of(claude_code()), FACTS)
    assert chat.stream
    assert chat.think is True
    system, question, answer, second, first, rest, late = chat.messages
    assert system["content"].startswith("You are Claude Code.\n\nBe brief.")
    assert [part["text"] for part in question["content"]][1] == "Read a.py"
    assert answer["content"] == "I read it."
    assert answer["reasoning_content"] == "A file."
    assert [call["id"] for call in answer["tool_calls"]] == ["toolu_1", "toolu_2"]
    assert (second["tool_call_id"], second["name"]) == ("toolu_2", "Read")
    assert second["content"][0]["text"] == "Error:"
    assert first["content"] == "1\tx = 1"
    assert rest == {"role": "user", "content": "And now?"}
    assert late == {"role": "system", "content": "The user opened b.py."}
    assert len(chat.wanted.tools) == len(TOOLS) - 1
    assert [line.split()[0] for line in chat.warnings] == [
        f"tools[{len(TOOLS) - 1}]",
        "output_config.effort",
        "context_management",
    ]
    fit_for_template(chat.messages)


def test_two_requests_of_claude_code_begin_alike() -> None:
    """The line that it sends first differs, and would spoil every prefix that is kept."""
    first, second = (read(fields_of(claude_code(nonce)), FACTS) for nonce in ("1", "2"))
    assert first == second
    text = f"{claude_code()['system'][0]['text']}\nYou are Claude Code."
    assert asked(system=text).messages[0]["content"] == "You are Claude Code."


@pytest.mark.parametrize(
    ("given", "system"),
    [
        ("Be brief.", "Be brief."),
        ([{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}], "One.\n\nTwo."),
        ([{"type": "text", "text": " "}, {"type": "text", "text": "Two."}], "Two."),
    ],
)
def test_a_system_text_is_one_whatever_its_blocks(given: Any, system: str) -> None:
    assert asked(system=given).messages[0] == {"role": "system", "content": system}


@pytest.mark.parametrize("given", ["", [], ..., None])
def test_no_system_text_is_no_message(given: Any) -> None:
    assert [turn["role"] for turn in asked(system=given).messages] == ["user"]


def test_images_come_in_the_order_of_the_messages() -> None:
    """A result comes first in its message, wherever its block stands."""
    url = f"data:image/png;base64,{base64.b64encode(b'2').decode()}"
    other = {"type": "image", "source": {"type": "url", "url": url}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [other]}
    chat = asked(
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Look:"}, IMAGE]},
            {"role": "assistant", "content": [USE]},
            {"role": "user", "content": [IMAGE, result]},
        ]
    )
    assert chat.images == (PNG, b"2", PNG)
    assert [turn["role"] for turn in chat.messages] == ["user", "assistant", "tool", "user"]
    assert chat.messages[2]["content"] == [{"type": "image"}]


@pytest.mark.parametrize(
    ("result", "content"),
    [
        ({"content": "Sunny."}, "Sunny."),
        ({"content": [{"type": "text", "text": "Sunny."}]}, "Sunny."),
        ({"content": None}, ""),
        ({}, ""),
        ({"content": []}, ""),
        ({"content": "", "is_error": True}, "Error:"),
        ({"is_error": True}, "Error:"),
        ({"content": "No.", "is_error": True}, ["Error:", "No."]),
        ({"content": "Yes.", "is_error": False}, "Yes."),
    ],
)
def test_a_result_of_every_shape(result: dict[str, Any], content: str | list[str]) -> None:
    turn = answering(**result)
    assert (turn["role"], turn["tool_call_id"], turn["name"]) == ("tool", "toolu_1", "weather")
    found = turn["content"]
    assert (found if isinstance(found, str) else [part["text"] for part in found]) == content


def test_a_text_document_is_text_and_a_pdf_is_refused() -> None:
    document = {"type": "document", "title": "Notes", "source": {"type": "text", "data": "One."}}
    parts = said(document, {"type": "text", "text": "Sum it up."}).messages[0]["content"]
    assert [part["text"] for part in parts] == ["Notes", "One.", "Sum it up."]
    inner = {"type": "content", "content": [{"type": "text", "text": "Two."}]}
    assert said({"type": "document", "source": inner}).messages[0]["content"] == "Two."
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    with pytest.raises(Refusal, match="no PDF") as caught:
        said({"type": "document", "source": pdf})
    assert caught.value.param == "messages[0].content[0].source.type"


def test_blocks_that_are_not_known_are_left_out_with_a_line() -> None:
    used = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    chat = said(used, used, found, {"type": "text", "text": "Found."}, role="assistant")
    assert chat.messages[0]["content"] == "Found."
    assert [line.split(" is ")[0] for line in chat.warnings] == [
        "messages[0]",
        "messages[0].content[0] and 1 more of type 'server_tool_use'",
        "messages[0].content[2] of type 'web_search_tool_result'",
    ]


def test_an_answer_that_is_begun_for_the_model_is_not_gone_on_with() -> None:
    begun = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "{"}]
    (line,) = asked(messages=begun).warnings
    assert line.startswith("messages[1]")


def test_a_message_of_nothing_that_is_known_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        said({"type": "container_upload", "file_id": "f"})
    assert caught.value.param == "messages[0].content"


@pytest.mark.parametrize(
    ("thinking", "think", "lines"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, True, 1),
        ({"type": "adaptive"}, True, 0),
        ({"type": "adaptive", "display": "omitted"}, True, 1),
        ({"type": "disabled"}, False, 0),
        ({"type": "between_tools"}, None, 1),
        (None, None, 0),
    ],
)
def test_thinking(thinking: Any, think: bool | None, lines: int) -> None:
    chat = asked(thinking=thinking)
    assert chat.think is think
    assert len(chat.warnings) == lines


@pytest.mark.parametrize(
    ("choice", "wanted", "one"),
    [
        (None, "auto", False),
        ({"type": "auto", "disable_parallel_tool_use": True}, "auto", True),
        ({"type": "any"}, "required", False),
        ({"type": "tool", "name": "weather"}, "weather", False),
    ],
)
def test_tool_choice(choice: Any, wanted: str, one: bool) -> None:
    chat = asked(tools=[WEATHER], tool_choice=choice)
    assert chat.wanted.tool_choice == wanted
    assert chat.one_call is one
    function = chat.wanted.tools[0]["function"]
    assert (function["name"], function["description"]) == ("weather", "Of a city.")
    assert function["parameters"]["properties"] == SCHEMA["properties"]


def test_no_tools_are_wanted_with_none() -> None:
    assert asked(tools=[WEATHER], tool_choice={"type": "none"}).wanted.tools == ()


@pytest.mark.parametrize(
    "given",
    [
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"output_format": {"type": "json_schema", "schema": SCHEMA}},
    ],
)
def test_a_schema_is_the_form_of_the_answer(given: dict[str, Any]) -> None:
    assert asked(**given).wanted.schema == SCHEMA


@pytest.mark.parametrize(
    ("choice", "tools", "word"),
    [("auto", 1, "auto"), ("any", 1, "required"), ("none", 0, "auto")],
)
def test_a_schema_beside_tools(choice: str, tools: int, word: str) -> None:
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    chat = asked(output_config=form, tools=[WEATHER], tool_choice={"type": choice})
    assert chat.wanted.schema == SCHEMA
    assert (len(chat.wanted.tools), chat.wanted.tool_choice) == (tools, word)
    assert chat.warnings == ()


def test_settings_that_a_mode_does_not_have_are_told() -> None:
    chat = asked(temperature=0.5, top_k=3)
    assert (chat.settings.temperature, chat.settings.top_k) == (None, None)
    assert len(chat.warnings) == 1
    writing = asked(temperature=0.5, top_k=3, diffusion={"mode": "ar"})
    assert (writing.settings.temperature, writing.settings.top_k) == (0.5, 3)
    assert writing.warnings == ()
    facts = replace(FACTS, mode="ar")
    assert read(fields_of({**_body(), "temperature": 0.5}), facts).settings.temperature == 0.5


def test_fields_of_our_own() -> None:
    chat = asked(diffusion={"drafts": True, "steps": 8}, seed=3, stop_sequences=["END"])
    assert chat.drafts
    assert (chat.settings.max_denoising_steps, chat.settings.seed) == (8, 3)
    assert chat.settings.stop == ("END",)


LONG = {"type": "string", "maxLength": 250}
TEXT = {"properties": {"text": {"type": "string", "maxLength": 200}}}
NOTE = {"name": "note", "input_schema": TEXT}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": ...}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hello?"}, "messages"),
    ({"messages": ["Hello?"]}, "messages[0]"),
    ({"messages": [{"content": "Hello?"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "Hello?"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["Hello?"]}]}, "messages[0].content[0]"),
    ({"system": 3}, "system"),
    ({"system": [IMAGE]}, "system[0].type"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"stream": "yes"}, "stream"),
    ({"stop_sequences": [3]}, "stop_sequences"),
    ({"stop_sequences": [""]}, "stop_sequences"),
    ({"thinking": "adaptive"}, "thinking"),
    ({"thinking": {}}, "thinking.type"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
    ({"tools": [WEATHER, WEATHER]}, "tools"),
    ({"tool_choice": {"type": "any"}}, "tool_choice.type"),
    ({"tool_choice": "any"}, "tool_choice"),
    ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
    ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}},
        "output_config.format.schema",
    ),
    ({"output_format": {"type": "json_schema", "schema": {"not": {}}}}, "output_format.schema"),
    (
        {"output_format": {"type": "json_schema", "schema": {"not": {}}}, "tools": [WEATHER]},
        "output_format.schema",
    ),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": LONG}}, "tools": [NOTE]},
        "output_config.format.schema",
    ),
    (
        {
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
            "tools": [{**WEATHER, "input_schema": {"properties": {"a": {"not": {}}}}}],
        },
        "tools",
    ),
    ({"diffusion": {"mode": "fast"}}, "diffusion.mode"),
]


@pytest.mark.parametrize(("changes", "param"), REFUSED)
def test_a_bad_request_is_refused_in_the_field_that_is_wrong(
    changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(Refusal) as caught:
        asked(**changes)
    assert caught.value.kind == "invalid"
    assert caught.value.param == param
    assert "\n" not in str(caught.value)
    assert MESSAGES.family.names[caught.value.kind].status == 400
    assert MESSAGES.family.body(caught.value) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": str(caught.value)},
    }


@pytest.mark.parametrize(
    "thread", [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}]
)
def test_a_thread_is_refused_with_the_code_that_clients_look_for(thread: dict[str, str]) -> None:
    with pytest.raises(Refusal) as caught:
        asked(thread=thread)
    assert caught.value.param == "thread"
    details = MESSAGES.family.body(caught.value)["error"]["details"]
    assert details == {"error_code": "thread_unsupported_request"}


BLOCKS: list[tuple[dict[str, Any], str]] = [
    ({}, "type"),
    ({"type": "text"}, "text"),
    ({"type": "image"}, "source"),
    ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "source.type"),
    ({"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}, "source.url"),
    ({"type": "image", "source": {"type": "url", "url": "/etc/passwd"}}, "source.url"),
    ({"type": "image", "source": {"type": "base64", "data": "%"}}, "source.data"),
    ({"type": "document", "source": {"type": "url", "url": "https://a"}}, "source.type"),
    ({"type": "tool_result", "content": "Sunny."}, "tool_use_id"),
]


@pytest.mark.parametrize(("block", "place"), BLOCKS)
def test_a_bad_block_is_refused_at_its_place(block: dict[str, Any], place: str) -> None:
    with pytest.raises(Refusal) as caught:
        said(block)
    assert caught.value.param == f"messages[0].content[0].{place}"


def _body() -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hello?"}]}
