"""Texts token by token, whatever decoder of the library they have to equal."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from facts import raises
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from mlx_diffgemma.errors import CheckpointError
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

WORDS = ["<unk>", "▁the", "▁sky", "a", "##ing", "▁", ".", "é", "'s", " b", "▁▁"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
BLANK = decoders.Replace("▁", " ")


def load(folder: Path, decoder: object) -> Tokenizer:
    """A tokenizer of words and bytes with this decoder."""
    vocab = {token: index for index, token in enumerate([*WORDS, *BYTES])}
    backend = Backend(models.WordLevel(vocab, unk_token="<unk>"))
    if decoder is not None:
        backend.decoder = decoder
    backend.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


@pytest.mark.parametrize(
    "decoder",
    [
        None,  # joins tokens with blanks
        decoders.Fuse(),
        decoders.Sequence([BLANK, decoders.ByteFallback(), decoders.Fuse()]),
        decoders.Sequence([BLANK, decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        decoders.Sequence([BLANK, decoders.Strip(" ", 1, 0), decoders.Fuse()]),
        decoders.Metaspace(),
        decoders.Metaspace(prepend_scheme="never"),
        decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()]),
        decoders.WordPiece(),
    ],
    ids=["none", "fuse", "gemma", "strip", "strip-each", "first", "never", "sequence", "wordpiece"],
)
def test_the_blank_of_the_first_token_is_not_that_of_others(
    tmp_path: Path, decoder: object
) -> None:
    tokenizer, chance = load(tmp_path, decoder), random.Random(0)
    for _ in range(200):
        ids = [chance.randrange(1, len(WORDS)) for _ in range(chance.randrange(1, 9))]
        assert tokenizer.decode(ids) == tokenizer.backend.decode(ids), ids


@pytest.mark.parametrize("decoder", [decoders.ByteLevel(), decoders.BPEDecoder(), decoders.CTC()])
def test_a_decoder_that_looks_at_more_than_a_token_is_refused(
    tmp_path: Path, decoder: object
) -> None:
    """Read token by token its text would be another, without a word."""
    facts = type(decoder).__name__, "expected Gemma's ... download"
    with raises(CheckpointError, tmp_path / "tokenizer.json", "decoder", *facts):
        load(tmp_path, decoder)
    with raises(CheckpointError, tmp_path / "tokenizer.json", "decoder", *facts):
        load(tmp_path, decoders.Sequence([decoders.Fuse(), decoder]))


def test_a_run_of_bytes_equals_the_librarys_where_it_is_text(tmp_path: Path) -> None:
    decoder = decoders.Sequence([BLANK, decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = load(tmp_path, decoder)
    for text in ("é", "😀日本", "\r\n", "\x00\x7f", "\U0010ffff", "a\u0301"):
        ids = [len(WORDS) + byte for byte in text.encode()]
        assert tokenizer.decode(ids) == tokenizer.backend.decode(ids) == text
    for wrong in (b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff\xfe", b"\x80" * 3):
        ids = [len(WORDS) + byte for byte in wrong]
        assert tokenizer.decode(ids) == tokenizer.backend.decode(ids) == "\ufffd" * len(wrong)


def test_a_broken_byte_leaves_whole_characters_alone(tmp_path: Path) -> None:
    """The library makes U+FFFD of all of the run."""
    decoder = decoders.Sequence([BLANK, decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = load(tmp_path, decoder)
    ids = [len(WORDS) + byte for byte in b"\xe2\x82\xac\xff\xc3\xa9\xf0\x9f"]
    assert tokenizer.decode([*ids, 3]) == "€\ufffdé\ufffd\ufffda"
    assert "€" not in tokenizer.backend.decode([*ids, 3])
