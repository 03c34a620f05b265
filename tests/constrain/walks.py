"""Random texts that an automaton accepts."""

import random
from collections.abc import Iterator

import numpy as np

from mlx_diffgemma.constrain.dfa import Dfa
from mlx_diffgemma.constrain.nfa import BYTES

NO_WAY = 10**6
LONG = 400  # symbols, from which on the shortest way is taken


class _Ways:
    """Of each state the classes that lead on, those of them on the shortest way, and targets."""

    def __init__(self, dfa: Dfa) -> None:
        distance = np.where(dfa.accepts, 0, NO_WAY)
        while ((nearer := np.minimum(distance, distance[dfa.table].min(1) + 1)) != distance).any():
            distance = nearer
        near = distance[dfa.table]
        shortest = near == near.min(axis=1, keepdims=True)
        self.leads = dfa.table.tolist()
        self.live = [np.flatnonzero(row < dfa.num_states).tolist() for row in dfa.table]
        self.short = [np.flatnonzero(row).tolist() for row in shortest]
        columns = range(dfa.table.shape[1])
        self.symbols = [np.flatnonzero(dfa.symbol_class == c).tolist() for c in columns]
        self.accepts = dfa.accepts.tolist()


def walks(dfa: Dfa, count: int, seed: int, spread: float = 0.15) -> Iterator[list[int]]:
    """The symbols of accepted texts: at random at first, then by the shortest way."""
    ways, source = _Ways(dfa), random.Random(seed)
    for _ in range(count):
        yield _walk(ways, source, source.random() * spread)


def _walk(ways: _Ways, source: random.Random, hurry: float) -> list[int]:
    state, out = 0, list[int]()
    while True:
        live = ways.live[state]
        if ways.accepts[state] and (not live or source.random() < 0.3):
            return out
        short = source.random() < hurry or len(out) > LONG
        choice = source.choice(ways.short[state] if short else live)
        out.append(source.choice(ways.symbols[choice]))
        state = ways.leads[state][choice]


def text_of(symbols: list[int], marks: tuple[str, ...] = ()) -> str:
    """The text of symbols, marks by their names."""
    parts = (marks[s - BYTES].encode() if s >= BYTES else bytes((s,)) for s in symbols)
    return b"".join(parts).decode()
