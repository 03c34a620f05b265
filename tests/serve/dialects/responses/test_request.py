"""Requests of the Responses API: what is read of them, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from codex import codex
from scripted import FACTS

from mlx_diffgemma.serve.asked import Chat
from mlx_diffgemma.serve.dialects.fields import fields_of
from mlx_diffgemma.serve.dialects.responses.request import read
from mlx_diffgemma.serve.dialects.routes import RESPONSES
from mlx_diffgemma.serve.refusal import Refusal
from mlx_diffgemma.text.turns import fit_for_template

PNG = b"\x89PNG and more"
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
IMAGE = {"type": "input_image", "image_url": URL, "detail": "auto"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
WEATHER = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
ADD = {"type": "function", "name": "add", "parameters": SCHEMA}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
FORM = {"type": "json_schema", "name": "A", "schema": SCHEMA, "strict": True}
HELLO = {"role": "user", "content": "Hello?"}


def asked(**changes: Any) -> Chat:
    """The question of a request, with changes."""
    body = {"model": "gpt-9", "input": "Hello?", **changes}
    return read(fields_of({k: v for k, v in body.items() if v is not ...}), FACTS)


def turns(*items: Any) -> list[Any]:
    """The turns of some items."""
    return list(asked(input=list(items)).messages)


def output(value: Any, **more: Any) -> dict[str, Any]:
    """An item that answers a call."""
    return {"type": "function_call_output", "call_id": "call_1", "output": value, **more}


def test_a_text_is_a_users_message() -> None:
    chat = asked(instructions="Be brief.", max_output_tokens=64)
    assert chat.messages == ({"role": "system", "content": "Be brief."}, HELLO)
    assert chat.settings.max_tokens == 64
    assert (chat.think, chat.stream, chat.one_call, chat.warnings) == (None, False, False, ())


def test_a_request_of_codex_is_read() -> None:
    chat = read(fields_of(codex()), FACTS)
    assert len(codex()) == 12
    assert chat.stream
    assert chat.one_call
    assert chat.think is True
    assert chat.settings.max_tokens is None
    roles = ["system", "system", "user", "user", "assistant", "tool", "tool"]
    assert [turn["role"] for turn in chat.messages] == roles
    answer = chat.messages[4]
    assert answer["content"] == "I will look."
    assert answer["reasoning_content"] == "List them."
    arguments = [call["function"]["arguments"] for call in answer["tool_calls"]]
    assert arguments == [{"cmd": "ls"}, {"cmd": "pwd"}]
    assert [turn["tool_call_id"] for turn in chat.messages[5:]] == ["call_2", "call_1"]
    assert {turn["name"] for turn in chat.messages[5:]} == {"exec_command"}
    tools = [tool["function"]["name"] for tool in chat.wanted.tools]
    assert tools == ["exec_command", "update_plan"]
    assert [line.split()[0] for line in chat.warnings] == [
        "tools[2]",
        "tools[3]",
        "text.verbosity",
    ]
    fitted = fit_for_template(chat.messages)
    assert fitted[0]["content"].endswith("Sandboxing is on.")
    assert [turn["content"] for turn in fitted[-2:]] == ["a.py\nb.py", "/work"]


def test_what_a_model_said_in_one_go_is_one_turn() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gA"}
    text = {"role": "assistant", "content": "One."}
    told = turns(HELLO, thought, text, CALL, {**text, "content": "Two."}, output("Sunny."), text)
    assert [turn["role"] for turn in told] == ["user", "assistant", "tool", "assistant"]
    assert told[1]["content"] == "One.\n\nTwo."
    assert "reasoning_content" not in told[1]


@pytest.mark.parametrize("kind", ["summary", "content"])
def test_a_thought_that_is_replayed_is_kept(kind: str) -> None:
    parts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    told = turns(HELLO, {"type": "reasoning", "summary": [], kind: parts}, CALL, output(""))
    assert told[1]["reasoning_content"] == "One.\nTwo."


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("Sunny.", "Sunny."),
        (None, ""),
        ("", ""),
        ({"content": "Sunny.", "success": True}, '{"content":"Sunny.","success":true}'),
        ([1, 2], "[1,2]"),
        (3, "3"),
        ([], ""),
        ([{"type": "input_text", "text": "Sunny."}], "Sunny."),
        ([IMAGE], [{"type": "image"}]),
    ],
)
def test_an_output_of_every_shape(value: Any, content: Any) -> None:
    told = turns(HELLO, CALL, output(value))
    assert told[2] == {
        "role": "tool",
        "tool_call_id": "call_1",
        "name": "weather",
        "content": content,
    }


def test_an_output_in_front_of_its_call_has_its_name() -> None:
    assert turns(HELLO, output("Sunny."), CALL)[1]["name"] == "weather"
    assert "name" not in turns(HELLO, output("Sunny."))[1]


def test_a_call_of_a_custom_tool_is_one_with_a_text() -> None:
    call = {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "*** A"}
    answer = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Done."}
    told = turns(HELLO, call, answer)
    function = {"name": "patch", "arguments": {"input": "*** A"}}
    assert told[1]["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert told[2]["name"] == "patch"


def test_images_come_in_the_order_of_the_items() -> None:
    other = {**IMAGE, "image_url": f"data:image/png;base64,{base64.b64encode(b'2').decode()}"}
    text = {"type": "input_text", "text": "Look:"}
    chat = asked(input=[{"role": "user", "content": [text, IMAGE]}, CALL, output([other])])
    assert chat.images == (PNG, b"2")
    assert chat.messages[0]["content"] == [{"type": "text", "text": "Look:"}, {"type": "image"}]


def test_items_that_are_not_known_are_left_out_with_a_line() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    chat = asked(input=[HELLO, search, search])
    assert len(chat.messages) == 1
    assert [line.split(" is not")[0] for line in chat.warnings] == [
        "input[1] and 1 more of type 'web_search_call'"
    ]


@pytest.mark.parametrize(
    ("effort", "think"),
    [
        ("none", False),
        ("minimal", False),
        ("low", True),
        ("xhigh", True),
        (None, None),
    ],
)
def test_effort_turns_thinking_on_and_off(effort: str | None, think: bool | None) -> None:
    assert asked(reasoning={"effort": effort, "summary": "auto"}).think is think


@pytest.mark.parametrize(
    ("choice", "names", "wanted"),
    [
        (None, ["weather", "add"], "auto"),
        ("auto", ["weather", "add"], "auto"),
        ("required", ["weather", "add"], "required"),
        ("none", [], "auto"),
        ({"type": "function", "name": "add"}, ["weather", "add"], "add"),
        ({"type": "function", "function": {"name": "add"}}, ["weather", "add"], "add"),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "add"}, {"type": "web_search"}],
            },
            ["add"],
            "required",
        ),
    ],
)
def test_tool_choice(choice: Any, names: list[str], wanted: str) -> None:
    chat = asked(tools=[WEATHER, ADD], tool_choice=choice)
    assert [tool["function"]["name"] for tool in chat.wanted.tools] == names
    assert chat.wanted.tool_choice == wanted


def test_a_tool_as_chat_completions_have_it_is_one_too() -> None:
    nested = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
    assert asked(tools=[nested]).wanted.tools == asked(tools=[ADD]).wanted.tools


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "text"}, None),
        pytest.param({"type": "json_object"}, {"type": "object"}, marks=pytest.mark.slow),
        (FORM, SCHEMA),
        (None, None),
    ],
)
def test_the_form_of_the_answer(form: Any, schema: Any) -> None:
    assert asked(text={"format": form}).wanted.schema == schema


@pytest.mark.parametrize(
    ("choice", "tools", "word"),
    [("auto", 1, "auto"), ("required", 1, "required"), ("none", 0, "auto")],
)
def test_the_form_of_an_answer_beside_tools(choice: str, tools: int, word: str) -> None:
    chat = asked(text={"format": FORM}, tools=[ADD], tool_choice=choice)
    assert chat.wanted.schema == SCHEMA
    assert (len(chat.wanted.tools), chat.wanted.tool_choice) == (tools, word)
    assert chat.warnings == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.5},
        {"truncation": "auto"},
        {"max_tool_calls": 3},
        {"text": {"verbosity": "low"}},
        {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]},
        {"context_management": [{"type": "compaction"}]},
    ],
)
def test_what_is_not_done_is_told(changes: dict[str, Any]) -> None:
    assert len(asked(**changes).warnings) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"store": True},
        {"metadata": {"a": "b"}},
        {"include": ["reasoning.encrypted_content"]},
        {"previous_response_id": None},
        {"truncation": "disabled"},
        {"service_tier": "flex", "user": "me", "safety_identifier": "me"},
        {"stream_options": {"include_obfuscation": False}},
        {"background": False, "top_logprobs": 0},
    ],
)
def test_what_asks_for_nothing_is_passed_over(changes: dict[str, Any]) -> None:
    assert asked(**changes) == asked()


def test_fields_of_our_own() -> None:
    chat = asked(diffusion={"drafts": True, "mode": "ar"}, seed=3, temperature=0.5)
    assert chat.drafts
    assert (chat.settings.mode, chat.settings.seed, chat.settings.temperature) == ("ar", 3, 0.5)


LONG = {"type": "string", "maxLength": 250}
TEXT = {"properties": {"text": {"type": "string", "maxLength": 200}}}
NOTE = {"type": "function", "name": "note", "parameters": TEXT}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": ...}, "input"),
    ({"input": []}, "input"),
    ({"input": 3}, "input"),
    ({"input": [3]}, "input[0]"),
    ({"input": [{"type": "web_search_call"}]}, "input"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"role": "someone", "content": "a"}]}, "input[0].role"),
    ({"input": [{"type": "message", "content": "a"}]}, "input[0].role"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
    ({"input": [{"id": "msg_1"}]}, "input[0]"),
    ({"input": [{**CALL, "call_id": None}]}, "input[0].call_id"),
    ({"input": [{**CALL, "arguments": "{"}]}, "input[0].arguments"),
    ({"input": [{**CALL, "arguments": "[]"}]}, "input[0].arguments"),
    ({"input": [HELLO, {"type": "function_call_output", "output": ""}]}, "input[1].call_id"),
    ({"instructions": ["Be brief."]}, "instructions"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"conversation": {"id": "conv_1"}}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"background": True}, "background"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"include": ["message.output_text.logprobs"]}, "include"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": "many"}, "max_output_tokens"),
    ({"stream": "yes"}, "stream"),
    ({"reasoning": "high"}, "reasoning"),
    ({"text": "json"}, "text"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ({"text": {"format": {**FORM, "schema": {"not": {}}}}}, "text.format.schema"),
    ({"text": {"format": {**FORM, "schema": {"not": {}}}}, "tools": [ADD]}, "text.format.schema"),
    ({"text": {"format": {**FORM, "schema": LONG}}, "tools": [NOTE]}, "text.format.schema"),
    (
        {"text": {"format": FORM}, "tools": [{**ADD, "parameters": {"properties": 3}}]},
        "tools",
    ),
    ({"tools": [{"name": "add"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tools": [ADD, ADD]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [ADD], "tool_choice": "some"}, "tool_choice"),
    ({"tools": [ADD], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
    ({"tools": [ADD], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ({"tools": [ADD], "tool_choice": {"type": "allowed_tools", "mode": "x"}}, "tool_choice.mode"),
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
    assert RESPONSES.family.names[caught.value.kind].status == 400
    told = RESPONSES.family.body(caught.value)["error"]
    assert told["type"] == "invalid_request_error"
    assert told["param"] == param


PARTS: list[tuple[dict[str, Any], str]] = [
    ({}, "type"),
    ({"type": "input_text"}, "text"),
    ({"type": "input_audio", "data": "a"}, "type"),
    ({"type": "input_file", "file_id": "f"}, "type"),
    ({"type": "input_image"}, "image_url"),
    ({"type": "input_image", "file_id": "f"}, "file_id"),
    ({"type": "input_image", "image_url": "https://a/b.png"}, "image_url"),
    ({"type": "input_image", "image_url": "file:///etc/passwd"}, "image_url"),
    ({"type": "input_image", "image_url": {"url": URL}}, "image_url"),
]


@pytest.mark.parametrize(("part", "place"), PARTS)
def test_a_bad_part_is_refused_at_its_place(part: dict[str, Any], place: str) -> None:
    with pytest.raises(Refusal) as caught:
        asked(input=[{"role": "user", "content": [part]}])
    assert caught.value.param == f"input[0].content[0].{place}"
