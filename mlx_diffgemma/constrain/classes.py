"""Token classes: tokens that take every state of an automaton to the same state are one class.

A class is an element of the automaton's transition monoid: a row [Q + 1] that says where each state
goes. Rows are found along the vocabulary's trie, each pair of row and class of bytes once.
Axes: V vocabulary, Q states, B classes of equal bytes, K token classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compiling import check_cancelled
from .dfa import Dfa
from .nfa import TooLargeError
from .vocabulary import Trie

MAX_CLASSES = 60_000
DEAD, EMPTY = 0, 1  # the rows of what no state can read, and of reading nothing


@dataclass(frozen=True)
class TokenClasses:
    """of [V] int32: the class of each token, 0 for what no state can read.

    rows [K, Q + 1] int32: where a class leads from each state.
    """

    of: NDArray[np.int32]
    rows: NDArray[np.int32]


def token_classes(trie: Trie, dfa: Dfa, max_rows: int = MAX_CLASSES) -> TokenClasses:
    """All tokens run through the automaton, a byte of each at a time.

    TooLargeError where the beginnings of tokens make more than `max_rows` rows.
    """
    rows = _Rows(dfa, max_rows)
    of = np.zeros(len(trie.token_level), np.int32)
    above = np.array([EMPTY], np.int32)
    by_level = np.argsort(trie.token_level, kind="stable")
    begins = np.searchsorted(trie.token_level[by_level], np.arange(len(trie.levels) + 1))
    for depth, level in enumerate(trie.levels):
        above = rows.after(above[level.parent], dfa.symbol_class[level.byte])
        tokens = by_level[begins[depth] : begins[depth + 1]]
        of[tokens] = above[trie.token_node[tokens]]
    used, compact = np.unique(np.append(of, DEAD), return_inverse=True)
    return TokenClasses(compact[:-1].astype(np.int32), rows.table[used].astype(np.int32))


class _Rows:
    """Rows found so far, each with a number; memo: the number behind a row and a class of bytes."""

    def __init__(self, dfa: Dfa, limit: int) -> None:
        Q, B = dfa.num_states, dfa.table.shape[1]
        dtype: type[np.signedinteger[Any]] = np.int16 if Q < 2**15 else np.int32
        self.limit, self.count = limit, 2
        self.leads = np.ascontiguousarray(dfa.table.T).astype(dtype)  # [B, Q + 1]
        self.random = np.random.default_rng(1).integers(1, 2**63, Q + 1, np.uint64)
        self.table = np.empty((1024, Q + 1), dtype)
        self.table[DEAD], self.table[EMPTY] = Q, np.arange(Q + 1)
        self.memo = np.full((1024, B), -1, np.int32)
        self.memo[DEAD] = DEAD
        self.known = {self._hash(self.table[row]): row for row in (DEAD, EMPTY)}

    def after(self, row: NDArray[np.int32], byte: NDArray[np.int64]) -> NDArray[np.int32]:
        """The rows [N] behind rows [N] and a class of bytes each [N]."""
        num_bytes = self.memo.shape[1]
        unknown = self.memo[row, byte] < 0
        keys = np.unique(row[unknown].astype(np.int64) * num_bytes + byte[unknown])
        self._find(divmod(key, num_bytes) for key in keys.tolist())
        found: NDArray[np.int32] = self.memo[row, byte]
        return found

    def _find(self, pairs: Iterable[tuple[int, int]]) -> None:
        for row, byte in pairs:
            check_cancelled()
            made = self.leads[byte][self.table[row]]
            name = self._hash(made)
            if name not in self.known:
                self.known[name] = self._add(made)
            self.memo[row, byte] = self.known[name]

    def _add(self, row: NDArray[Any]) -> int:
        if self.count == self.limit:
            raise TooLargeError(f"more than {self.limit:,} classes of tokens")
        if self.count == len(self.table):
            self.table = np.concatenate([self.table, np.empty_like(self.table)])
            self.memo = np.concatenate([self.memo, np.full_like(self.memo, -1)])
        self.table[self.count] = row
        self.count += 1
        return self.count - 1

    def _hash(self, row: NDArray[Any]) -> int:
        mixed = (row.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(31)
        return int((mixed * self.random).sum())
