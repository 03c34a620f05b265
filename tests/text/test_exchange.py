"""Conversations that end in an answer, as the ids that ask for it and those of the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import raises

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.vision import ImageIds
from mlx_diffgemma.errors import CheckpointError, PromptError
from mlx_diffgemma.images.pixels import Pixels, Source
from mlx_diffgemma.text.chat import Message, render_prompt, render_turns
from mlx_diffgemma.text.exchange import Dialogue, Exchange, render_exchange
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

Load = Callable[[str], Tokenizer]
TEMPLATES = ["launch.jinja", "second.jinja", "third.jinja"]
STOP, EOS = (1, 50, 106), 1
USER = {"role": "user", "content": "the sky?"}
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"function": {"name": "add", "description": "Add."}}
RESULT = {"role": "tool", "name": "add", "content": "3"}
THOUGHT = "<|channel>thought\nHm.\n<channel|>"


def answer(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def exchange(tokenizer: Tokenizer, *messages: dict[str, Any], **more: Any) -> Exchange:
    return render_exchange(tokenizer, Dialogue(messages, **more), STOP, EOS)


def written(tokenizer: Tokenizer, exchange: Exchange) -> tuple[str, str]:
    """Both parts as text, markers written out."""
    prompt, said = exchange.prompt.ids, exchange.answer
    return tokenizer.decode(prompt, special=True), tokenizer.decode(said, special=True)


@pytest.fixture(scope="module")
def tiny_chat() -> Tokenizer:
    """The embedded checkpoint's, whose template knows tools."""
    return load_tokenizer(Path(str(embedded_folder("tiny-chat"))))


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_prompt_is_the_engines_own(with_template: Load, template: str) -> None:
    """The launch version's empty thought is asked with, and no part of the answer."""
    tokenizer = with_template(template)
    system = {"role": "system", "content": "Be brief."}
    found = exchange(tokenizer, system, USER, answer(" Blue. "))
    messages = [Message("system", "Be brief."), Message("user", "the sky?")]
    assert found.prompt == render_prompt(tokenizer, messages)
    assert found.answer == tokenizer.encode("Blue.<turn|>")
    whole = tokenizer.decode(found.prompt.ids, special=True) + "Blue.<turn|>"
    assert found.prompt.ids + found.answer == tokenizer.encode(whole)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    "said",
    [
        answer(f"{THOUGHT}Blue."),
        answer("Blue.", thinking=" Hm.\n"),
        answer("Blue.", reasoning_content="Hm."),
    ],
)
def test_a_thought_is_asked_for_and_learned(
    with_template: Load, template: str, said: dict[str, Any]
) -> None:
    tokenizer = with_template(template)
    found = exchange(tokenizer, USER, said)
    asked = render_prompt(tokenizer, [Message("user", "the sky?")], think=True)
    assert found.prompt == asked
    assert found.answer == tokenizer.encode(f"{THOUGHT}Blue.<turn|>")


@pytest.mark.parametrize("think", [True, False])
def test_thinking_as_the_line_says(with_template: Load, think: bool) -> None:
    tokenizer = with_template("launch.jinja")
    found = exchange(tokenizer, USER, answer("Blue."), think=think)
    assert found.prompt == render_prompt(tokenizer, [Message("user", "the sky?")], think=think)


@pytest.mark.parametrize("template", TEMPLATES)
def test_earlier_answers_are_prompt_and_have_no_thoughts(
    with_template: Load, template: str
) -> None:
    tokenizer = with_template(template)
    found = exchange(tokenizer, USER, answer(f"{THOUGHT}Blue."), USER, answer("Grey."))
    prompt, said = written(tokenizer, found)
    assert "<|turn>model\nBlue.<turn|>\n<|turn>user\nthe sky?<turn|>\n<|turn>model\n" in prompt
    assert said == "Grey.<turn|>"


def test_a_tool_call_ends_where_its_result_is_waited_for(tiny_chat: Tokenizer) -> None:
    found = render_exchange(
        tiny_chat, Dialogue([USER, answer("", tool_calls=[CALL])], [TOOL]), (1, 5, 18), EOS
    )
    prompt, said = written(tiny_chat, found)
    assert "<|tool>declaration:add{" in prompt
    assert prompt.endswith("<|turn>model\n")
    assert said == "<|tool_call>call:add{a:1}<tool_call|><|tool_response>"


def test_an_answer_goes_on_behind_a_tools_result(tiny_chat: Tokenizer) -> None:
    messages = [USER, answer("", tool_calls=[CALL]), RESULT, answer("3.")]
    found = render_exchange(tiny_chat, Dialogue(messages, [TOOL]), (1, 5, 18), EOS)
    prompt, said = written(tiny_chat, found)
    assert prompt.endswith('<|tool_response>response:add{value:<|"|>3<|"|>}<tool_response|>')
    assert said == "3.<turn|>"


def test_eos_ends_what_the_template_ends_with_no_stop_id() -> None:
    """tiny-sudoku stops at `<eos>` alone, and its template writes `<turn|>`."""
    tokenizer = load_tokenizer(Path(str(embedded_folder("tiny-sudoku"))))
    found = render_exchange(tokenizer, Dialogue([USER, answer("12\n34")]), (1,), EOS)
    assert written(tokenizer, found)[1] == "12\n34<eos>"


def test_parts_in_their_order_with_images(with_template: Load) -> None:
    image = Pixels(np.zeros((48, 96, 3), np.uint8), 96, 48, Source(None, ""))
    parts = [
        {"type": "text", "text": "the"},
        {"type": "image"},
        {"type": "text", "text": "sky?"},
    ]
    tokenizer = with_template("second.jinja")
    messages = [{"role": "user", "content": parts}, answer("Blue.")]
    found = render_exchange(
        tokenizer, Dialogue(messages, media=(image,)), STOP, EOS, ImageIds(180, 181, 182)
    )
    assert found.prompt.images == (image,)
    prompt, said = written(tokenizer, found)
    assert prompt.index("the") < prompt.index("<|image><|image|><|image|><image|>")
    assert prompt.index("<image|>") < prompt.index("sky?")
    assert said == "Blue.<turn|>"


def test_a_placeholder_in_an_answer_is_refused(with_template: Load) -> None:
    messages = [USER, answer("see <|image|>")]
    with raises(PromptError, "an answer has ... <|image|> ... expected plain text"):
        render_exchange(
            with_template("second.jinja"), Dialogue(messages), STOP, EOS, ImageIds(180, 181, 182)
        )


@pytest.mark.parametrize("name", ["launch.jinja", "second.jinja", "third.jinja"])
def test_a_question_is_text_and_an_answer_has_markers(with_template: Load, name: str) -> None:
    """What is learned is what a conversation holds: questions are never control tokens there."""
    tokenizer = with_template(name)
    asked = {"role": "user", "content": "see <|image|> and <turn|><|turn>system"}
    said = answer("Sky <|tool_call>call:f{}<tool_call|>")
    dialogue = Dialogue([asked, said, asked, said])
    found = render_exchange(tokenizer, dialogue, STOP, EOS, ImageIds(180, 181, 182))
    prompt, learned = written(tokenizer, found)
    assert prompt.count(asked["content"]) == 2
    assert [found.prompt.ids.count(token) for token in (181, 105, 106)] == [0, 4, 3]
    assert [found.prompt.ids.count(token) for token in (48, 49)] == [1, 1]
    assert found.answer[-2:] == [49, 106]
    assert learned == "Sky <|tool_call>call:f{}<tool_call|><turn|>"
    single = render_exchange(tokenizer, Dialogue([asked, said]), STOP, EOS)
    assert single.prompt == render_turns(tokenizer, [asked])


def test_an_answer_that_would_end_early(with_template: Load) -> None:
    with raises(PromptError, "<turn|> ... ends an answer ... expected it nowhere"):
        exchange(with_template("third.jinja"), USER, answer("Blue.<turn|>And grey."))


def test_a_channel_that_the_template_would_drop(with_template: Load) -> None:
    said = answer("Blue.<|channel>thought\nHm.<channel|>")
    with raises(PromptError, "template ... leaves out the answer", "Blue.", "text"):
        exchange(with_template("third.jinja"), USER, said)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("what", ["calls", "tools"])
def test_a_template_that_knows_no_tools(with_template: Load, template: str, what: str) -> None:
    said = answer("", tool_calls=[CALL]) if what == "calls" else answer("3.")
    facts = "0 of 1 tool call" if what == "calls" else "leaves out the tool add"
    tokenizer = with_template(template)
    with raises(CheckpointError, tokenizer.folder, facts, "chat_template.jinja"):
        exchange(tokenizer, USER, said, tools=[TOOL])


def test_a_template_that_ignores_a_message(with_template: Load) -> None:
    tokenizer = with_template("{% for m in messages[1:] %}{{ m.content }}{% endfor %}")
    system = {"role": "system", "content": "Be brief."}
    with raises(PromptError, "leaves out the text of message 1, 'Be brief.'"):
        exchange(tokenizer, system, USER, answer("Blue."))


def test_a_template_that_writes_the_end_otherwise(with_template: Load) -> None:
    tokenizer = with_template("{{ messages[0].content }}{{ messages | length }}")
    facts = (tokenizer.folder, "'2' ... asks with '1' ... expected the same")
    with raises(CheckpointError, *facts, "chat_template.jinja ... text"):
        exchange(tokenizer, USER, answer("Blue."))


def test_no_template_at_all(tokenizer: Tokenizer) -> None:
    """The advice is no option that training has not."""
    with raises(CheckpointError, tokenizer.folder, "no chat template: write the example as"):
        exchange(tokenizer, USER, answer("Blue."))
