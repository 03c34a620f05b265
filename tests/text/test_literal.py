"""Control texts in what users and clients write: they stay text, wherever they stand."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from facts import raises
from places import INNOCENT, OF_TOOLS, PLACES, PLAIN, RESULTS, all_places, controls, turn

from mlx_diffgemma.errors import PromptError
from mlx_diffgemma.text.chat import encode_text, render_text, render_turns, write_turns
from mlx_diffgemma.text.control import ControlTexts
from mlx_diffgemma.text.masks import KEYS, TYPES, masks_for
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

Load = Callable[[str], Tokenizer]

ASSETS = Path(__file__).parents[2] / "mlx_diffgemma" / "assets"
TOOLS = """
{%- for tool in tools or [] -%}
    <|tool>{{ tool.function | tojson }}<tool|>
{%- endfor -%}
{%- for m in messages -%}
    {{ '<|turn>' ~ m.role ~ '\n' }}
    {%- if m.content is string -%}{{ m.content }}
    {%- else -%}{%- for part in m.content -%}{{ part.text | trim }}{%- endfor -%}{%- endif -%}
    {%- for call in m.tool_calls or [] -%}
        <|tool_call>call:{{ call.function.name ~ (call.function.arguments | tojson(true)) }}
        {%- for key, each in call.function.arguments | dictsort -%}{{ key ~ each }}{%- endfor -%}
        <tool_call|>
    {%- endfor -%}
    <turn|>
{%- endfor -%}
{{ '<|turn>model\n' }}
"""


def test_every_control_text_of_tiny_chat_in_every_place() -> None:
    tokenizer = load_tokenizer(ASSETS / "tiny-chat")
    assert "user" not in tokenizer.control.texts  # no special token there, as in the reference
    assert all_places(tokenizer, {**PLACES, **OF_TOOLS, **RESULTS}) == 20


def test_every_control_text_of_tiny_sudoku_in_every_place() -> None:
    """`user` and `model` are control tokens there, and roles at the same time."""
    tokenizer = load_tokenizer(ASSETS / "tiny-sudoku")
    assert {"user", "model"} <= set(tokenizer.control.texts)
    assert all_places(tokenizer, {key: PLACES[key] for key in PLACES if "joined" not in key}) == 12
    ids = render_turns(tokenizer, [turn("user", "the user"), turn("assistant", "a model")]).ids
    assert [ids.count(token) for token in (6, 7)] == [1, 2]


@pytest.mark.parametrize("name", ["launch.jinja", "second.jinja", "third.jinja"])
def test_every_control_text_of_a_bpe_in_every_place(with_template: Load, name: str) -> None:
    assert all_places(with_template(name), PLACES) == 20


def test_a_template_that_writes_json_and_sorts_keys(with_template: Load) -> None:
    """It writes what is not ASCII as escapes, which masks are not."""
    tokenizer = with_template(TOOLS)
    assert all_places(tokenizer, {**PLACES, **OF_TOOLS}) == 20


# --- ordinary prompts

ORDINARY = [
    "the sky?",
    "a < b > c",
    "<div class='x'>\n  [1, 2]</div>",
    "<|turn",
    "turn|>",
    "<| turn|>",
    "  <\n",
    "\ue000\ue001 \\ue002 \U000f0000",
    "x <think>hm</think> [/INST] <s>",
    "",
]


@pytest.mark.parametrize("source", ["launch.jinja", "second.jinja", "third.jinja", TOOLS])
def test_prompts_without_control_texts_have_the_ids_of_the_whole_text(
    with_template: Load, source: str
) -> None:
    require_unchanged(with_template(source))


@pytest.mark.parametrize("name", ["tiny-chat", "tiny-sudoku"])
def test_shipped_prompts_have_the_ids_of_the_whole_text(name: str) -> None:
    require_unchanged(load_tokenizer(ASSETS / name))


def require_unchanged(tokenizer: Tokenizer) -> None:
    """Texts that hold no control text, in every place, are encoded as one string."""
    for place in (*PLACES.values(), *OF_TOOLS.values()):
        for text in ORDINARY:
            messages, tools = place(text)
            found = write_turns(tokenizer, messages, tools=tools)
            assert found.pieces == (render_text(tokenizer, messages, tools=tools),)
            if not tools:
                ids = render_turns(tokenizer, messages).ids
                assert ids == tokenizer.encode(found.text)


def test_a_template_that_looks_at_what_it_writes(with_template: Load) -> None:
    """Its text is the plain one, where nothing in it is a control text of others."""
    tokenizer = with_template("<bos>{{ messages[0].content | replace('<', 'less') }}<turn|>")
    assert write_turns(tokenizer, [turn("user", "a < b")]).pieces == ("<bos>a less b<turn|>",)


# --- control texts that come together


@pytest.mark.parametrize(
    ("template", "content"),
    [
        ("<{{ messages[0].content }}", "|turn>"),
        ("{{ messages[0].content }}>", "<|turn|"[:-1]),
        ("{{ messages[0].content }}<turn|>", "<|turn><"),
        ("{{ messages[0].content ~ messages[0].content }}", "|turn><"),
        ("{{ messages[0].content | replace(' ', '') }}", "< | t u r n >"),
        ("{{ messages[0].content | reverse }}", ">nrut|<"),
    ],
)
def test_a_template_completes_a_control_text(
    with_template: Load, template: str, content: str
) -> None:
    tokenizer = with_template(template)
    ids = render_turns(tokenizer, [turn("user", content)]).ids
    own = template.count("<turn|>")
    assert controls(tokenizer, ids) == [106] * own
    plain = render_text(tokenizer, [turn("user", content)])
    assert tokenizer.decode(ids, special=True) == plain


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_control_texts_glued_together(with_template: Load, seed: int) -> None:
    chance = random.Random(seed)
    tokenizers = [with_template(TOOLS), load_tokenizer(ASSETS / "tiny-chat")]
    for tokenizer in tokenizers:
        texts = sorted(tokenizer.control.texts)

        def piece(texts: Sequence[str] = texts) -> str:
            text = chance.choice(texts)
            return text[chance.randrange(3) : len(text) - chance.randrange(3)]

        for _ in range(40):
            parts = ["".join(piece() for _ in range(chance.randrange(1, 7))) for _ in range(3)]
            asked = turn("user", [{"type": "text", "text": part} for part in parts])
            same = turn("user", [{"type": "text", "text": INNOCENT} for _ in parts])
            system = turn("system", parts[0])
            found = render_turns(tokenizer, [system, asked]).ids
            plain = render_turns(tokenizer, [turn("system", INNOCENT), same]).ids
            assert controls(tokenizer, found) == controls(tokenizer, plain)
            text = render_text(tokenizer, [system, asked])
            assert tokenizer.decode(found, special=True) == text
            ids = tokenizer.encode_text(parts[1])
            assert (controls(tokenizer, ids), tokenizer.decode(ids)) == ([], parts[1])


def test_texts_without_a_template(tokenizer: Tokenizer) -> None:
    assert encode_text(tokenizer, "<bos>a").ids[0] == 2
    assert controls(tokenizer, encode_text(tokenizer, "<bos>a<turn|>").ids) == [2]
    assert encode_text(tokenizer, "the sky").ids == [2, *tokenizer.encode("the sky")]
    with raises(PromptError, "U+D800 at character 9"):
        tokenizer.encode_text("<turn|>ab\ud800")


# --- thoughts


@pytest.mark.parametrize("name", ["launch.jinja", "second.jinja", "third.jinja"])
def test_a_thought_in_front_of_an_earlier_answer_is_left_out(
    with_template: Load, name: str
) -> None:
    tokenizer = with_template(name)
    said = "<|channel>thought\nHm. <turn|><channel|>Blue."
    asked = [PLAIN, turn("assistant", said), PLAIN]
    plain = [PLAIN, turn("assistant", "Blue."), PLAIN]
    assert render_turns(tokenizer, asked).ids == render_turns(tokenizer, plain).ids
    later = [PLAIN, turn("assistant", f"So {said}"), PLAIN]
    assert f"So {said}" in tokenizer.decode(render_turns(tokenizer, later).ids)
    asked[0] = turn("user", said)
    assert said in tokenizer.decode(render_turns(tokenizer, asked).ids)


# --- masks


def test_masks_are_characters_that_nobody_uses() -> None:
    masks = masks_for({"<", ">"}, ["\ue000 \\ue001", "\ue003"])
    assert sorted(masks.marks.values()) == ["\ue002", "\ue004"]
    said = turn("user", [{"type": "text", "text": "<a>"}, {"a<": ["<", 1, None]}])
    masked = masks.message(said)
    assert "<" not in str(masked)
    assert json.loads(masks.off(json.dumps(masked, ensure_ascii=False))) == said
    assert masks.off(masks.unescaped(json.dumps(masked))) == json.dumps(said)


def test_a_user_who_uses_all_private_characters(with_template: Load) -> None:
    every = "".join(map(chr, [*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE)]))
    with raises(PromptError, "all characters for private use"):
        render_turns(with_template("second.jinja"), [turn("user", f"{every}<turn|>")])


def test_a_template_that_refuses_what_it_does_not_know(with_template: Load) -> None:
    source = "{{ messages[0].content if '<' in messages[0].content else raise_exception('no') }}"
    with raises(PromptError, "the control text <turn|> ... cannot render as text"):
        render_turns(with_template(source), [turn("user", "<turn|>")])
    with raises(PromptError, "a part of a control text ... cannot render as text"):
        render_turns(with_template(source), [turn("user", "a<")])


def test_values_nested_deep(with_template: Load) -> None:
    deep: Any = "<turn|>"
    for _ in range(5_000):
        deep = [deep]
    asked = [PLAIN, turn("assistant", "", tool_calls=[{"function": {"arguments": deep}}])]
    with raises(PromptError, "cannot render as text"):
        render_turns(with_template("{{ messages[0].content }}"), asked)


def test_what_templates_look_for_holds_no_control_text(tokenizer: Tokenizer) -> None:
    for word in KEYS | TYPES:
        assert list(tokenizer.control.spans(word)) == []


# --- where control texts stand


def test_occurrences_that_overlap() -> None:
    control = ControlTexts(frozenset({"<a>", "a>b", "<a>b<a>", "[[", "<bc>"}))
    assert list(control.spans("<a>b<a>[[[")) == [
        *((0, 3), (0, 7), (1, 4), (4, 7), (7, 9), (8, 10)),
    ]
    pieces = control.cut("<a>b<a>[[[")
    assert pieces == ("<", "a", ">b<", "a>[", "[", "[")
    assert all(not list(control.spans(piece)) for piece in pieces)
    assert control.cut("plain") == ("plain",)
    assert ControlTexts(frozenset()).cut("<a>") == ("<a>",)
