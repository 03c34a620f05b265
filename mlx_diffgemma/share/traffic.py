"""Messages of an answer that several Macs give, planned: how many there are, and their bytes.

A plan of nothing but sizes: what a Share counts of an answer has to equal it, and the arithmetic of
a link's worth is made of it. Axes: C canvas positions, L positions of a prompt, H hidden size.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .guard import FACT_BYTES
from .part import LEAST_ROWS, Cut
from .share import cuts

SLICE = 4096  # ids of the vocabulary that one record is about; a smaller vocabulary is whole
RECORD_BYTES = 20  # of a row's record of a slice
OUTCOME_BYTES = 12  # of a row's outcome
DIGEST_BYTES = 32  # of what ranks compare behind a canvas

KEYS, HIDDEN, OUTCOME = "keys and values", "hidden states", "outcome"
BETWEEN_STEPS = ("facts", "word", "digest", "positions")
"""Names of what is agreed on and compared before and behind a canvas."""

IN_LAYERS = (KEYS, HIDDEN, "attention", "feed-forward")
"""Names of the messages that layers send; all others are of the ends of a step."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network that its messages have.

    row_numbers: numbers of a row's keys and values that travel, by layer; item_bytes: of a number.
    """

    canvas: int
    hidden: int
    row_numbers: tuple[int, ...]
    vocabulary: int
    item_bytes: int

    @property
    def slices(self) -> int:
        """Slices of the vocabulary."""
        return -(-self.vocabulary // SLICE)

    @property
    def row_bytes(self) -> int:
        """Bytes of a position's hidden state."""
        return self.hidden * self.item_bytes


PUBLISHED = Sizes(256, 2816, 25 * (4096,) + 5 * (1024,), 262_144, 2)
"""The 26B model in 16 bits: on full layers the raw keys alone travel, which are the values, too."""


@dataclass(frozen=True)
class Message:
    """A collective: every rank's array of `bytes` is summed, or gathered by all."""

    name: str
    kind: Literal["sum", "gather"]
    bytes: int

    def sent(self, ranks: int) -> int:
        """Bytes that each of so many ranks sends."""
        if self.kind == "sum":
            return 2 * (ranks - 1) * self.bytes // ranks
        return (ranks - 1) * self.bytes


@dataclass(frozen=True)
class Sent:
    """Bytes that a rank sends, and its calls, by the name of what is sent."""

    bytes: Counter[str]
    calls: Counter[str]


def counted(messages: Iterator[Message], ranks: int) -> Sent:
    """What a rank sends in messages."""
    sent, calls = Counter[str](), Counter[str]()
    for message in messages:
        sent[message.name] += message.sent(ranks)
        calls[message.name] += 1
    return Sent(sent, calls)


def step(sizes: Sizes, cut: Cut, ranks: int, *, first: bool = False) -> Iterator[Message]:
    """The messages of a denoising step; first: a canvas's first, which nothing conditions."""
    C = sizes.canvas
    hidden = Message(HIDDEN, "sum", C * sizes.row_bytes)
    if cut == "rows":
        yield from _keys_and_values(sizes, ranks, C)
        yield Message(OUTCOME, "gather", longest(C, ranks) * OUTCOME_BYTES)
        return
    if cut == "layers":
        yield from [hidden] * ranks
    else:
        divided = sizes.slices >= ranks
        if not first:
            yield from [replace(hidden, name="soft embeddings")] * divided
            yield replace(hidden, name="self-conditioning")
        yield from [replace(hidden, name="lookup")] * divided
        for _ in sizes.row_numbers:
            yield from _layer(hidden.bytes)
        if divided:
            yield Message("records", "gather", C * longest(sizes.slices, ranks) * RECORD_BYTES)
    yield Message(OUTCOME, "sum", C * OUTCOME_BYTES)


def encoding(sizes: Sizes, cut: Cut, ranks: int, length: int) -> Iterator[Message]:
    """The messages of the causal pass over `length` positions at once: their keys and values."""
    hidden = length * sizes.row_bytes
    if cut == "rows":
        if length >= LEAST_ROWS * ranks:
            yield from _keys_and_values(sizes, ranks, length)
    elif cut == "layers":
        yield from [Message(HIDDEN, "sum", hidden)] * (ranks - 1)
    else:
        yield from [Message("lookup", "sum", hidden)] * (sizes.slices >= ranks)
        for _ in sizes.row_numbers[:-1]:  # the last one stops at its keys and values
            yield from _layer(hidden)


def _keys_and_values(sizes: Sizes, ranks: int, length: int) -> Iterator[Message]:
    """Those of the own rows of each layer."""
    for numbers in sizes.row_numbers:
        yield Message(KEYS, "gather", longest(length, ranks) * numbers * sizes.item_bytes)


def _layer(hidden: int) -> Iterator[Message]:
    """A layer whose tensors are cut: both halves of its feed-forward go in one message."""
    yield Message("attention", "sum", hidden)
    yield Message("feed-forward", "sum", 2 * hidden)


def answer(
    sizes: Sizes, cut: Cut, ranks: int, steps: Sequence[int], prompt: int, chunk: int
) -> Iterator[Message]:
    """All messages of an answer: what is agreed on before it, and what is compared behind it.

    steps: of each canvas; prompt: its positions, encoded `chunk` at a time, as is each canvas but
    the last.
    """
    yield Message("facts", "gather", FACT_BYTES)
    behind = prompt
    for count in steps:
        for start in range(0, behind, chunk):
            yield from encoding(sizes, cut, ranks, min(chunk, behind - start))
        for number in range(count):
            yield from step(sizes, cut, ranks, first=number == 0)
        yield Message("digest", "gather", DIGEST_BYTES)
        behind = sizes.canvas


def longest(total: int, ranks: int) -> int:
    """The longest of the spans of `total`: what all pad theirs to on the wire."""
    return max(stop - start for start, stop in cuts(total, ranks))
