"""Random texts that an automaton accepts."""

import numpy as np

from mlx_diffgemma.constrain.dfa import Dfa
from mlx_diffgemma.constrain.nfa import BYTES

NO_WAY = 10**6
LONG = 400  # symbols, from which on the shortest way is taken


def walked(dfa: Dfa, random: np.random.Generator, spread: float = 0.15) -> list[int]:
    """The symbols of an accepted text: at random at first, then by the shortest way."""
    Q = dfa.num_states
    distance = np.where(dfa.accepts, 0, NO_WAY)
    while ((nearer := np.minimum(distance, distance[dfa.table].min(1) + 1)) != distance).any():
        distance = nearer
    state, out, hurry = 0, list[int](), random.random() * spread
    symbols = [np.flatnonzero(dfa.symbol_class == c) for c in range(dfa.table.shape[1])]
    while True:
        after = dfa.table[state]
        live = np.flatnonzero(after < Q)
        if dfa.accepts[state] and (not live.size or random.random() < 0.3):
            return out
        if random.random() < hurry or len(out) > LONG:
            live = live[distance[after[live]] == distance[after[live]].min()]
        choice = random.choice(live)
        out.append(int(random.choice(symbols[choice])))
        state = int(after[choice])


def text_of(symbols: list[int], marks: tuple[str, ...] = ()) -> str:
    """The text of symbols, marks by their names."""
    parts = (marks[s - BYTES].encode() if s >= BYTES else bytes((s,)) for s in symbols)
    return b"".join(parts).decode()
