"""Whether a vocabulary can write what a form asks for, and which character it lacks."""

from collections import deque
from collections.abc import Iterator

import numpy as np

from ..errors import ConstraintError, brief, counted
from .dfa import Dfa
from .machine import FAR, Machine
from .nfa import BYTES
from .patterns import OneOf, Text
from .vocabulary import Vocabulary

ADVICE = "use characters that its vocabulary has"


def require_choices(choices: OneOf, vocabulary: Vocabulary) -> None:
    """ConstraintError at the first choice that tokens cannot write; calls beside them are none."""
    for choice in choices.parts:
        if isinstance(choice, OneOf):
            require_choices(choice, vocabulary)
        elif isinstance(choice, Text) and not vocabulary.can_write(choice.text.encode()):
            missing = _missing(choice.text, vocabulary)
            raise ConstraintError(
                f"the model cannot write the choice {brief(choice.text)}: no token writes "
                f"{missing}; {ADVICE}."
            )


def require_some(machine: Machine, dfa: Dfa, vocabulary: Vocabulary) -> None:
    """ConstraintError where no answer can be written: a character that some shortest one needs."""
    if machine.distance[machine.start] < FAR:
        return
    text = _easiest(dfa, vocabulary)
    raise ConstraintError(
        "the model cannot write any answer of this form: no token writes "
        f"{_missing(text, vocabulary)}; {ADVICE}."
    )


def _missing(text: str, vocabulary: Vocabulary) -> str:
    """The first character of a text that no token, and no row of tokens, writes by itself."""
    for char in text:
        if not vocabulary.can_write(char.encode()):
            return f"{brief(char)} (U+{ord(char):04X})"
    return f"{brief(text)}, of {counted(len(text), 'character')}"


def _easiest(dfa: Dfa, vocabulary: Vocabulary) -> str:
    """An accepted text, marks left out, with as few bytes as possible that no token has."""
    known = np.zeros(BYTES, np.bool_)
    known[list({byte for text in vocabulary.distinct for byte in text})] = True
    edges = list(_cheapest(dfa, known))
    came: dict[int, tuple[int, int]] = {}  # the state before, and the symbol from there
    cost, queue = {0: 0}, deque([0])
    while queue:
        state = queue.popleft()
        for column, symbol, price in edges:
            after = int(dfa.table[state, column])
            if after != dfa.num_states and cost[state] + price < cost.get(after, FAR):
                cost[after], came[after] = cost[state] + price, (state, symbol)
                (queue.append if price else queue.appendleft)(after)
    state = min((int(s) for s in np.flatnonzero(dfa.accepts[:-1])), key=cost.__getitem__)
    symbols: list[int] = []
    while state:
        state, symbol = came[state]
        symbols.append(symbol)
    return bytes(s for s in reversed(symbols) if s < BYTES).decode(errors="replace")


def _cheapest(dfa: Dfa, known: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Of each class of symbols its column, a symbol, and 1 where no token has it."""
    for column in range(dfa.table.shape[1]):
        symbols = np.flatnonzero(dfa.symbol_class == column)
        free = [int(s) for s in symbols if s >= BYTES or known[s]]
        yield column, free[0] if free else int(symbols[0]), 0 if free else 1
