"""A tokenizer's tokens as bytes, arranged so that all of them run through an automaton at once.

Axes: V vocabulary, T token texts that differ, N nodes of a level of their trie.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
UNUSED = re.compile(r"<unused\d+>|<mask>|\[multimodal\]|<start_of_image>|<end_of_image>")


@dataclass(frozen=True)
class Level:
    """All prefixes of one length: parent [N] in the level above, byte [N]."""

    parent: np.ndarray
    byte: np.ndarray


@dataclass(frozen=True)
class Vocabulary:
    """texts[i]: the bytes of token i, None where it has none (a control token).

    levels: the trie of all texts, a level a byte. token_level, token_node [V]: where a token's text
    ends; level -1: no text.
    """

    texts: tuple[bytes | None, ...]
    levels: tuple[Level, ...]
    token_level: np.ndarray
    token_node: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


def vocabulary(texts: Collection[bytes | None]) -> Vocabulary:
    """Sorts the texts once and cuts them level by level."""
    texts = tuple(texts)
    distinct = sorted({text for text in texts if text})
    place = {text: index for index, text in enumerate(distinct)}
    lengths = np.array([len(text) for text in distinct])
    deepest = int(lengths.max(initial=0))
    joined = np.frombuffer(b"".join(text.ljust(deepest, b"\0") for text in distinct), np.uint8)
    letters = joined.reshape(len(distinct), deepest)
    levels: list[Level] = []
    node = np.zeros(len(distinct), np.int64)  # of each text, in the level above
    ends = np.zeros(len(distinct), np.int64)
    alive = np.arange(len(distinct))
    for depth in range(deepest):
        alive = alive[lengths[alive] > depth]
        above, byte = node[alive], letters[alive, depth]
        new = np.ones(len(alive), bool)
        new[1:] = (above[1:] != above[:-1]) | (byte[1:] != byte[:-1])
        node[alive] = np.cumsum(new) - 1
        levels.append(Level(above[new].astype(np.int32), byte[new]))
        done = alive[lengths[alive] == depth + 1]
        ends[done] = node[done]
    token_level = np.full(len(texts), -1, np.int16)
    token_node = np.zeros(len(texts), np.int32)
    for token, text in enumerate(texts):
        if text:
            token_level[token] = len(text) - 1
            token_node[token] = ends[place[text]]
    return Vocabulary(texts, tuple(levels), token_level, token_node)


def token_texts(
    file: Path, size: int | None = None, control: Collection[int] = ()
) -> list[bytes | None]:
    """What each id of a tokenizer.json writes; None for control tokens, `control` among them.

    BPE with byte fallback, "▁" for a blank, as Gemma's; or WordLevel with plain tokens.
    """
    data = json.loads(Path(file).read_text())
    vocab: Mapping[str, int] = data["model"]["vocab"]
    size = size or max(vocab.values()) + 1
    blank = "▁" if data["model"]["type"] == "BPE" else None
    texts: list[bytes | None] = [None] * size
    for token, index in vocab.items():
        if index < size and not UNUSED.fullmatch(token):
            byte = BYTE.fullmatch(token) if blank else None
            texts[index] = (
                bytes((int(byte[1], 16),)) if byte else token.replace(blank or " ", " ").encode()
            )
    for added in data["added_tokens"]:
        if added["special"] and added["id"] < size:
            texts[added["id"]] = None
    for index in control:
        texts[index] = None
    return texts
