"""Forms over the 40 ids of a fake model: digits, letters, bytes of one character, and two controls."""

from functools import cache

from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.dfa import compile_pattern
from mlx_diffgemma.constrain.machine import Machine, machine
from mlx_diffgemma.constrain.regex import parse_regex
from mlx_diffgemma.constrain.vocabulary import Vocabulary, vocabulary

PAD, END = 38, 39
TEXTS: list[bytes | None] = [
    *(bytes([char]) for char in b"0123456789abcdefghijklmnopqrstuvwxyz"),
    b"\xc3",  # with the next: é
    b"\xa9",
    None,
    None,
]


@cache
def texts() -> Vocabulary:
    return vocabulary(TEXTS)


@cache
def machine_of(pattern: str, stop: int = END) -> Machine:
    return machine(texts(), compile_pattern(parse_regex(pattern)), (stop,), (stop, PAD))


def held_to(pattern: str, left: int) -> Constraint:
    return Constraint(machine_of(pattern), left)


def text_of(tokens: list[int]) -> str:
    """What tokens write; controls write nothing."""
    return b"".join(TEXTS[token] or b"" for token in tokens).decode()
