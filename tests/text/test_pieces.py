"""Tokens as texts of their own, and the parts they play in an answer."""

import random

import pytest

from mlx_diffgemma.text.chat import parse_answer
from mlx_diffgemma.text.pieces import ANSWER, THINKING, Parts, PieceReader
from mlx_diffgemma.text.tokenizer import Tokenizer

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
def reader(tokenizer: Tokenizer) -> PieceReader:
    return PieceReader(tokenizer, [1, STOP])


def text(parts: Parts, role: str) -> str:
    """The pieces of one role."""
    return "".join(p for p, r in zip(parts.pieces, parts.roles, strict=True) if r == role)


@pytest.mark.parametrize("written", TEXTS)
def test_the_pieces_of_a_text_are_the_text(reader: PieceReader, written: str) -> None:
    ids = reader.tokenizer.encode(written)
    parts = reader.read(ids)
    assert len(parts.pieces) == len(parts.roles) == len(ids)
    assert "".join(parts.pieces) == written
    assert set(parts.roles) <= {ANSWER}


def test_a_character_of_several_tokens_is_the_last_ones(reader: PieceReader) -> None:
    ids = [BYTE + byte for byte in "😀é".encode()]
    assert reader.read(ids).pieces == ("", "", "", "😀", "", "é")


def test_half_a_character_leaves_the_whole_ones_beside_it_alone(reader: PieceReader) -> None:
    euro, half = (BYTE + b for b in "€".encode()), (BYTE + b for b in b"\xf0\x9f")
    ids = [*euro, *half, *reader.tokenizer.encode("sky")]
    assert "".join(reader.read(ids).pieces) == "€\ufffdsky"
    assert reader.read([BYTE + 0x80]).pieces == ("\ufffd",)


def test_a_character_may_begin_in_the_canvas_before(reader: PieceReader) -> None:
    first, second = ([BYTE + b for b in part] for part in (b"\xf0\x9f", b"\x98\x80"))
    reader.finish(first)
    assert reader.read(second).pieces == ("", "😀")
    assert reader.read(second).pieces == ("", "😀")  # reading changes nothing


def test_what_a_byte_looks_like_is_no_byte(reader: PieceReader) -> None:
    """Letters that spell <0x41> are letters."""
    assert "".join(reader.read(reader.tokenizer.encode("<0x41>")).pieces) == "<0x41>"


def test_roles(reader: PieceReader) -> None:
    encode = reader.tokenizer.encode
    thought, said = encode("thought\nhm"), encode("Hi")
    ids = [OPEN, *thought, CLOSE, *said, STOP, *encode("no"), PAD]
    roles = "c" + "t" * len(thought) + "c" + "a" * len(said) + "c" + "b" * 3
    assert reader.read(ids).roles == roles


def test_a_thought_goes_on_in_the_next_canvas(reader: PieceReader) -> None:
    encode = reader.tokenizer.encode
    reader.finish([OPEN, *encode("tho")])
    assert set(reader.finish(encode("ught\nhm")).roles) == {THINKING}
    assert reader.read([*encode("hm"), CLOSE, *encode("Hi")]).roles == "ttcaa"


def test_another_channel_is_a_part_of_the_answer(reader: PieceReader) -> None:
    parts = reader.read([OPEN, *reader.tokenizer.encode("final\nHi"), CLOSE])
    assert parts.roles == "c" + "a" * (len(parts.roles) - 2) + "c"


def test_roles_agree_with_the_parsed_answer(reader: PieceReader) -> None:
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
        fresh = PieceReader(reader.tokenizer, [1, STOP])
        shown = text(fresh.finish(ids[:middle]), ANSWER) + text(fresh.read(ids[middle:]), ANSWER)
        assert shown.strip() == parse_answer(reader.tokenizer, ids, [1, STOP]).text.strip()
