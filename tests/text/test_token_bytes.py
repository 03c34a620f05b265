"""The bytes of each token against its unit, as the decoder writes it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.text.token_bytes import control_ids, token_bytes
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer


def expected(tokenizer: Tokenizer, size: int) -> list[bytes | None]:
    """The same by `unit`, token by token."""
    control = control_ids(tokenizer, tokenizer.backend.get_vocab(with_added_tokens=True))
    texts: list[bytes | None] = []
    for index in range(size):
        unit = None if index in control else tokenizer.unit(index)
        texts.append((unit.byte or unit.text.encode() or None) if unit else None)
    return texts


def names(tokenizer: Tokenizer, size: int) -> set[str | None]:
    """The names of tokens that write nothing."""
    texts = token_bytes(tokenizer, size)
    return {tokenizer.token_of(index) for index, text in enumerate(texts) if text is None}


@pytest.mark.parametrize("model", ["tiny-chat", "tiny-sudoku"])
def test_embedded_vocabularies(model: str) -> None:
    tokenizer = load_tokenizer(Path(str(embedded_folder(model))))
    assert token_bytes(tokenizer, 140) == expected(tokenizer, 140)
    assert token_bytes(tokenizer, 128)[ord("{")] == b"{"
    assert token_bytes(tokenizer, 60) == expected(tokenizer, 60)
    assert {"<pad>", "<eos>", "<turn|>", "<|image|>"} <= names(tokenizer, 128)


def test_bytes_and_blanks(tokenizer: Tokenizer) -> None:
    size = tokenizer.vocab_size
    texts = token_bytes(tokenizer, size + 3)
    assert texts == expected(tokenizer, size + 3)
    assert texts[-3:] == [None] * 3
    assert {bytes((b,)) for b in range(256)} <= set(texts)
    assert b" " in texts


@pytest.mark.parametrize(
    "decoder",
    [
        decoders.Metaspace(),
        decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        ),
        decoders.WordPiece(),
    ],
    ids=["Metaspace", "Strip", "WordPiece"],
)
def test_a_decoder_that_is_not_known_is_asked(
    folder: Path, backend: Backend, decoder: object
) -> None:
    backend.decoder = decoder
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    assert token_bytes(tokenizer, 700) == expected(tokenizer, 700)


def test_what_a_template_names_writes_nothing(with_template: Callable[[str], Tokenizer]) -> None:
    tokenizer = with_template("{{ bos_token }}<|turn>user<new>{{ messages[0].content }}")
    tokenizer.backend.add_tokens(["<new>", "<other>", "<unused7>", "<|made_up|>", "plain<x>"])
    silent = names(tokenizer, tokenizer.vocab_size)
    assert {"<|turn>", "<new>", "<unused7>", "<|made_up|>", "<mask>"} & silent >= {
        *("<|turn>", "<new>", "<unused7>", "<|made_up|>")
    }
    assert not {"<other>", "plain<x>", "a"} & silent


@pytest.mark.tokenizer
def test_the_released_vocabulary(real_folder: Path) -> None:
    tokenizer = load_tokenizer(real_folder)
    texts = token_bytes(tokenizer, 262_144)
    assert texts == expected(tokenizer, 262_144)
    assert sum(text is None for text in texts) == 6_252
    assert {bytes((b,)) for b in range(256)} <= set(texts)
    assert [tokenizer.token_of(i) for i in (1, 50, 106) if texts[i] is None] == [
        *("<eos>", "<|tool_response>", "<turn|>")
    ]
