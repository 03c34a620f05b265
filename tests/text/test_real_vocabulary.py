"""Prompts, answers and holes with the vocabulary of the released model: 262,144 ids, BPE, bytes."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from places import OF_TOOLS, PLACES, RESULTS, require_text
from plain_answer import plain_answer

from mlx_diffgemma.checkpoint.vision import ImageIds
from mlx_diffgemma.conversation.fill import token_template
from mlx_diffgemma.decide.labels import INDEXED, LETTERS, LINES, PAIRS, Form, Labels
from mlx_diffgemma.decide.questions import Choice, Noul, Score
from mlx_diffgemma.errors import PromptError
from mlx_diffgemma.images.pixels import Pixels, Source
from mlx_diffgemma.images.video import Clip
from mlx_diffgemma.text.answer import Answer
from mlx_diffgemma.text.chat import Message, render_prompt, render_text, render_turns
from mlx_diffgemma.text.decoder import Decoder
from mlx_diffgemma.text.exchange import Dialogue, render_exchange
from mlx_diffgemma.text.holes import read_template
from mlx_diffgemma.text.masks import KEYS, ROLES, TYPES
from mlx_diffgemma.text.reader import AnswerReader, Stop, parse_answer
from mlx_diffgemma.text.tokenizer import CHAT_MARKERS, Tokenizer, load_tokenizer
from mlx_diffgemma.text.tools import ToolCall

pytestmark = pytest.mark.tokenizer

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures"
STOP = (1, 106, 50)
IMAGE_IDS = ImageIds(begin=255999, soft=258880, end=258882)
TEXTS = [
    "Why is the sky blue?",
    "  two  blanks, one behind ",
    "a\r\nb\r\n\r\nc\n\n\nd\te",
    "😀👨‍👩‍👧🏳️‍🌈🇩🇪👍🏽",
    "שלום עולם، مرحبا بالعالم\u200f!",
    "日本語、한국어, ไทย, हिन्दी",
    "𓀀𒀀 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0010ffff",
    "a\u0301e\u0308 é ﬁ ½",
    "\x00\x01\x7f\ufeff\ufffd",
    "<0x41> <unk> [multimodal]",
    "def f(x):\n    return {'a': [1, 2.50]}  # ok\n",
    "x" * 300 + " " * 40 + "\n" * 35,
]


@pytest.fixture(scope="module")
def real(real_folder: Path) -> Tokenizer:
    return load_tokenizer(real_folder)


def template(real: Tokenizer, name: str) -> Tokenizer:
    """The tokenizer with the chat template of this file in fixtures/."""
    return replace(real, chat_template=(FIXTURES / name).read_text())


# --- the vocabulary


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Why is the sky blue?", [11355, 563, 506, 7217, 3730, 236881]),
        ("thought", [45518]),
        ("\n", [107]),
        ("user", [2364]),
        ("model", [4368]),
        ("system", [9731]),
        ("<bos><|turn>user\nHi<turn|>\n", [2, 105, 2364, 107, 10979, 106, 107]),
        ("<|channel>thought\n<channel|>", [100, 45518, 107, 101]),
        ('<|tool_call>call:f{a:<|"|>', [48, 6639, 236787, 236760, 236782, 236746, 236787, 52]),
    ],
)
def test_known_ids(real: Tokenizer, text: str, ids: list[int]) -> None:
    assert real.encode(text) == ids
    assert real.decode(ids, special=True) == text


def test_every_id_is_there_and_each_marker_is_a_control_token(real: Tokenizer) -> None:
    assert real.vocab_size == 262_144
    names = [real.token_of(index) for index in range(real.vocab_size)]
    assert None not in names
    assert {real.id_of(marker) for marker in CHAT_MARKERS} <= real.control_ids
    assert real.token_of(real.vocab_size) is None
    unused = {i for i, name in enumerate(names) if re.fullmatch(r"<unused\d+>", str(name))}
    writing = set(range(real.vocab_size)) - real.control_ids - unused - {5}  # [multimodal]
    bytes_alone = {i for i in writing if (unit := real.unit(i)) and unit.byte is not None}
    assert (len(writing), len(bytes_alone)) == (255_892, 256)


def test_every_token_adds_the_same_text_wherever_it_stands(real: Tokenizer) -> None:
    """What reading token by token rests on."""
    units = [real.unit(index) for index in range(real.vocab_size)]
    assert all(unit and unit.text == unit.first for unit in units)
    chance = random.Random(0)
    for _ in range(200):
        ids = [chance.randrange(real.vocab_size) for _ in range(50)]
        ids = [token for token in ids if token not in real.control_ids]
        kinds = ["b" if (unit := units[t]) and unit.byte else "t" for t in ids]
        if "bb" not in "".join(kinds):
            assert real.decode(ids) == real.backend.decode(ids)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_survive(real: Tokenizer, text: str) -> None:
    ids = real.encode(text)
    expected = text.replace("<unk>", "")  # written so, it is the control token
    assert real.decode(ids) == expected
    assert real.backend.decode(ids, skip_special_tokens=False) == text


# --- prompts


@pytest.mark.parametrize("think", [False, True])
@pytest.mark.parametrize("name", ["launch.jinja", "second.jinja", "third.jinja"])
def test_prompts(real: Tokenizer, name: str, think: bool) -> None:
    messages = [
        Message("system", "Be brief."),
        Message("user", "Hi 👋"),
        Message("assistant", "<|channel>thought\nHm.<channel|>Hello!"),
        Message("user", "Why is the sky blue?"),
    ]
    ids = render_prompt(template(real, name), messages, think=think).ids
    text = real.decode(ids, special=True)
    assert real.encode(text) == ids
    assert text.startswith("<bos><|turn>system\n")
    assert text.count("<|think|>") == ids.count(98) == think
    assert "Hm." not in text
    tail = [100, 45518, 107, 101] if name == "launch.jinja" and not think else []
    asked = [105, 2364, 107, 11355, 563, 506, 7217, 3730, 236881, 106, 107, 105, 4368, 107]
    assert ids[-len(asked) - len(tail) :] == [*asked, *tail]
    assert Counter(ids)[105] == 5


def pixels(width: int, height: int) -> Pixels:
    rgb = np.zeros((height, width, 3), np.uint8)
    return Pixels(rgb, width, height, Source("a.png", "0" * 64))


@pytest.mark.parametrize("name", ["launch.jinja", "second.jinja", "third.jinja"])
def test_placeholders_of_images(real: Tokenizer, name: str) -> None:
    image, frame = pixels(96, 144), pixels(48, 48)
    clip = Clip((frame, frame), ("00:00", "00:01"), 2.0, Source("a.gif", "1" * 64), 2)
    asked = [Message("user", "Why is the sky blue?", (image, clip))]
    encoded = render_prompt(template(real, name), asked, image_ids=IMAGE_IDS)
    runs = re.findall(
        r"b(s+)e", "".join({255999: "b", 258880: "s", 258882: "e"}.get(i, "-") for i in encoded.ids)
    )
    assert list(map(len, runs)) == [6, 1, 1]
    assert encoded.images == (image, frame, frame)
    assert 258884 not in encoded.ids
    asked = [Message("user", "<|image|>")]
    assert 258880 not in render_prompt(template(real, name), asked, image_ids=IMAGE_IDS).ids


# --- control texts in what users and clients write


@pytest.mark.parametrize("name", ["launch.jinja", "second.jinja", "third.jinja", "tiny-chat"])
def test_control_texts_of_users_are_text(real: Tokenizer, name: str) -> None:
    """tiny-chat's template is Gemma's own with tools."""
    if name == "tiny-chat":
        source = ROOT / "mlx_diffgemma" / "assets" / name / "chat_template.jinja"
        tokenizer = replace(real, chat_template=source.read_text())
        places = {**PLACES, **OF_TOOLS, **RESULTS}
    else:
        tokenizer, places = template(real, name), PLACES
    texts = sorted(text for text in tokenizer.control.texts if "unused" not in text)
    assert len(tokenizer.control.texts) == 6_252
    assert {"[multimodal]", "<|video|>", "<|audio>", *CHAT_MARKERS} <= set(texts)
    for place in places.values():
        for text in [*texts, "<unused0>", "<unused6226>"]:
            require_text(tokenizer, place, text)
    if name != "tiny-chat":
        require_text(tokenizer, PLACES["user"], "".join(sorted(tokenizer.control.texts)))


def test_no_key_that_templates_look_for_has_an_edge_of_a_control_text(real: Tokenizer) -> None:
    assert real.control.edges == {"<", ">", "[", "]"}
    assert all(real.control.edges.isdisjoint(word) for word in KEYS | TYPES | ROLES)


@pytest.mark.parametrize("name", ["launch.jinja", "second.jinja", "third.jinja"])
def test_ordinary_prompts_have_the_ids_of_the_whole_text(real: Tokenizer, name: str) -> None:
    """The README and every page of the documentation, by paragraphs."""
    tokenizer, unchanged = template(real, name), 0
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for paragraph in "\n\n".join(page.read_text() for page in pages).split("\n\n"):
        asked = [{"role": "user", "content": paragraph}]
        whole = render_text(tokenizer, asked)
        if not list(tokenizer.control.spans(paragraph)):
            assert render_turns(tokenizer, asked).ids == real.encode(whole)
            unchanged += 1
    assert unchanged > 500


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_control_texts_are_text(real: Tokenizer, seed: int) -> None:
    chance, texts = random.Random(seed), sorted(real.control.texts)
    named = {*map(real.id_of, texts)}
    for _ in range(200):
        found = [chance.choice(texts) for _ in range(chance.randrange(1, 8))]
        text = "".join(
            each[chance.randrange(3) : len(each) - chance.randrange(3)] for each in found
        )
        ids = real.encode_text(text)
        assert named.isdisjoint(ids)
        assert real.decode(ids) == text


# --- answers


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("Blue.<turn|>", Answer("Blue.", None, ())),
        ("<|channel>thought\n<channel|>Blue.<turn|>", Answer("Blue.", None, ())),
        (
            "<|channel>thought\n 1+1\r\n=2\n<channel|>\n\nZwei 😀",
            Answer("Zwei 😀", "1+1\r\n=2", ()),
        ),
        ("<|channel>thoughts\nx<channel|>y", Answer("xy", None, ())),
        ("<|channel>final\nשלום<channel|>!", Answer("שלום!", None, ())),
        (
            'Ok <|tool_call>call:weather{city:<|"|>Köln 🌧️, {a}<|"|>,days:3}<tool_call|>'
            "<|tool_response>",
            Answer("Ok ", None, (ToolCall("weather", {"city": "Köln 🌧️, {a}", "days": 3}),)),
        ),
        ("<|tool_call>call:f{<tool_call|>", Answer("<|tool_call>call:f{<tool_call|>", None, ())),
    ],
)
def test_answers(real: Tokenizer, written: str, answer: Answer) -> None:
    ids = real.encode(written)
    assert parse_answer(real, ids, STOP) == answer
    reader, shown = AnswerReader(real, STOP), ""
    for count in range(1, len(ids) + 1):
        reader.read(ids[:count], settled=count)
        shown += reader.fresh()
        assert answer.text.startswith(shown) or answer.text.startswith("<|tool_call>")
    assert reader.answer() == answer


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_appears_character_by_character(real: Tokenizer, text: str) -> None:
    """No half characters, and each as soon as its last byte is there."""
    ids, reader, shown = real.encode(text), AnswerReader(real), ""
    whole = real.decode(ids)
    for count in range(1, len(ids) + 1):
        piece = reader.read(ids[:count], settled=count).pieces[-1]
        shown += piece
        assert whole.startswith(shown)
        unit = real.unit(ids[count - 1])
        assert piece or ids[count - 1] in real.control_ids or (unit and unit.byte)
    assert shown == whole


@pytest.mark.parametrize("seed", range(6))
def test_random_ids_read_in_segments_are_the_whole(real: Tokenizer, seed: int) -> None:
    chance = random.Random(seed)
    markers = [100, 101, 48, 49, 52, 45518, 107, 0, 2]
    for _ in range(60):
        ids = [
            chance.choice([chance.randrange(262_144), 238 + chance.randrange(256), *markers])
            for _ in range(chance.randrange(1, 60))
        ]
        ids += real.encode(chance.choice(TEXTS))
        reader, shown, pieces, place = AnswerReader(real, STOP), "", "", 0
        while place < len(ids):
            segment = ids[place : place + chance.randrange(1, 30)]
            place += len(segment)
            if chance.random() < 0.5:
                for count in range(1, len(segment) + 1):
                    reader.read(segment[:count], settled=count)
                    shown += reader.fresh()
            else:
                reader.read(chance.sample(ids, len(segment)))
            pieces += reader.finish(segment, last=place == len(ids)).text
            shown += reader.fresh()
        assert pieces == real.decode(ids)
        assert reader.answer() == plain_answer(real, ids, STOP)
        assert shown == reader.answer().text


def test_a_stop_text_ends_within_a_token(real: Tokenizer) -> None:
    """Its last characters may come with others, in one token."""
    ids = real.encode("The sky is blue because of scattering")
    reader = AnswerReader(real, STOP, ["sky is bl"])
    reader.finish(ids)
    assert reader.stopped == Stop(4, 4, "sky is bl")
    assert (reader.answer().text, reader.fresh()) == ("The ", "The ")


def test_a_token_of_a_long_answer_is_decoded_once(
    real: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = real.encode(" ".join(TEXTS[:9]) * 40)
    added: list[int] = []
    add = Decoder.add

    def counted(decoder: Decoder, token: int) -> str:
        added.append(token)
        return add(decoder, token)

    monkeypatch.setattr(Decoder, "add", counted)
    reader, text = AnswerReader(real, STOP, ["never written"]), ""
    for place in range(0, len(ids), 256):
        segment = ids[place : place + 256]
        for count in range(1, len(segment) + 1):
            reader.read(segment[:count], settled=count)
            text += reader.fresh()
        reader.finish(segment)
    assert added == ids
    assert text == real.decode(ids)


# --- templates


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    return [[...]]\n",
        "[[3]] the sky[[3]] is[[3]]",
        "a [[2]]\r\n[[2]]é😀[[2]]𓀀",
        'שלום [[4]] עולם {"a": "[[...]]", "b": [[2]]}',
        "Dear [[2]],\n\n    [[...]]\n\tYours\u200f, 👨‍👩‍👧[[1]]",
    ],
)
def test_the_text_around_holes_is_pinned_to_the_letter(real: Tokenizer, source: str) -> None:
    """Ids are split where holes begin and end: each text is encoded alone."""
    written = read_template(source)
    pinned = token_template(written, real, STOP)
    assert tuple(map(real.decode, pinned.texts)) == written.texts
    hole = real.encode("the")
    ids = [token for text in pinned.texts for token in (*text, *hole)][: -len(hole)]
    assert real.decode(ids) == "the".join(written.texts)


def test_a_text_that_does_not_survive_its_tokens_is_refused(real: Tokenizer) -> None:
    """The tokenizer takes this sign for a blank."""
    with pytest.raises(PromptError, match="survive"):
        token_template(read_template("a▁b [[1]]"), real, STOP)


# --- the script that made the folder


def test_the_script_leaves_what_is_there(real_folder: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "gemma_tokenizer.py")]
    before = (real_folder / "tokenizer.json").stat()
    again = subprocess.run([*script, str(real_folder)], capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, "")
    assert (real_folder / "tokenizer.json").stat() == before


# --- answers to learn


@pytest.mark.parametrize("name", ["launch.jinja", "second.jinja", "third.jinja"])
@pytest.mark.parametrize("thinking", [None, "7 + 5 = 12,\n carry 1."])
def test_prompt_and_answer_are_what_one_text_would_be(
    real: Tokenizer, name: str, thinking: str | None
) -> None:
    """No token reaches from the prompt into the answer, nor from a thought into the text."""
    tokenizer = template(real, name)
    for text in TEXTS:
        said = {"role": "assistant", "content": text, "thinking": thinking}
        user = text.replace("<unk>", "").replace("[multimodal]", "")  # there they are text
        dialogue = Dialogue([{"role": "user", "content": user}, said])
        found = render_exchange(tokenizer, dialogue, STOP, 1)
        asked = render_prompt(tokenizer, [Message("user", user)], think=thinking is not None)
        assert found.prompt == asked
        thought = f"<|channel>thought\n{thinking}\n<channel|>" if thinking else ""
        written = f"{tokenizer.decode(asked.ids, special=True)}{thought}{text.strip()}<turn|>"
        assert [*found.prompt.ids, *found.answer] == real.encode(written)
        answer = parse_answer(tokenizer, found.answer, STOP)
        shown = text.strip().replace("<unk>", "")  # a control token, wherever it stands
        assert (answer.text, answer.thinking) == (shown, thinking)


# --- labels of decisions


@pytest.mark.parametrize(("form", "pairs"), [(LINES, 590), (INDEXED, 653)])
def test_one_slot_has_labels_for_255_options(real: Tokenizer, form: Form, pairs: int) -> None:
    """As many pairs of capitals are one token behind `1: `, and behind a bare 1."""
    labels, at = Labels(real), ("questions", "q", "criteria")  # type: ignore[arg-type]
    assert labels.of(Noul("?"), form, at) == ("yes", "no")
    assert labels.of(Score("?", ["level"] * 10), form, at) == tuple("0123456789")
    many = labels.of(Choice("?", {str(i): None for i in range(255)}), form, at)
    assert many[:52] == LETTERS
    lead = form.lead.format(number=1)
    assert len({real.encode(f"{lead}{label}")[-1] for label in many}) == 255
    assert len(labels.found[form, PAIRS]) == pairs
