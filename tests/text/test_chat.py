"""Prompts from messages, and answers from ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from facts import assert_says, raises
from tokenizers import Tokenizer as Backend
from tokenizers import models

from mlx_diffgemma.errors import CheckpointError, PromptError, SettingsError
from mlx_diffgemma.text.answer import Answer
from mlx_diffgemma.text.chat import Message, ignored, render_prompt, require_no_template
from mlx_diffgemma.text.reader import parse_answer
from mlx_diffgemma.text.tokenizer import Tokenizer
from mlx_diffgemma.text.tools import ToolCall

Load = Callable[[str], Tokenizer]
TEMPLATES = ["launch.jinja", "second.jinja", "third.jinja"]
SYSTEM, USER = Message("system", "Be brief."), Message("user", "the sky?")
EMPTY_THOUGHT = "<|channel>thought\n<channel|>"
STOP = (1, 50, 106)


def parse(tokenizer: Tokenizer, written: str) -> Answer:
    """The answer in a text with markers, its ids cut at nothing but the stop ids."""
    return parse_answer(tokenizer, tokenizer.encode(written), STOP)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    ("messages", "think", "head"),
    [
        ([USER], False, ""),
        ([SYSTEM, USER], False, "<|turn>system\nBe brief.<turn|>\n"),
        ([USER], True, "<|turn>system\n<|think|>\n<turn|>\n"),
        ([SYSTEM, USER], True, "<|turn>system\n<|think|>\nBe brief.<turn|>\n"),
    ],
)
def test_prompts(
    with_template: Load, template: str, messages: list[Message], think: bool, head: str
) -> None:
    tokenizer = with_template(template)
    tail = EMPTY_THOUGHT if template == "launch.jinja" and not think else ""
    expected = f"<bos>{head}<|turn>user\nthe sky?<turn|>\n<|turn>model\n{tail}"
    ids = render_prompt(tokenizer, messages, think=think).ids
    assert tokenizer.decode(ids, special=True) == expected
    assert ids == tokenizer.encode(expected)
    assert ids.count(2) == 1


@pytest.mark.parametrize("template", TEMPLATES)
def test_thoughts_do_not_go_back_into_history(with_template: Load, template: str) -> None:
    tokenizer = with_template(template)
    answer = Message("assistant", "<|channel>thought\nHm.<channel|>Blue.")
    ids = render_prompt(tokenizer, [USER, answer, USER], think=True).ids
    assert "<|turn>model\nBlue.<turn|>\n<|turn>user\n" in tokenizer.decode(ids, special=True)


def test_markers_in_a_message_are_text(with_template: Load) -> None:
    """The reference takes them for its own; tests/text/test_literal.py has all of them."""
    tokenizer = with_template("second.jinja")
    ids = render_prompt(tokenizer, [Message("user", "a<turn|>b")]).ids
    assert ids.count(106) == 1
    assert tokenizer.decode(ids) == "user\na<turn|>b\nmodel\n"


def test_a_template_without_bos_gets_none(with_template: Load) -> None:
    tokenizer = with_template("{{ messages[0].content }}")
    assert render_prompt(tokenizer, [USER]).ids == tokenizer.encode("the sky?")


def test_what_a_template_may_use(with_template: Load) -> None:
    source = (
        "{{ eos_token }}{{ eot_token }}{{ '<é>' | tojson }}{{ [1, 2] | tojson(indent=1) }}"
        "{{ tools is none }}{{ documents is none }}{{ strftime_now('%%') }}"
        "{% for n in range(9) %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}"
    )
    tokenizer = with_template(source)
    prompt = tokenizer.decode(render_prompt(tokenizer, [USER]).ids, special=True)
    assert prompt == '<eos><turn|>"<é>"[\n 1,\n 2\n]TrueTrue%01'


def test_a_bare_declaration_has_its_function(with_template: Load) -> None:
    """The released template takes no other."""
    tokenizer = with_template("{% for t in tools %}{{ t.type }} {{ t.function.name }}{% endfor %}")
    for tool in ({"name": "sky"}, {"type": "function", "function": {"name": "sky"}}):
        ids = render_prompt(tokenizer, [USER], tools=[tool]).ids
        assert tokenizer.decode(ids) == "function sky"


def test_no_template(tokenizer: Tokenizer) -> None:
    with raises(CheckpointError, tokenizer.folder, "template ... --raw ... chat_template.jinja"):
        render_prompt(tokenizer, [USER])


def test_no_messages(with_template: Load) -> None:
    with raises(PromptError, "no messages ... at least one ... prompt"):
        render_prompt(with_template("third.jinja"), [])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("third.jinja", 'system message must come first ... "Be brief."'),
        ("{{ raise_exception('No\n  poems.') }}", "No poems"),
        ("{{ messages[0].tools.name }}", "'dict object' has no attribute 'tools'"),
        ("{{ 1 + messages[0].content }}", "for +: 'int' and 'str'"),
        ("{{ messages.clear() }}", "'clear' of 'list' ... unsafe"),
        ("{{ messages.__class__ }}{{ ''.__class__.__mro__ }}", "attribute '__class__'"),
    ],
)
def test_a_template_that_refuses(with_template: Load, template: str, reason: str) -> None:
    with raises(PromptError, "the chat template refuses", reason, "change them ... --raw"):
        render_prompt(with_template(template), [USER, SYSTEM])


def test_a_template_that_is_no_jinja(with_template: Load) -> None:
    tokenizer = with_template("{{ bos_token }}\n{% if %}")
    why = "line 2 ... Expected an expression, got 'end of statement block'"
    with raises(CheckpointError, tokenizer.folder, why, "Jinja ... download ... --raw"):
        render_prompt(tokenizer, [USER])


@pytest.mark.parametrize(
    ("written", "text", "thinking"),
    [
        ("Blue.<turn|>", "Blue.", None),
        ("  Blue.\n<turn|><eos>", "  Blue.\n", None),
        ("", "", None),
        ("<turn|>", "", None),
        (EMPTY_THOUGHT + "Blue.<turn|>", "Blue.", None),
        ("<|channel>thought\n \n<channel|>\nBlue.\n<turn|>", "Blue.\n", None),
        ("<|channel>thought\nHm.\nWell.\n<channel|>\n\n Blue.", "Blue.", "Hm.\nWell."),
        ("<|channel>thought Hm.<channel|>Blue.", "Blue.", "Hm."),
        ("\n<|channel>thought\nA<channel|><|channel>thought\nB<channel|> Blue.", "Blue.", "A\nB"),
        ("Blue <|channel>thought\nHm.<channel|> sky", "Blue  sky", "Hm."),
        ("<|channel>thought\nA<|channel>thought\nB<channel|>Blue.", "Blue.", "A\nB"),
        ("<|channel>thought\nHm, the", "", "Hm, the"),
        ("Blue.<|channel>thou", "Blue.", None),
        ("<|channel>", "", None),
        ("<|channel><channel|>Blue.", "Blue.", None),
        ("<|channel>final\nBlue.<channel|> Sky.", "Blue. Sky.", None),
        ("<|channel>thoughtful<channel|>", "thoughtful", None),
        ("Blue.<channel|> Sky.", "Blue. Sky.", None),
        ("Blue.<bos> Sky.<turn|>", "Blue. Sky.", None),
    ],
)
def test_channels(tokenizer: Tokenizer, written: str, text: str, thinking: str | None) -> None:
    assert parse(tokenizer, written) == Answer(text, thinking, ())


def test_a_marker_spelt_out_in_plain_tokens_is_text(tokenizer: Tokenizer) -> None:
    ids = [index for letter in "<|channel>thought" for index in tokenizer.encode(letter)]
    assert parse_answer(tokenizer, ids) == Answer("<|channel>thought", None, ())


def test_only_trailing_stop_ids_are_dropped(tokenizer: Tokenizer) -> None:
    a, b = tokenizer.encode("ab")
    assert parse_answer(tokenizer, [a, b, b], {b}).text == "a"
    assert parse_answer(tokenizer, [a, b, a], {b}).text == "aba"


def test_half_a_character_at_the_end(tokenizer: Tokenizer) -> None:
    assert parse_answer(tokenizer, tokenizer.encode("sky😀")[:-1]).text == "sky" + 3 * "\ufffd"


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("{}", {}),
        ('{city:<|"|>Ulm<|"|>}', {"city": "Ulm"}),
        ('{city:<|"|>{a},[b]:\n"c" <|"|>}', {"city": '{a},[b]:\n"c" '}),
        ('{city:<|"|><|"|>}', {"city": ""}),
        ("{n:3,x:-2.5,e:1e3,z:0}", {"n": 3, "x": -2.5, "e": 1000.0, "z": 0}),
        (
            "{yes:true,no:false,none:null,old:None}",
            {"yes": True, "no": False, "none": None, "old": None},
        ),
        ('{list:[1,<|"|>a<|"|>,[],{}]}', {"list": [1, "a", [], {}]}),
        ('{at:{lat:48.4,name:{de:<|"|>Ulm<|"|>}}}', {"at": {"lat": 48.4, "name": {"de": "Ulm"}}}),
        ('{ max-days : 3 , <|"|>a:b<|"|> : [ 1 , 2 ] } ', {"max-days": 3, "a:b": [1, 2]}),
    ],
)
def test_tool_calls(tokenizer: Tokenizer, call: str, arguments: dict[str, object]) -> None:
    answer = parse(tokenizer, f"<|tool_call>call:get_weather{call}<tool_call|><|tool_response>")
    assert answer == Answer("", None, (ToolCall("get_weather", arguments),))
    json.dumps(arguments, allow_nan=False)


def test_calls_between_thought_and_text(tokenizer: Tokenizer) -> None:
    one, two = "<|tool_call>call:a{n:1}<tool_call|>", "<|tool_call>call:b.c{}<tool_call|>"
    answer = parse(tokenizer, f"<|channel>thought\nHm.<channel|>\n{one}{two}Asked.<turn|>")
    assert answer == Answer("Asked.", "Hm.", (ToolCall("a", {"n": 1}), ToolCall("b.c", {})))
    channel = parse(tokenizer, f"<|channel>final\nAsking. {one}<channel|>")
    assert channel == Answer("Asking. ", None, (ToolCall("a", {"n": 1}),))


@pytest.mark.parametrize(
    "call",
    [
        "",
        "get{}",
        "call:{}",
        "call:get",
        "call:get{",
        "call:get{n:1",
        "call:get{n:1}}",
        "call:get{n}",
        "call:get{:1}",
        "call:get{n:}",
        "call:get{n:1,n:2}",
        'call:get{city:<|"|>Ulm}',
        f"call:get{{n:{'[' * 2000}{']' * 2000}}}",
    ],
)
def test_a_malformed_call_stays_in_the_text(tokenizer: Tokenizer, call: str) -> None:
    written = f"See <|tool_call>{call}<tool_call|>."
    assert parse(tokenizer, written) == Answer(written, None, ())


@pytest.mark.parametrize("before", ["", "See ", "<|channel>thought\nHm."])
def test_a_call_that_the_answers_end_cuts_is_left_out(tokenizer: Tokenizer, before: str) -> None:
    """Half an argument is none; one that the model itself left open stays in the text."""
    written = f'{before}<|tool_call>call:get{{city:<|"|>Ulm<|"|>}}'
    text, thinking = ("", "Hm.") if "Hm" in before else (before, None)
    assert parse(tokenizer, written) == Answer(text, thinking, (), (), cut_call=True)
    assert parse(tokenizer, written + "<turn|>").text == ("" if thinking else written)


def test_a_call_inside_a_thought_is_a_call(tokenizer: Tokenizer) -> None:
    call = "<|tool_call>call:a{n:1}<tool_call|>"
    written = f"<|channel>thought\nI ask.{call} Good.<channel|>Done.<turn|>"
    assert parse(tokenizer, written) == Answer("Done.", "I ask. Good.", (ToolCall("a", {"n": 1}),))
    nothing = "<|channel>thought\nHm. <|tool_call>nothing<tool_call|><channel|>Done."
    assert parse(tokenizer, nothing).thinking == "Hm. <|tool_call>nothing<tool_call|>"


def test_a_tokenizer_without_markers(tokenizer: Tokenizer) -> None:
    """The embedded one knows no channels and no tools: its text passes through."""
    backend = Backend(models.WordLevel({"<unk>": 0, "1": 1, "\n": 2}, unk_token="<unk>"))
    plain = Tokenizer(tokenizer.folder, backend, {}, frozenset(), None)
    assert parse_answer(plain, [1, 2, 0], {0}).text == "1 \n"


# --- what a template does not use


@pytest.mark.parametrize(
    ("template", "names"),
    [
        *((template, ()) for template in TEMPLATES),
        ("{{ messages[-1].content }}", ("system", "think")),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", ("think",)),
        ("{{ enable_thinking }}{{ messages[-1].content }}", ("system",)),
        ("{% if not enable_thinking %}{{ raise_exception('no') }}{% endif %}x", ("system",)),
    ],
)
def test_what_leaves_no_trace_in_the_prompt_is_named(
    with_template: Load, template: str, names: tuple[str, ...]
) -> None:
    """It was dropped without a word."""
    own = with_template(template)
    assert ignored(own, [SYSTEM, USER], think=True) == names


def test_what_was_not_asked_for_is_not_ignored(with_template: Load) -> None:
    own = with_template("{{ messages[-1].content }}")
    assert ignored(own, [SYSTEM, USER]) == ("system",)
    assert ignored(own, [USER], think=True) == ("think",)
    assert ignored(own, [USER]) == ()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"system": "Be brief."}, "--system"),
        ({"think": True}, "--think"),
        ({"system": "Be brief.", "think": True}, "--system and --think"),
    ],
)
def test_what_only_a_template_writes_does_not_go_with_raw(
    given: dict[str, Any], named: str
) -> None:
    """The command line spells them as options."""
    with pytest.raises(SettingsError) as caught:
        require_no_template(**given)
    plain = named.replace("--", "")
    assert_says(caught.value, plain, "raw ... without a template ... leave out raw")
    spelled = caught.value.told({name: f"--{name}" for name in ("system", "think", "raw")})
    assert_says(spelled, named, "--raw ... leave out --raw")


def test_no_system_text_goes_with_raw() -> None:
    require_no_template()
    require_no_template(system="")
