"""Token classes: tokens that take every state of an automaton to the same state are one class.

A class is an element of the automaton's transition monoid: a row [Q + 1] that says where each state
goes. Rows are found along the vocabulary's trie, each (row, byte) once.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import ConstraintError
from .dfa import Dfa
from .vocabulary import Vocabulary


@dataclass(frozen=True)
class TokenClasses:
    """of [V] int32: a token's class, 0 for tokens no state can read; rows [K, Q + 1]: where each leads."""

    of: np.ndarray
    rows: np.ndarray


def token_classes(vocab: Vocabulary, dfa: Dfa, max_rows: int = 60_000) -> TokenClasses:
    """Runs all tokens through the automaton, a byte of each at a time."""
    Q, B = dfa.num_states, dfa.table.shape[1]
    dtype = np.int16 if Q < 2**15 else np.int32
    table = np.ascontiguousarray(dfa.table.T).astype(dtype)  # [B, Q + 1]
    random = np.random.default_rng(1).integers(1, 2**63, Q + 1, np.uint64)
    rows = np.empty((1024, Q + 1), dtype)
    rows[0], rows[1] = Q, np.arange(Q + 1)  # nothing can be read; nothing was read
    count = 2
    memo = np.full((1024, B), -1, np.int32)
    memo[0] = 0
    known = {_hash(rows[0:1], random)[0]: 0, _hash(rows[1:2], random)[0]: 1}
    of = np.zeros(len(vocab), np.int32)
    above = np.array([1], np.int32)  # the empty prefix
    by_level = np.argsort(vocab.token_level, kind="stable")
    begins = np.searchsorted(vocab.token_level[by_level], np.arange(len(vocab.levels) + 1))
    for depth, level in enumerate(vocab.levels):
        parent, byte = above[level.parent], dfa.byte_class[level.byte]
        here = memo[parent, byte]
        for key in np.unique(parent[here < 0].astype(np.int64) * B + byte[here < 0]):
            row, index = divmod(int(key), B)
            made = table[index][rows[row]]
            name = _hash(made[None], random)[0]
            found = known.get(name)
            if found is None:
                if count == max_rows:
                    raise ConstraintError(
                        f"the constraint needs more than {max_rows} token classes."
                    )
                if count == len(rows):
                    rows = np.concatenate([rows, np.empty_like(rows)])
                    memo = np.concatenate([memo, np.full_like(memo, -1)])
                rows[count] = made
                found = known[name] = count
                count += 1
            memo[row, index] = found
        above = memo[parent, byte]
        tokens = by_level[begins[depth] : begins[depth + 1]]
        of[tokens] = above[vocab.token_node[tokens]]
    used, compact = np.unique(np.append(of, 0), return_inverse=True)
    return TokenClasses(compact[:-1].astype(np.int32), rows[used])


def _hash(rows: np.ndarray, random: np.ndarray) -> list[int]:
    mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(31)
    return ((mixed * random).sum(axis=1)).tolist()
