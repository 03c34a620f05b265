"""Requests of chat completions: what is asked by them, and one clear error for each bad one."""

import base64
import json

import pytest
from facts import assert_says
from openai_kinds import HELLO, JSON_SCHEMA
from scripted import FACTS
from transcripts import SCHEMA, WEATHER

from mlx_diffgemma.serve.dialects.chat.request import read
from mlx_diffgemma.serve.dialects.content import MOST_IMAGE_BYTES, MOST_IMAGES
from mlx_diffgemma.serve.dialects.fields import fields_of
from mlx_diffgemma.serve.engine.engine import Facts
from mlx_diffgemma.serve.refusal import Refusal

AR = Facts("scripted", 2048, 64, 1_700_000_000, sees=False, mode="ar")
PNG = b"\x89PNG\r\n\x1a\nand so on"
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
ADD = {"type": "function", "function": {"name": "add", "parameters": {}}}


def asked(facts=FACTS, **changes):
    return read(fields_of({**HELLO, **changes}), facts)


def messages(*turns):
    return asked(messages=list(turns)).messages


def user(content):
    return {"role": "user", "content": content}


def image(url=URL, **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


def test_the_least_that_can_be_asked():
    chat = asked()
    assert chat.messages == (user("Hello?"),)
    assert chat.settings.max_tokens is None
    assert (chat.think, chat.stream, chat.drafts, chat.usage) == (None, False, False, False)
    assert chat.warnings == ()


def test_roles_keep_their_order():
    said = messages(
        {"role": "system", "content": "Be short."},
        {"role": "developer", "content": [{"type": "text", "text": "In capitals."}]},
        user("Hi"),
        {"role": "assistant", "content": "HELLO", "refusal": None},
        {"role": "system", "content": "No capitals."},
        user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
    )
    assert [turn["role"] for turn in said] == [
        *("system", "system", "user", "assistant", "system", "user")
    ]
    assert said[1]["content"] == "In capitals."
    assert said[-1]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def call(key, name, arguments):
    return {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_calls_and_results_of_tools():
    said = messages(
        user("Weather?"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                call("c1", "weather", '{"city": "Paris", "days": [1]}'),
                call("c2", "add", ""),
                call("c3", "add", {"a": 1}),
            ],
        },
        {"role": "tool", "tool_call_id": "c2", "content": None},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sun"}]},
    )
    _, assistant, second, first = said
    arguments = [made["function"]["arguments"] for made in assistant["tool_calls"]]
    assert arguments == [{"city": "Paris", "days": [1]}, {}, {"a": 1}]
    assert assistant["content"] == ""
    assert (second["name"], second["content"]) == ("add", "")
    assert (first["name"], first["content"]) == ("weather", "sun")


def test_the_old_form_of_a_call_in_history():
    _, assistant, result = messages(
        user("Weather?"),
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "sun"},
    )
    assert assistant["tool_calls"][0]["function"] == {"name": "f", "arguments": {}}
    assert (result["role"], result["name"], result["content"]) == ("tool", "f", "sun")
    assert result["tool_call_id"] == assistant["tool_calls"][0]["id"]


def test_a_result_without_a_call_is_said():
    chat = asked(messages=[user("Hi"), {"role": "tool", "tool_call_id": "x", "content": "1"}])
    assert_says(chat.warnings[0], "messages[1]")


def test_an_answer_that_would_have_to_go_on_is_said():
    chat = asked(messages=[user("Hi"), {"role": "assistant", "content": "Hel"}])
    assert_says(chat.warnings[0], "last message ... assistant")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_an_earlier_thought_is_read_from_either_field(name):
    said = messages(user("Hi"), {"role": "assistant", "content": "Yes", name: "Hm."}, user("?"))
    assert said[1]["reasoning_content"] == "Hm."


def test_images_in_their_order_also_of_results():
    other = f"data:image/jpeg;base64,{base64.b64encode(b'other').decode()}"
    chat = asked(
        messages=[
            user([{"type": "text", "text": "What?"}, image(), image(other)]),
            {"role": "assistant", "tool_calls": [call("c1", "shot", "{}")]},
            {"role": "tool", "tool_call_id": "c1", "content": [image()]},
            user([{"type": "image_url", "image_url": URL}]),
        ]
    )
    assert chat.images == (PNG, b"other", PNG, PNG)
    assert chat.messages[0]["content"][1:] == [{"type": "image"}, {"type": "image"}]
    assert chat.messages[2]["content"] == [{"type": "image"}]


def test_details_of_images_are_said_to_be_unused():
    detailed = asked(messages=[user([image(detail="high")])])
    assert_says(detailed.warnings[0], "messages[0].content[0].image_url.detail", "high")
    assert asked(messages=[user([image(detail="auto")])]).warnings == ()


def test_data_urls_with_blanks_and_parameters():
    data = base64.b64encode(PNG).decode()
    broken = f" DATA:image/png;name=a.png;base64,{data[:4]}\n{data[4:]}\n"
    assert asked(messages=[user([image(broken)])]).images == (PNG,)


def test_settings():
    chat = asked(
        max_completion_tokens=9,
        max_tokens=9,
        seed=5,
        stop=["a", "b"],
        diffusion={
            "drafts": True,
            "steps": 4,
            "entropy_bound": 0.5,
            "t_min": 0.1,
            "t_max": 1,
            "stability": 0,
            "confidence": 0.25,
            "image_tokens": 70,
        },
    )
    settings = chat.settings
    assert (settings.max_tokens, settings.seed, settings.stop) == (9, 5, ("a", "b"))
    assert (settings.max_denoising_steps, settings.entropy_bound) == (4, 0.5)
    assert (settings.t_min, settings.t_max) == (0.1, 1)
    assert (settings.stability_threshold, settings.confidence_threshold) == (0, 0.25)
    assert (chat.drafts, chat.image_tokens, settings.mode) == (True, 70, "diffusion")
    assert chat.warnings == ()


def test_words_for_no_limit_and_any_seed():
    assert asked(max_tokens=-1, seed=-1).settings == asked().settings


@pytest.mark.parametrize("limit", [2**31 - 1, 2**31, 2**53 - 1, 10**30, 1e300])
def test_a_limit_that_no_context_holds_is_none_to_worry_about(limit: float) -> None:
    """JavaScript's largest safe number, for one."""
    assert asked(max_tokens=limit).settings.max_tokens == 2**31 - 1


TOKENS = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1}


def test_sampling_of_tokens_is_said_to_be_unused_in_mode_diffusion():
    chat = asked(**TOKENS)
    assert chat.settings.temperature is None
    assert_says(chat.warnings[0], "temperature, top_p, top_k, min_p ... mode diffusion")


@pytest.mark.parametrize("facts", [FACTS, AR])
def test_sampling_of_tokens_is_used_in_mode_ar(facts):
    chat = asked(facts, **TOKENS, **({} if facts is AR else {"diffusion": {"mode": "ar"}}))
    settings = chat.settings
    assert (settings.temperature, settings.top_p, settings.top_k, settings.min_p) == (
        *(0.5, 0.9, 3, 0.1),
    )
    assert (settings.mode, chat.warnings) == ("ar", ())


def test_what_is_not_done_is_said():
    chat = asked(
        frequency_penalty=1,
        presence_penalty=0,
        repetition_penalty=1.5,
        logit_bias={"5": 1},
        store=True,
        prediction={"type": "content", "content": "x"},
        verbosity="low",
        web_search_options={},
        reasoning_effort="high",
        diffusion={"drfats": True},
    )
    starts = [line.split()[0] for line in chat.warnings]
    assert starts == [
        *("frequency_penalty", "repetition_penalty", "logit_bias", "diffusion"),
        *("store", "prediction", "verbosity", "web_search_options", "reasoning_effort"),
    ]


def test_what_asks_for_nothing_is_not_mentioned():
    nothing = asked(
        n=1,
        logprobs=False,
        top_logprobs=0,
        logit_bias={},
        frequency_penalty=0.0,
        store=False,
        user="me",
        metadata={"a": "b"},
        service_tier="auto",
        tools=[],
        tool_choice="auto",
        response_format={"type": "text"},
        modalities=["text"],
        stop=None,
        whatever=[1],
        stream_options={"include_obfuscation": False},
    )
    assert nothing == asked()


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, False),
        ({"reasoning_effort": "low"}, True),
        ({"reasoning_effort": "xhigh"}, True),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {}}, None),
        (
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": False}},
            False,
        ),
    ],
)
def test_thinking(fields, think):
    assert asked(**fields).think is think


def test_tools_are_declared_as_templates_take_them():
    wanted = asked(tools=[WEATHER, ADD]).wanted
    assert wanted.tools[0]["function"] == WEATHER["function"]
    assert wanted.tools[1]["function"] == {
        "name": "add",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }
    assert wanted.tool_choice == "auto"


NAMED = {"type": "function", "function": {"name": "add"}}
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [NAMED]},
}


@pytest.mark.parametrize(
    ("choice", "names", "expected"),
    [
        ("auto", ["weather", "add"], "auto"),
        ("required", ["weather", "add"], "required"),
        (NAMED, ["weather", "add"], "add"),
        ("none", [], "auto"),
        (ALLOWED, ["add"], "required"),
    ],
)
def test_the_choice_among_tools(choice, names, expected):
    wanted = asked(tools=[WEATHER, ADD], tool_choice=choice).wanted
    assert [tool["function"]["name"] for tool in wanted.tools] == names
    assert wanted.tool_choice == expected


def test_strict_tools_are_held_to_their_schemas_only_where_one_must_be_called():
    strict = {"type": "function", "function": {**ADD["function"], "strict": True}}
    assert_says(asked(tools=[WEATHER, strict]).warnings[0], "strict ... tool_choice")
    assert asked(tools=[strict], tool_choice="required").warnings == ()
    assert asked(tools=[strict], tool_choice="none").warnings == ()
    assert asked(tools=[ADD]).warnings == ()


def test_only_the_first_call():
    assert asked(tools=[ADD], parallel_tool_calls=False).one_call
    assert not asked(tools=[ADD], parallel_tool_calls=True).one_call
    assert not asked(tools=[ADD]).one_call


def test_forms():
    assert asked(response_format=JSON_SCHEMA).wanted.schema == SCHEMA
    assert asked(response_format={"type": "json_object"}).wanted.schema == {"type": "object"}
    assert asked(tools=[ADD], tool_choice="none", response_format=JSON_SCHEMA).wanted.schema


@pytest.mark.parametrize(
    ("choice", "names", "word"),
    [
        ({}, ["weather", "add"], "auto"),
        ({"tool_choice": "required"}, ["weather", "add"], "required"),
        ({"tool_choice": "none"}, [], "auto"),
    ],
)
def test_a_form_beside_tools(choice, names, word):
    tools = [{**WEATHER, "function": {**WEATHER["function"], "strict": True}}, ADD]
    chat = asked(tools=tools, response_format=JSON_SCHEMA, **choice)
    assert chat.wanted.schema == SCHEMA
    assert [tool["function"]["name"] for tool in chat.wanted.tools] == names
    assert (chat.wanted.tool_choice, chat.warnings) == (word, ()), "calls are held, strict is used"


def schema(**told):
    return {"type": "json_schema", "json_schema": {"name": "A", "schema": told}}


def part(**told):
    return {"messages": [user([told])]}


def tool(**told):
    return {"tools": [{"type": "function", "function": told}]}


FORMED = {"response_format": JSON_SCHEMA}
TEXT = {"type": "string", "maxLength": 250}
SHORTER = {"properties": {"text": {"type": "string", "maxLength": 200}}}
LONG = {"properties": {"text": {"type": "string", "maxLength": 400}}}
BIG = "A" * (4 * (MOST_IMAGE_BYTES // 3 + 2))
RECURSIVE = json.loads("[" * 800 + "]" * 800)
BAD = [
    ({"model": 5}, "model", "5 ... a string"),
    ({"messages": None}, "messages", "None ... at least one"),
    ({"messages": []}, "messages", "at least one"),
    ({"messages": "Hi"}, "messages", "'Hi' ... a list"),
    ({"messages": ["Hi"]}, "messages[0]", "'Hi' ... an object"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role", "missing"),
    ({"messages": [{"role": "bot", "content": ""}]}, "messages[0].role", "'bot' ... assistant"),
    ({"messages": [user(None)]}, "messages[0].content", "None ... a string"),
    ({"messages": [user(7)]}, "messages[0].content", "7"),
    ({"messages": [user(["Hi"])]}, "messages[0].content[0]", "'Hi' ... an object"),
    (part(text="Hi"), "messages[0].content[0].type", "missing ... text or image_url"),
    (part(type="text"), "messages[0].content[0].text", "missing"),
    (part(type="input_audio"), "messages[0].content[0].type", "'input_audio' ... image_url"),
    (part(type="file", file={}), "messages[0].content[0].type", "'file'"),
    (part(type=[]), "messages[0].content[0].type", "[]"),
    (part(**image("https://a.org/b.png")), "messages[0].content[0].image_url.url", "fetches"),
    (part(**image("HTTP://a.org/b.png")), "messages[0].content[0].image_url.url", "fetches"),
    (part(**image("file:///etc/passwd")), "messages[0].content[0].image_url.url", "opens no file"),
    (part(**image("/etc/passwd")), "messages[0].content[0].image_url.url", "opens no file"),
    (part(**image("../a.png")), "messages[0].content[0].image_url.url", "opens no file"),
    (part(**image("data:image/png,abc")), "messages[0].content[0].image_url.url", "base64"),
    (part(**image("data:text/plain;base64,YQ==")), "messages[0].content[0].image_url.url", "text"),
    (part(**image("data:image/png;base64,")), "messages[0].content[0].image_url.url", "empty"),
    (part(**image("data:image/png;base64,?")), "messages[0].content[0].image_url.url", "base64"),
    (part(**image("data:image/png;base64,ü")), "messages[0].content[0].image_url.url", "base64"),
    (part(**image(f"{URL[:22]}{BIG}")), "messages[0].content[0].image_url.url", "20 MiB"),
    (part(type="image_url"), "messages[0].content[0].image_url", "missing"),
    (part(type="image_url", image_url={}), "messages[0].content[0].image_url.url", "missing"),
    (
        {"messages": [user([image()] * (MOST_IMAGES + 1))]},
        f"messages[0].content[{MOST_IMAGES}].image_url.url",
        f"{MOST_IMAGES + 1} ... {MOST_IMAGES}",
    ),
    (
        {"messages": [{"role": "system", "content": [image()]}]},
        "messages[0].content[0].type",
        "'image_url' ... text",
    ),
    ({"messages": [{"role": "tool", "content": "1"}]}, "messages[0].tool_call_id", "missing"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
        "messages[0].tool_calls[0].function",
        "missing",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [call("a", "f", "{a: 1}")]}]},
        "messages[0].tool_calls[0].function.arguments",
        "no JSON",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [call("a", "f", "[1]")]}]},
        "messages[0].tool_calls[0].function.arguments",
        "[1] ... an object",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [call("a", "f", '{"a": NaN}')]}]},
        "messages[0].tool_calls[0].function.arguments",
        "NaN",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [call("a", "f", "[" * 100_000)]}]},
        "messages[0].tool_calls[0].function.arguments",
        "no JSON",
    ),
    (
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{**call("a", "f", "{}"), "type": "x"}]}
            ]
        },
        "messages[0].tool_calls[0].type",
        "'x' ... function",
    ),
    ({"n": 2}, "n", "2 ... 1"),
    ({"n": 0}, "n", "0 ... 1"),
    ({"logprobs": True}, "logprobs", "True ... false"),
    ({"top_logprobs": 3}, "top_logprobs", "3"),
    ({"logprobs": "yes"}, "logprobs", "'yes' ... true or false"),
    ({"modalities": ["text", "audio"]}, "modalities", "text"),
    ({"audio": {"voice": "x"}}, "audio", "text"),
    ({"stream": "yes"}, "stream", "'yes'"),
    ({"stream_options": 1}, "stream_options", "1 ... an object"),
    ({"max_tokens": 0}, "max_tokens", "0 ... 1"),
    ({"max_completion_tokens": 0}, "max_completion_tokens", "0 ... 1"),
    ({"max_tokens": 1.5}, "max_tokens", "1.5 ... whole"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens", "2 ... 1"),
    ({"seed": -5}, "seed", "-5"),
    ({"seed": 2**64}, "seed", "18446744073709551615"),
    ({"seed": "a"}, "seed", "'a'"),
    ({"stop": list("abcde")}, "stop", "5 ... 4"),
    ({"stop": [""]}, "stop", "''"),
    ({"stop": 5}, "stop", "5"),
    ({"temperature": "hot"}, "temperature", "'hot' ... a number"),
    ({"temperature": -1, "diffusion": {"mode": "ar"}}, "temperature", "-1"),
    ({"temperature": 10**400, "diffusion": {"mode": "ar"}}, "temperature", "float32"),
    ({"top_p": 1.5, "diffusion": {"mode": "ar"}}, "top_p", "1.5"),
    ({"frequency_penalty": []}, "frequency_penalty", "[]"),
    ({"diffusion": 5}, "diffusion", "5 ... an object"),
    ({"diffusion": {"mode": "fast"}}, "diffusion.mode", "'fast' ... auto"),
    ({"diffusion": {"steps": 0}}, "diffusion.steps", "0"),
    ({"diffusion": {"steps": 1.5}}, "diffusion.steps", "1.5"),
    ({"diffusion": {"t_min": 0.9, "t_max": 0.2}}, "diffusion.t_min", "0.9 ... 0.2"),
    ({"diffusion": {"steps": 3, "mode": "ar"}}, "diffusion.steps", "ar"),
    ({"diffusion": {"drafts": 1}}, "diffusion.drafts", "1"),
    ({"diffusion": {"image_tokens": "x"}}, "diffusion.image_tokens", "'x'"),
    ({"diffusion": {"template": "[[...]]"}}, "diffusion.template", "/v1/completions"),
    ({"diffusion": {"reasoning_field": "x"}}, "diffusion.reasoning_field", "reasoning"),
    ({"reasoning_effort": "huge"}, "reasoning_effort", "'huge'"),
    (
        {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}},
        "reasoning_effort",
        "none ... true",
    ),
    ({"chat_template_kwargs": {"enable_thinking": 1}}, "chat_template_kwargs.enable_thinking", "1"),
    ({"functions": []}, "functions", "tools"),
    ({"function_call": "auto"}, "function_call", "tool_choice"),
    ({"tools": {}}, "tools", "a list"),
    ({"tools": [{"type": "custom"}]}, "tools[0].type", "'custom' ... function"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing"),
    (tool(), "tools[0].function.name", "missing"),
    (tool(name=""), "tools[0].function.name", "''"),
    (tool(name="a", strict="yes"), "tools[0].function.strict", "'yes' ... true or false"),
    (tool(name="a b"), "tools", "'a b'"),
    (tool(name="a", parameters=[]), "tools[0].function.parameters", "[] ... an object"),
    (tool(name="a", parameters={"type": "string"}), "tools", "'string' ... object"),
    ({"tools": [ADD, ADD]}, "tools", "'add'"),
    ({"tool_choice": "required"}, "tool_choice", "'required' ... tools"),
    ({"tool_choice": "any"}, "tool_choice", "'any' ... required"),
    ({"tool_choice": NAMED}, "tool_choice.function.name", "add"),
    ({"tools": [WEATHER], "tool_choice": NAMED}, "tool_choice.function.name", "add ... weather"),
    ({"tools": [WEATHER], "tool_choice": {}}, "tool_choice.type", "missing"),
    ({"tools": [WEATHER], "tool_choice": {"type": "custom"}}, "tool_choice.type", "'custom'"),
    (
        {
            **tool(name="a", parameters={"properties": {"x": {"not": {}}}}),
            "tool_choice": "required",
        },
        "tools",
        "not",
    ),
    (
        {"tools": [ADD], "response_format": schema(**{"not": {}})},
        "response_format",
        "not",
    ),
    (
        {**tool(name="a", parameters={"properties": {"x": {"not": {}}}}), **FORMED},
        "tools",
        "tool a #/properties/x ... not",
    ),
    ({**tool(name="a", parameters=LONG), **FORMED}, "tools", "the tools need ... maxLength 400"),
    (
        {**tool(name="a", parameters=SHORTER), "response_format": schema(**TEXT)},
        "response_format",
        "schema and the tools together ... 4,000 states ... maxLength 250 ... maxLength 200",
    ),
    ({"tools": [ADD], **FORMED, "stop": "x"}, "stop", "response_format"),
    ({"tools": [ADD], **FORMED, "tool_choice": "required", "stop": "x"}, "stop", "tools"),
    (
        {"tools": [ADD], "tool_choice": "required", "response_format": schema(**{"not": {}})},
        "response_format",
        "not",
    ),
    ({"tools": [ADD], "tool_choice": "required", "stop": "x"}, "stop", "tools"),
    ({"response_format": {}}, "response_format.type", "missing"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "'xml'"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "A"}}},
        "response_format.json_schema.schema",
        "missing",
    ),
    ({"response_format": schema(patternProperties={})}, "response_format", "patternProperties"),
    (
        {"response_format": schema(properties={"a": {"type": "string", "x-y": 1}})},
        "response_format",
        "a ... x-y",
    ),
    (
        {"response_format": schema(type="array", items={"type": "string"}, maxItems=100_000)},
        "response_format",
        "maxItems 100,000",
    ),
    ({"response_format": schema(enum=[RECURSIVE])}, "response_format", "schema"),
    ({"response_format": JSON_SCHEMA, "stop": ["x"]}, "stop", "response_format"),
]


@pytest.mark.parametrize(("changes", "param", "facts"), BAD)
def test_a_bad_request_gets_one_clear_error(changes, param, facts):
    with pytest.raises(Refusal) as caught:
        asked(**changes)
    assert caught.value.kind == "invalid"
    assert caught.value.param == param
    assert_says(caught.value, param, facts)


def test_of_many_unknown_fields_a_few_are_told_one_by_one() -> None:
    few = asked(diffusion={f"k{number}": 1 for number in range(8)}).warnings
    assert [line.split()[2] for line in few] == [f"'k{number}'," for number in range(8)]
    many = asked(diffusion={f"k{number}": 1 for number in range(1000)}).warnings
    assert (many[:8], len(many)) == (few, 9)
    assert_says(many[8], "diffusion ... 992 more fields")
