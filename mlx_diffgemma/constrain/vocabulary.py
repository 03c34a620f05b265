"""A tokenizer's tokens as bytes, arranged so that all of them run through an automaton at once.

Axes: V vocabulary, T token texts that differ, N nodes of a level of their trie.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Level:
    """The beginnings of one length: parent [N] in the level above, and their last byte [N]."""

    parent: NDArray[np.int32]
    byte: NDArray[np.uint8]


@dataclass(frozen=True)
class Trie:
    """All beginnings of all texts, a level a byte.

    token_level [V] int16, token_node [V] int32: where the text of a token ends; level -1: no text.
    """

    levels: tuple[Level, ...]
    token_level: NDArray[np.int16]
    token_node: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """texts [V]: the bytes that each token writes; None for a control token, or where none is.

    digest: of the texts, in hexadecimal digits.
    """

    texts: tuple[bytes | None, ...]
    digest: str
    trie: Trie

    def __len__(self) -> int:
        return len(self.texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def writes(self) -> NDArray[np.bool_]:
        """Tokens [V] that write text."""
        found: NDArray[np.bool_] = self.trie.token_level >= 0
        return found

    @cached_property
    def distinct(self) -> frozenset[bytes]:
        """The texts that differ."""
        return frozenset(text for text in self.texts if text)

    def can_write(self, text: bytes) -> bool:
        """True where tokens one behind the other write exactly this text."""
        longest, reached = len(self.trie.levels), {0}
        for begin in range(len(text)):
            if begin in reached:
                ends = range(begin + 1, min(begin + longest, len(text)) + 1)
                reached |= {end for end in ends if text[begin:end] in self.distinct}
        return len(text) in reached


def digest_of(texts: Sequence[bytes | None]) -> str:
    """A digest of token texts and of their order."""
    lengths = np.array([-1 if text is None else len(text) for text in texts], np.int32)
    digest = hashlib.sha256(lengths.tobytes())
    digest.update(b"".join(text for text in texts if text is not None))
    return digest.hexdigest()


def trie_of(texts: Sequence[bytes | None]) -> Trie:
    """The texts sorted once and cut level by level."""
    distinct = sorted({text for text in texts if text})
    lengths = np.array([len(text) for text in distinct], np.int64)
    deepest = int(lengths.max(initial=0))
    joined = b"".join(text.ljust(deepest, b"\0") for text in distinct)
    letters = np.frombuffer(joined, np.uint8).reshape(len(distinct), deepest)
    levels: list[Level] = []
    node = np.zeros(len(distinct), np.int64)  # of each text, in the level above
    ends = np.zeros(len(distinct), np.int32)
    alive = np.arange(len(distinct))
    for depth in range(deepest):
        alive = alive[lengths[alive] > depth]
        above, byte = node[alive], letters[alive, depth]
        new = np.ones(len(alive), np.bool_)
        new[1:] = (above[1:] != above[:-1]) | (byte[1:] != byte[:-1])
        node[alive] = np.cumsum(new) - 1
        levels.append(Level(above[new].astype(np.int32), byte[new]))
        done = alive[lengths[alive] == depth + 1]
        ends[done] = node[done]
    place = {text: index for index, text in enumerate(distinct)}
    which = np.array([place[text] if text else -1 for text in texts], np.int64)
    padded_lengths, padded_ends = np.append(lengths, 0), np.append(ends, 0)  # -1: the last
    return Trie(
        tuple(levels),
        (padded_lengths[which] - 1).astype(np.int16),
        padded_ends[which].astype(np.int32),
    )
