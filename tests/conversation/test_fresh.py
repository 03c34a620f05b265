"""What is certain of an answer as it comes: piece by piece it is the whole, and stays."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.constrain.form import stripped
from mlx_diffgemma.constrain.machine import Channel
from mlx_diffgemma.conversation.formed import FormReader, JsonText
from mlx_diffgemma.conversation.reply import Fresh
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.conversation.turn import Turn
from mlx_diffgemma.text.reader import parse_answer
from mlx_diffgemma.text.token_bytes import token_bytes
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

WEATHER = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
HALVES = range(100, 104)  # tokens
CALL = '<|tool_call>call:weather{city:<|"|>Ulm<|"|>}<tool_call|>'


# --- an answer with a form, in any pieces


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """tiny-chat's."""
    folder = embedded_folder("tiny-chat")
    assert folder is not None
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def texts(tokenizer: Tokenizer) -> Any:
    """The bytes of each token; a few that no text needs write halves of characters."""
    found = list(token_bytes(tokenizer, tokenizer.vocab_size))
    for token, part in zip(HALVES, (b"\xc3", b"\xa9", b"\xf0\x9f", b"\x98\x80"), strict=True):
        found[token] = part
    return found


def form_of(kind: str, texts: Any, tokenizer: Tokenizer, *, calls: bool) -> Any:
    opening, closing = map(tokenizer.id_of, ("<|channel>", "<channel|>"))
    assert opening is not None
    assert closing is not None
    form = SimpleNamespace(kind=kind, calls=calls)
    return SimpleNamespace(
        form=form, vocabulary=SimpleNamespace(texts=texts), channel=Channel(opening, closing)
    )


def pieces_of(reader: FormReader, ids: list[int], chance: random.Random) -> list[Fresh]:
    """What comes of ids in segments, denoised ones and those written token by token."""
    found: list[Fresh] = []

    def take() -> None:
        found.append(Fresh(reader.fresh(), reader.fresh_thought(), reader.fresh_calls()))

    cuts = sorted(chance.randrange(len(ids) + 1) for _ in range(chance.randrange(4)))
    for first, last in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        segment = ids[first:last]
        for count in range(len(segment)):
            if chance.random() < 0.5:
                reader.read(segment[: count + 1], settled=count + 1)
                take()
            else:
                reader.read(chance.sample(ids, min(3, len(ids))))
        reader.finish(segment, last=last == len(ids))
        take()
    return found


def heads(tokenizer: Tokenizer) -> list[tuple[str, str | None]]:
    """Thoughts in front of a text, and what they say."""
    return [
        ("", None),
        ("<|channel>thought\nHm. \n<channel|>", "Hm."),
        ("<|channel>thought\n\n<channel|>", None),
        ("<|channel>final\n well <channel|>", "well"),
        ("<|channel>thou", None),
        ("<|channel>thought\n Hm", "Hm"),
    ]


PARTS = ("```", "json", "\n", " ", "`", "{", '"a"', "``", "js", "12", "}", "[```]")


def bodies(kind: str, chance: random.Random) -> str:
    """A text: of JSON in what might be a fence, or any."""
    if kind == "tools":
        return CALL * chance.randrange(1, 3)
    return "".join(chance.choice(PARTS) for _ in range(chance.randrange(12)))


@pytest.mark.parametrize(
    ("kind", "calls_beside"),
    [("schema", False), ("pattern", False), ("tools", True), ("schema", True), ("pattern", True)],
)
def test_the_pieces_of_an_answer_with_a_form_are_the_whole(
    tokenizer: Tokenizer, texts: Any, kind: str, calls_beside: bool
) -> None:
    chance, stop = random.Random(kind), tokenizer.id_of("<turn|>")
    assert stop is not None
    form = form_of(kind, texts, tokenizer, calls=calls_beside)
    for number in range(120):
        head, thought = heads(tokenizer)[number % 6]
        open_head = head and not head.endswith("<channel|>")
        body = "tools" if calls_beside and chance.random() < 0.5 else kind
        ids = [] if open_head else tokenizer.encode(bodies(body, chance))
        if body == "pattern" and not open_head:
            ids += [chance.choice(HALVES) for _ in range(chance.randrange(4))]
        written = b"".join(texts[token] or b"" for token in ids).decode(errors="replace")
        whole = {"schema": stripped(written), "pattern": written, "tools": ""}[body]
        calls = parse_answer(tokenizer, ids).tool_calls if body == "tools" else ()
        ids = [*tokenizer.encode(head), *ids, *[stop] * chance.randrange(3)]
        reader = FormReader(tokenizer, form, {stop}, [WEATHER])
        pieces = pieces_of(reader, ids, chance) if ids else []
        assert "".join(piece.text for piece in pieces) == (whole if ids else "")
        assert ("".join(piece.thought for piece in pieces) or None) == thought
        assert tuple(call for piece in pieces for call in piece.calls) == calls
        answer = reader.answer()
        assert (answer.text, answer.thinking, answer.tool_calls) == (whole, thought, calls)


def test_json_comes_as_it_is_written_but_for_what_a_fence_may_be_made_of() -> None:
    text, found = JsonText(), list[str]()
    for part in ("\n`", "``", "j", "son\n", '{"a": 1', " ", ', "b": "``` "}', "\n``", "`\n", ""):
        text.add(part.encode())
        found.append(text.fresh())
    text.end()
    assert found == [
        "",
        "",
        "",
        "",
        '{"a": 1',
        "",
        ' , "b": "``` "}'.replace(" ,", " ,"),
        "",
        "",
        "",
    ]
    assert text.fresh() == ""
    assert text.text == '{"a": 1 , "b": "``` "}'


# --- a turn


def pieces(turn: Turn) -> list[Fresh]:
    """What every frame of a turn makes certain."""
    return [turn.fresh() for _ in turn]


QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("What is the capital of France?", {}),
    ("Is 12 greater than 4? Answer yes or no.", {"think": True}),
    ("Count from 1 to 9.", {"stop": ("6",)}),
    ("What is the weather in Rome?", {"tools": [WEATHER]}),
    ("What is the weather in Rome?", {"tools": [WEATHER], "tool_choice": "required"}),
    ("Is 12 greater than 4? Answer yes or no.", {"choices": ["yes", "no"], "think": True}),
    (
        "Make JSON: name Anna, age 23.",
        {"schema": {"properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}},
    ),
]


ASKED = [
    pytest.param(
        *(mode, *question),
        marks=[pytest.mark.slow] if mode == "diffusion" and "think" in question[1] else (),
    )
    for mode in ("diffusion", "ar")
    for question in QUESTIONS
]


@pytest.mark.parametrize(("mode", "prompt", "options"), ASKED)
def test_a_turns_pieces_are_its_reply(
    chat: Session, mode: Any, prompt: str, options: dict[str, Any]
) -> None:
    turn = chat.turn(prompt, seed=7, mode=mode, max_tokens=60, **options)
    found, reply = pieces(turn), turn.reply()
    assert "".join(piece.text for piece in found) == reply.text
    assert ("".join(piece.thought for piece in found) or None) == reply.thinking
    assert tuple(call for piece in found for call in piece.calls) == reply.tool_calls
    assert reply.text or reply.tool_calls
    assert turn.fresh(rest=True) == Fresh()


def test_json_by_a_schema_comes_token_by_token(chat: Session) -> None:
    prompt, options = QUESTIONS[-1]
    turn = chat.turn(prompt, seed=7, mode="ar", **options)
    assert sum(bool(piece.text) for piece in pieces(turn)) > 5


def test_an_answer_that_is_given_up_has_a_rest(chat: Session) -> None:
    turn = chat.turn("Count from 1 to 9.", seed=7, mode="ar", stop=(", 5!",))
    frames = iter(turn)
    said = ""
    while "4" not in said:
        next(frames)
        said += turn.fresh().text
    next(frames)
    next(frames)
    assert (turn.fresh().text, said + turn.fresh(rest=True).text) == ("", turn.reply().text)


def test_an_answer_that_goes_on_tells_its_rest(chat: Session) -> None:
    first = chat.ask("Count from 1 to 9.", seed=7, mode="ar", max_tokens=10)
    turn = chat.more_turn(seed=7, mode="ar")
    rest = "".join(piece.text for piece in pieces(turn))
    assert first.text + rest == turn.reply().text


def test_tokens_of_a_thought_are_counted(chat: Session) -> None:
    """Those between the markers, the channel's name among them."""
    tokenizer, prompt = chat.tokenizer, "Is 12 greater than 4? Answer yes or no."
    for form in ({}, {"choices": ["yes", "no"]}):
        turn = chat.turn(prompt, seed=7, think=True, mode="ar", **form)
        assert turn.thought_tokens == 0
        for _ in turn:
            pass
        ids = list(turn.reply().token_ids)
        opening, closing = (ids.index(tokenizer.id_of(m)) for m in ("<|channel>", "<channel|>"))
        assert turn.thought_tokens == closing - opening - 1 > 5
        chat.reset()


def test_repairs_of_calls_are_remarks(chat: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The declared tools reach the parser; an answer that ends inside a call says so."""
    turn = chat.turn("What is the weather in Rome?", tools=[WEATHER])
    written = CALL.replace('<|"|>Ulm<|"|>', "42") + CALL.removesuffix("<tool_call|>")
    ids = chat.tokenizer.encode(written)
    monkeypatch.setattr("mlx_diffgemma.conversation.segments.Segments.ids", ids)
    assert turn.reply().tool_calls[0].arguments == {"city": "42"}
    assert turn.remarks == (
        "the call of weather had 42 for city, whose type is string; it was read all the same.",
        "the answer ends inside a call of a tool, which is left out.",
    )
