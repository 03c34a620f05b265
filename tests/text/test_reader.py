"""An answer read as it comes: its text, and the parts that its tokens play in it."""

import random

import pytest
from plain_answer import plain_answer

from mlx_diffgemma.text.decoder import Decoder
from mlx_diffgemma.text.pieces import ANSWER, THINKING, Parts
from mlx_diffgemma.text.reader import AnswerReader, parse_answer
from mlx_diffgemma.text.tokenizer import Tokenizer
from mlx_diffgemma.text.tools import ToolCall

BYTE = 200  # the id of <0x00>
STOP, OPEN, CLOSE, PAD = 106, 100, 101, 0
TEXTS = [
    "the sky",
    "é",
    "日本語 is",
    "😀!",
    "tab\tand\nline",
    " ",
    "a\u0301b",
    "👨‍👩‍👧",
    "\x00\x7f",
]


@pytest.fixture
def reader(tokenizer: Tokenizer) -> AnswerReader:
    return AnswerReader(tokenizer, [1, STOP])


def text(parts: Parts, role: str) -> str:
    """The pieces of one role."""
    return "".join(p for p, r in zip(parts.pieces, parts.roles, strict=True) if r == role)


@pytest.mark.parametrize("written", TEXTS)
def test_the_pieces_of_a_text_are_the_text(reader: AnswerReader, written: str) -> None:
    ids = reader.tokenizer.encode(written)
    parts = reader.read(ids)
    assert len(parts.pieces) == len(parts.roles) == len(ids)
    assert "".join(parts.pieces) == written
    assert set(parts.roles) <= {ANSWER}


def test_a_character_of_several_tokens_is_the_last_ones(reader: AnswerReader) -> None:
    ids = [BYTE + byte for byte in "😀é".encode()]
    assert reader.read(ids).pieces == ("", "", "", "😀", "", "é")


def test_half_a_character_leaves_the_whole_ones_beside_it_alone(reader: AnswerReader) -> None:
    euro, half = (BYTE + b for b in "€".encode()), (BYTE + b for b in b"\xf0\x9f")
    ids = [*euro, *half, *reader.tokenizer.encode("sky")]
    assert "".join(reader.read(ids).pieces) == "€\ufffd\ufffdsky"
    assert reader.read([BYTE + 0x80]).pieces == ("\ufffd",)


def test_a_character_may_begin_in_the_canvas_before(reader: AnswerReader) -> None:
    first, second = ([BYTE + b for b in part] for part in (b"\xf0\x9f", b"\x98\x80"))
    reader.finish(first)
    assert reader.read(second).pieces == ("", "😀")
    assert reader.read(second).pieces == ("", "😀")  # reading changes nothing


def test_what_a_byte_looks_like_is_no_byte(reader: AnswerReader) -> None:
    """Letters that spell <0x41> are letters."""
    assert "".join(reader.read(reader.tokenizer.encode("<0x41>")).pieces) == "<0x41>"


def test_roles(reader: AnswerReader) -> None:
    encode = reader.tokenizer.encode
    thought, said = encode("thought\nhm"), encode("Hi")
    ids = [OPEN, *thought, CLOSE, *said, STOP, *encode("no"), PAD]
    roles = "c" + "t" * len(thought) + "c" + "a" * len(said) + "c" + "b" * 3
    assert reader.read(ids).roles == roles


def test_a_thought_goes_on_in_the_next_canvas(reader: AnswerReader) -> None:
    encode = reader.tokenizer.encode
    reader.finish([OPEN, *encode("tho")])
    assert set(reader.finish(encode("ught\nhm")).roles) == {THINKING}
    assert reader.read([*encode("hm"), CLOSE, *encode("Hi")]).roles == "ttcaa"


@pytest.mark.parametrize("written", ["final\nHi", "thorough\nHi", "thoughts\nHi", "thou"])
def test_another_channel_is_a_part_of_the_answer(reader: AnswerReader, written: str) -> None:
    """Its first tokens, too, once the name tells it from a thought."""
    parts = reader.read([OPEN, *reader.tokenizer.encode(written), CLOSE])
    assert parts.roles == "c" + "a" * (len(parts.roles) - 2) + "c"


def test_a_control_token_ends_a_character(reader: AnswerReader) -> None:
    first, second = BYTE + 0xC3, BYTE + 0xA9
    assert reader.read([first, PAD, second]).text == "\ufffd\ufffd"
    assert reader.tokenizer.decode([first, PAD, second]) == "\ufffd\ufffd"
    assert reader.tokenizer.decode([PAD, first, second]) == "é"


def test_finished_text_is_not_decoded_again(
    reader: AnswerReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was, at every frame: a token cost the more the longer the answer was."""
    decoded: list[int] = []
    add = Decoder.add

    def counted(decoder: Decoder, token: int) -> str:
        decoded.append(token)
        return add(decoder, token)

    monkeypatch.setattr(Decoder, "add", counted)
    written = reader.tokenizer.encode("the sky 😀 " * 40)
    for count in range(1, len(written) + 1):
        reader.read(written[:count], settled=count)
    reader.finish(written)
    assert decoded == written
    reader.read(written[:9])
    reader.read(written[:9])
    assert len(decoded) == len(written) + 2 * 9


def test_text_that_stays_is_handed_out_once(reader: AnswerReader) -> None:
    """Blanks wait for a thought, the beginning of a stop text for its rest."""
    reader = AnswerReader(reader.tokenizer, [STOP], ["END"])
    encode, fresh = reader.tokenizer.encode, list[str]()
    for ids in (encode("\n"), [OPEN, *encode("thought\nhm"), CLOSE], encode(" a"), encode("EN")):
        reader.finish(ids)
        fresh.append(reader.fresh())
    assert fresh == ["", "", "a", ""]
    reader.finish([*encode("EN"), STOP])
    assert (reader.fresh(), reader.fresh(), reader.stopped) == ("ENEN", "", None)


def test_what_a_thought_says_is_handed_out_once(reader: AnswerReader) -> None:
    """Blanks at its end wait; its name counts as a token, its markers do not."""
    encode, fresh = reader.tokenizer.encode, list[str]()
    for ids in ([OPEN, *encode("thou")], encode("ght\n a "), encode("b"), [CLOSE, *encode("x")]):
        reader.finish(ids)
        fresh.append(reader.fresh_thought())
    reader.finish([OPEN, *encode("thought"), CLOSE, OPEN, *encode("thought\nc"), CLOSE])
    assert [*fresh, reader.fresh_thought()] == ["", "a", " b", "", "\nc"]
    name = len(encode("thou")) + len(encode("ght"))
    assert reader.thought_tokens == name + len(encode("\n a b")) + 2 * len(encode("thought")) + 2


def test_a_call_that_crosses_segments_is_handed_out_whole(reader: AnswerReader) -> None:
    ids = reader.tokenizer.encode('Ask.<|tool_call>call:a{b:<|"|>c<|"|>}<tool_call|>')
    given = list[tuple[str, int]]()
    for token in ids:
        reader.finish([token])
        given.append((reader.fresh(), len(reader.fresh_calls())))
    assert given[-1] == ("", 1)
    assert "".join(text for text, _ in given) == "Ask."


def test_a_character_cut_by_the_end_is_shown_as_such(reader: AnswerReader) -> None:
    half = [BYTE + 0xF0, BYTE + 0x9F]
    assert (reader.read(half, settled=2).text, reader.answer().text) == ("", "\ufffd\ufffd")
    assert reader.finish(half, last=True).text == reader.fresh() == "\ufffd\ufffd"


def test_roles_agree_with_the_parsed_answer(reader: AnswerReader) -> None:
    """Random ids, cut into canvases anywhere: the answer's pieces are the answer."""
    chance = random.Random(0)
    encode = reader.tokenizer.encode
    words = [encode(w) for w in ("the", " sky", "é", "\n", "thought\n")]
    for _ in range(200):
        ids: list[int] = []
        inside = False
        for _ in range(30):
            if chance.random() < 0.15:
                ids += [CLOSE] if inside else [OPEN, *words[-1]]
                inside = not inside
            ids += chance.choice(words)
        ids += [STOP] * chance.randrange(2)
        middle = chance.randrange(len(ids))
        fresh = AnswerReader(reader.tokenizer, [1, STOP])
        shown = text(fresh.finish(ids[:middle]), ANSWER) + text(fresh.read(ids[middle:]), ANSWER)
        assert shown.strip() == parse_answer(reader.tokenizer, ids, [1, STOP]).text.strip()


# --- against the plain definition

WORDS = ("the sky", "thought\n", "thought", "thou", "final\n", "call:a{n:1}", "call:a{", " ", "\n")
CALLS = ("call:a{b:", "c", ",", "}", "[", "]", "d:", " ")
LETTERS = ("E", "N", "D", "é", "😀", "\r\n", "שלום", "َع", "\u200f", "👨‍👩‍👧")
MARKERS = ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>', "<bos>")


def random_ids(chance: random.Random, tokenizer: Tokenizer, length: int) -> list[int]:
    """Ids of words, of markers in any order, of single bytes, and of no token."""
    ids: list[int] = []
    while len(ids) < length:
        kind = chance.random()
        if kind < 0.4:
            ids += tokenizer.encode(chance.choice(WORDS + CALLS))
        elif kind < 0.7:
            ids += tokenizer.encode(chance.choice(LETTERS))
        elif kind < 0.95:
            ids += tokenizer.encode(chance.choice(MARKERS))
        else:
            ids.append(chance.choice([BYTE + chance.randrange(256), 150, 10_000, PAD]))
    return ids


def cut(chance: random.Random, ids: list[int]) -> list[list[int]]:
    """`ids` in up to four segments."""
    places = sorted(chance.randrange(len(ids) + 1) for _ in range(chance.randrange(4)))
    return [ids[a:b] for a, b in zip([0, *places], [*places, len(ids)], strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_read_piece_by_piece_is_the_whole_ones(tokenizer: Tokenizer, seed: int) -> None:
    """Any ids in any segments, canvases denoised and tokens written: what is shown stays."""
    chance = random.Random(seed)
    for _ in range(30):
        ids = random_ids(chance, tokenizer, chance.randrange(1, 30))
        ids += [STOP] * chance.randrange(2)
        reader, shown, pieces = AnswerReader(tokenizer, [1, STOP]), "", ""
        thought, calls = "", list[ToolCall]()
        segments = cut(chance, ids)
        for number, segment in enumerate(segments):
            one_by_one = chance.random() < 0.5
            for count in range(len(segment)):
                if one_by_one:
                    reader.read(segment[: count + 1], settled=count + 1)
                    shown += reader.fresh()
                    thought += reader.fresh_thought()
                    calls += reader.fresh_calls()
                else:
                    reader.read(chance.sample(segment, len(segment)))
            parts = reader.finish(segment, last=number == len(segments) - 1)
            assert len(parts.pieces) == len(parts.roles) == len(segment)
            pieces += parts.text
            shown += reader.fresh()
            thought += reader.fresh_thought()
            calls += reader.fresh_calls()
        answer = reader.answer()
        assert answer == plain_answer(tokenizer, ids, [1, STOP]), ids
        assert (shown, thought or None, tuple(calls)) == (
            answer.text,
            answer.thinking,
            answer.tool_calls,
        ), ids
        assert pieces == tokenizer.decode(ids), ids


@pytest.mark.parametrize("seed", range(2))
def test_at_every_token_the_answer_is_the_plain_one(tokenizer: Tokenizer, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(10):
        ids = random_ids(chance, tokenizer, 25)
        reader, shown = AnswerReader(tokenizer), ""
        for count in range(1, len(ids) + 1):
            reader.read(ids[:count], settled=count)
            shown += reader.fresh()
            answer = reader.answer()
            assert answer == plain_answer(tokenizer, ids[:count]), ids[:count]
            assert answer.text.startswith(shown)


@pytest.mark.parametrize("seed", range(3))
def test_the_first_stop_text_is_found_with_the_token_that_completes_it(
    tokenizer: Tokenizer, seed: int
) -> None:
    """Without calls and other channels, whose text comes late."""
    chance, found = random.Random(seed), 0
    texts = ["E", "N", "D", "EN", "the sky", " ", "\n", "😀", "<|channel>thought\nEND<channel|>"]
    for _ in range(40):
        ids = [id for _ in range(12) for id in tokenizer.encode(chance.choice(texts))]
        stops = chance.sample(["END", "ND", "NN", "DE", "\n ", "sky", "😀", "EE the"], 2)
        reader, shown, end = AnswerReader(tokenizer, stops=stops), "", len(ids)
        for count in range(1, end + 1):
            text = plain_answer(tokenizer, ids[:count]).text
            reader.read(ids[:count], settled=count)
            shown += reader.fresh()
            if first := [at for stop in stops if (at := text.find(stop)) >= 0]:
                assert reader.stopped is not None
                assert (reader.stopped.tokens, reader.stopped.at) == (count, min(first))
                assert text[min(first) :].startswith(reader.stopped.text)
                assert shown == reader.answer().text == text[: min(first)]
                found += 1
                break
            assert reader.stopped is None
            assert reader.answer().text == text
    assert found > 10
