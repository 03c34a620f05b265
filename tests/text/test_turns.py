"""Messages as clients send them, and what chat templates are given of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from facts import raises

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.vision import ImageIds
from mlx_diffgemma.errors import PromptError
from mlx_diffgemma.text.chat import render_text
from mlx_diffgemma.text.results import writes_images_of_results
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer
from mlx_diffgemma.text.turns import fit_for_template

Load = Callable[[str], Tokenizer]
IMAGE = {"type": "image"}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def said(content: Any, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    asked = {"tool_calls": list(calls)} if calls else {}
    return {"role": "assistant", "content": content, **asked, **more}


def call(key: str, name: str, arguments: Any = None) -> dict[str, Any]:
    function = {"name": name, "arguments": {} if arguments is None else arguments}
    return {"id": key, "type": "function", "function": function}


def result(key: str | None, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content, **({"tool_call_id": key} if key else {}), **more}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def short(turns: list[Any]) -> list[tuple[Any, ...]]:
    """Role and content of each turn, and a result's name."""
    return [
        (turn["role"], turn["content"], *([turn["name"]] if turn["role"] == "tool" else ()))
        for turn in turns
    ]


ADD, TIMER = call("a", "add", {"a": 1}), call("b", "timer")


# --- texts


@pytest.mark.parametrize(
    ("content", "fit"),
    [
        (None, ""),
        ("Hi.", "Hi."),
        ([], ""),
        ([text("Hi."), text("You.")], "Hi.\nYou."),
        ([text("See"), IMAGE, text("and"), text("say")], [text("See"), IMAGE, text("and\nsay")]),
    ],
)
def test_texts_side_by_side_are_one(content: Any, fit: Any) -> None:
    assert short(fit_for_template([user(content)])) == [("user", fit)]


def test_the_messages_given_are_not_changed() -> None:
    given = [
        {"role": "developer", "content": [text("Be brief.")]},
        user([text("See"), IMAGE]),
        said(None, call("a", "add", '{"a": 1}'), reasoning="hm"),
        result("a", [text("2"), IMAGE]),
    ]
    before = json.dumps(given)
    fit_for_template(given)
    assert json.dumps(given) == before


def test_system_texts_in_front_are_one_whatever_their_role() -> None:
    front = [
        {"role": "developer", "content": [text("One.")]},
        {"role": "system", "content": "Two."},
    ]
    assert short(fit_for_template([*front, user("Hi.")])) == [
        ("system", "One.\n\nTwo."),
        ("user", "Hi."),
    ]


def test_an_empty_system_text_is_none() -> None:
    assert short(fit_for_template([{"role": "system", "content": ""}, user("Hi.")])) == [
        ("user", "Hi.")
    ]


def test_a_later_system_text_stands_in_front_of_the_next_users() -> None:
    """The first one stays, and with it all that is encoded; calls and results are not parted."""
    note = {"role": "system", "content": "Note."}
    turns = [user("Hi."), said("Yes?"), note, user("Go."), said(None, ADD), note, result("a", "2")]
    fit = short(fit_for_template([*turns, note, user([IMAGE])]))
    assert fit[2] == ("user", "Note.\n\nGo.")
    assert fit[3:] == [
        ("assistant", ""),
        ("tool", "2", "add"),
        ("user", [text("Note.\n\nNote."), IMAGE]),
    ]
    assert short(fit_for_template([user("Hi."), note])) == [("user", "Hi."), ("user", "Note.")]


def test_users_in_a_row_stay_apart_and_answers_that_say_nothing_go() -> None:
    turns = [user("One."), user("Two."), said(None), said(" \n"), user("Three.")]
    assert short(fit_for_template(turns)) == [("user", f"{n}.") for n in ("One", "Two", "Three")]


# --- calls and results


@pytest.mark.parametrize(
    ("given", "arguments"),
    [('{"a": 1}', {"a": 1}), ("", {}), (" ", {}), ({"b": [2]}, {"b": [2]}), (None, {})],
)
def test_arguments_are_objects(given: Any, arguments: dict[str, Any]) -> None:
    asked = {"id": "a", "function": {"name": "add", "arguments": given}}
    (turn,) = fit_for_template([said(None, asked)])
    assert turn["tool_calls"] == [call("a", "add", arguments)]


@pytest.mark.parametrize("given", ['{"a": ', "[1]", "1", [1], "[" * 100_000])
def test_arguments_that_are_none_name_the_message(given: Any) -> None:
    asked = {"id": "a", "function": {"name": "add", "arguments": given}}
    with raises(PromptError, "message 2 has a call of 'add' with the arguments", "a JSON object"):
        fit_for_template([user("Hi."), said(None, asked)])


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "bot", "content": "x"}, "the role 'bot', expected system, user, assistant"),
        ({"content": "x"}, "the role None"),
        (user(7), "the content 7"),
        (user([{"type": "audio"}]), "the content"),
        (said([IMAGE]), "is the assistant's and has an image"),
        ({"role": "system", "content": [IMAGE]}, "is the system's and has an image"),
        (said("x", tool_calls=5), "the tool_calls 5, expected a list"),
        (said("x", tool_calls=[5]), "the call 5, expected a function with a name"),
        (said("x", tool_calls=[{"function": {"arguments": {}}}]), "expected a function"),
    ],
)
def test_what_is_no_message_is_named(message: Any, said: str) -> None:
    with raises(PromptError, f"message 2 ... {said}"):
        fit_for_template([user("Hi."), message])


@pytest.mark.parametrize(
    ("content", "fit"),
    [
        (None, ""),
        ("2", "2"),
        ([text("2"), text("3")], "2\n3"),
        ({"sum": 2}, {"sum": 2}),
        ([1, 2], "[1, 2]"),
        (True, "true"),
        ([], ""),
    ],
)
def test_results_may_be_anything(content: Any, fit: Any) -> None:
    turns = fit_for_template([said(None, ADD), result("a", content)])
    assert short(turns)[1:] == [("tool", fit, "add")]


def test_results_stand_in_the_order_of_their_calls() -> None:
    turns = [said(None, ADD, TIMER), result("b", "started"), result("a", "2")]
    assert short(fit_for_template(turns))[1:] == [
        ("tool", "2", "add"),
        ("tool", "started", "timer"),
    ]


def test_results_without_ids_are_found_by_name_and_place() -> None:
    asked = said(None, call("", "add"), call("", "timer"), call("", "add"))
    turns = [asked, result(None, "on", name="timer"), result(None, "1"), result(None, "2")]
    assert [(turn[1], turn[2]) for turn in short(fit_for_template(turns))[1:]] == [
        ("1", "add"),
        ("on", "timer"),
        ("2", "add"),
    ]


def test_an_id_that_comes_again_is_the_last_ones() -> None:
    turns = [said(None, ADD), result("a", "2"), said(None, call("a", "timer")), result("a", "on")]
    fit = short(fit_for_template(turns))
    assert [turn[1:] for turn in fit] == [("",), ("2", "add"), ("",), ("on", "timer")]


def test_a_late_result_stands_behind_its_call() -> None:
    turns = [said(None, ADD, TIMER), result("a", "2"), user("And?"), result("b", "on")]
    assert [turn[1] for turn in short(fit_for_template(turns))] == ["", "2", "on", "And?"]


def test_a_result_without_its_call_is_told_by_the_user() -> None:
    """Templates leave it out, or write it without a name."""
    turns = [said(None, ADD), result("z", {"n": 5}, name="timer"), result("a", "2")]
    assert short(fit_for_template(turns))[1:] == [
        ("tool", "2", "add"),
        ("user", 'The result of timer:\n{"n": 5}'),
    ]
    assert short(fit_for_template([result("z", None)])) == [("user", "The result of a tool:\n")]


def test_images_of_results_go_to_a_user_in_order() -> None:
    """Most templates leave them out; the order is that of the files, not of the calls."""
    turns = [said(None, ADD, TIMER), result("b", [text("b"), IMAGE]), result("a", [IMAGE, IMAGE])]
    fit, pair = short(fit_for_template(turns)), [IMAGE, IMAGE]
    assert fit[1:] == [
        ("tool", "", "add"),
        ("tool", "b", "timer"),
        (
            "user",
            [text("From the result of timer:"), IMAGE, text("From the result of add:"), *pair],
        ),
    ]
    assert fit_for_template(turns, images_in_results=True) == fit_for_template(turns)


def test_a_template_may_write_images_where_they_are() -> None:
    turns = [said(None, ADD, TIMER), result("a", [IMAGE]), result("b", "on")]
    assert short(fit_for_template(turns, images_in_results=True))[1:] == [
        ("tool", [IMAGE], "add"),
        ("tool", "on", "timer"),
    ]


def test_images_of_a_late_result_stay_where_they_came() -> None:
    turns = [said(None, ADD), user([IMAGE]), result("a", [text("2"), IMAGE]), user("And?")]
    for in_place in (False, True):
        assert short(fit_for_template(turns, images_in_results=in_place))[1:] == [
            ("tool", "2", "add"),
            ("user", [IMAGE]),
            ("user", [text("From the result of add:"), IMAGE]),
            ("user", "And?"),
        ]


# --- thoughts


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_a_thought_stays_beside_calls_behind_the_last_question(key: str) -> None:
    asked = said(None, ADD, **{key: "Hm."})
    turns = fit_for_template([user("Hi."), asked, result("a", "2"), said("2.", **{key: "Oh."})])
    assert turns[1]["reasoning_content"] == "Hm."
    assert "reasoning_content" not in turns[3]
    later = fit_for_template([user("Hi."), asked, result("a", "2"), said("2."), user("And?")])
    assert "reasoning_content" not in later[1]


# --- templates

HISTORY = [
    {"role": "developer", "content": [text("Be brief.")]},
    user([text("What is 1 + 2,"), text("and wake me?")]),
    said(None, call("a", "add", '{"a": 1, "b": 2}'), call("b", "timer", {"minutes": 5})),
    result("b", None),
    result("a", [text("3")]),
]


def test_tiny_chats_template_writes_them() -> None:
    folder = embedded_folder("tiny-chat")
    assert folder is not None
    written = render_text(load_tokenizer(folder), fit_for_template(HISTORY))
    assert written == (
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nWhat is 1 + 2,\nand wake me?<turn|>\n"
        "<|turn>model\n<|tool_call>call:add{a:1,b:2}<tool_call|>"
        "<|tool_call>call:timer{minutes:5}<tool_call|>"
        '<|tool_response>response:add{value:<|"|>3<|"|>}<tool_response|>'
        '<|tool_response>response:timer{value:<|"|><|"|>}<tool_response|>'
    )


@pytest.mark.parametrize("template", ["launch.jinja", "second.jinja", "third.jinja"])
def test_gemmas_templates_write_what_they_know(with_template: Load, template: str) -> None:
    """Lists and roles that they would refuse, or print as Python does, are texts."""
    turns = [*HISTORY[:2], said([text("Three."), text("Yes.")]), {"role": "system", "content": "N"}]
    written = render_text(with_template(template), fit_for_template([*turns, user("And?")]))
    for expected in (
        "system\nBe brief.<",
        "2,\nand wake me?<",
        "Three.\nYes.<",
        "user\nN\n\nAnd?<",
    ):
        assert expected in written


WRITES = "{% for m in messages %}{% if m.content is not string %}<|image|>{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (WRITES, True),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", False),
        ("third.jinja", False),
        ("second.jinja", True),
    ],
)
def test_a_template_says_whether_it_writes_images_of_results(
    with_template: Load, template: str, written: bool
) -> None:
    tokenizer = with_template(template)
    assert writes_images_of_results(tokenizer, ImageIds(180, 181, 182)) == written
    assert not writes_images_of_results(tokenizer, None)


def test_thousands_of_results_find_their_calls_at_once() -> None:
    """Where each looks through all calls, these take many seconds."""
    keys = [f"c{number}" for number in range(4000)]
    asked = [
        said(None, *(call(key, "f") for key in keys)),
        *(said(None, call(f"d{key}", "f")) for key in keys),
    ]
    results = [result(key, "x") for key in (*reversed(keys), *(f"d{key}" for key in keys))]
    began = time.process_time()
    fit = fit_for_template([user("a"), *asked, *results])
    assert time.process_time() - began < 2
    assert [each["tool_call_id"] for each in fit if each["role"] == "tool"] == [
        *keys, *(f"d{key}" for key in keys)
    ]  # fmt: skip
