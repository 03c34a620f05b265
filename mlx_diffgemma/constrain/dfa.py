"""Deterministic automata over bytes and marks.

Axes: Q states, B classes of equal symbols, M marks.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import ConstraintError
from .compiling import check_cancelled
from .minimize import merged
from .nfa import BYTES, Nfa, TooLargeError
from .patterns import Pattern

MAX_STATES = 4000
MAX_PAIRS = 200_000  # states of two automata side by side
MAX_WORK = 4_000_000  # edges and members of subsets that are looked at: some seconds
UNMERGED = 4  # times as many states as there may be in the end


@dataclass(frozen=True)
class Dfa:
    """An automaton all of whose states are reached from state 0 and reach an accepting one.

    table [Q + 1, B] int32: where each class of symbols leads; state Q is dead. symbol_class
    [256 + M]: the class of each byte and of each mark; accepts [Q + 1] bool; marks: their names.
    """

    table: NDArray[np.int32]
    symbol_class: NDArray[np.int64]
    accepts: NDArray[np.bool_]
    marks: tuple[str, ...] = ()

    @property
    def num_states(self) -> int:
        """The number of states that are not dead, Q."""
        return len(self.table) - 1

    def run(self, text: bytes, state: int = 0) -> int:
        """The state behind a text."""
        for byte in text:
            state = int(self.table[state, self.symbol_class[byte]])
        return state

    def matches(self, text: str | bytes) -> bool:
        """True for a text that is accepted."""
        return bool(self.accepts[self.run(text.encode() if isinstance(text, str) else text)])

    def after(self, mark: str) -> NDArray[np.int32]:
        """Where a mark leads [Q + 1] from each state."""
        place = BYTES + self.marks.index(mark)
        leads: NDArray[np.int32] = self.table[:, self.symbol_class[place]]
        return leads


def compile_pattern(pattern: Pattern, max_states: int = MAX_STATES) -> Dfa:
    """The smallest automaton of a pattern; ConstraintError where nothing matches.

    TooLargeError above `max_states`, or where the way there has too many.
    """
    nfa = Nfa()
    start = nfa.state()
    end = nfa.add(pattern, start)
    return _Subsets(nfa, end, UNMERGED * max_states).dfa(start, max_states)


@dataclass
class _Subsets:
    """The subset construction: `limit` subsets of the Nfa's states at most; end: its last state."""

    nfa: Nfa
    end: int
    limit: int
    work: int = 0
    closures: dict[int, frozenset[int]] = field(default_factory=dict)
    number: dict[frozenset[int], int] = field(default_factory=dict)
    queue: list[frozenset[int]] = field(default_factory=list)

    def dfa(self, start: int, max_states: int) -> Dfa:
        """The automaton, merged and trimmed."""
        self._numbered(self.closure(start))
        rows = [self._row(subset) for subset in self.queue]
        accepts = np.array([self.end in subset for subset in self.queue])
        widths = np.diff([*self.cuts, BYTES + len(self.nfa.marks)])
        symbol_class = np.repeat(np.arange(len(widths)), widths)
        table = np.array(rows, np.int32)
        return smallest(table, symbol_class, accepts, tuple(self.nfa.marks), max_states)

    @cached_property
    def cuts(self) -> list[int]:
        """The first symbol of each class of equal symbols, ascending."""
        bounds = {c for edges in self.nfa.edges for lo, hi, _ in edges for c in (lo, hi + 1)}
        return sorted({0, *bounds} - {BYTES + len(self.nfa.marks)})

    @cached_property
    def place(self) -> dict[int, int]:
        """The class that begins at each cut."""
        found = {symbol: index for index, symbol in enumerate(self.cuts)}
        return {**found, BYTES + len(self.nfa.marks): len(self.cuts)}

    def closure(self, state: int) -> frozenset[int]:
        """States that are reached without a symbol: those with edges, and the end.

        The others tell no two subsets apart.
        """
        if state not in self.closures:
            seen, stack = {state}, [state]
            while stack:
                for after in self.nfa.empty[stack.pop()]:
                    if after not in seen:
                        seen.add(after)
                        stack.append(after)
            self._worked(len(seen))
            kept = frozenset(s for s in seen if self.nfa.edges[s] or s == self.end)
            self.closures[state] = kept
        return self.closures[state]

    def _row(self, subset: frozenset[int]) -> list[int]:
        """Where each class of symbols leads from a subset, -1 for nowhere."""
        check_cancelled()
        targets: dict[int, set[int]] = {}
        for state in subset:
            for low, high, after in self.nfa.edges[state]:
                first, last = self.place[low], self.place[high + 1]
                self._worked(last - first)
                for index in range(first, last):
                    targets.setdefault(index, set()).add(after)
        row = [-1] * len(self.cuts)
        made: dict[frozenset[int], int] = {}
        for index, found in targets.items():
            key = frozenset(found)
            if key not in made:
                made[key] = self._numbered(frozenset().union(*map(self.closure, key)))
            row[index] = made[key]
        return row

    def _numbered(self, subset: frozenset[int]) -> int:
        if subset not in self.number:
            if len(self.number) >= self.limit:
                raise TooLargeError(f"more than {self.limit:,} states before they are merged")
            self._worked(len(subset))
            self.number[subset] = len(self.queue)
            self.queue.append(subset)
        return self.number[subset]

    def _worked(self, members: int) -> None:
        self.work += members
        if self.work > MAX_WORK:
            raise TooLargeError(f"more than {MAX_WORK:,} steps to be compiled")


def smallest(
    table: NDArray[np.int32],
    symbol_class: NDArray[np.int64],
    accepts: NDArray[np.bool_],
    marks: tuple[str, ...] = (),
    max_states: int = MAX_STATES,
) -> Dfa:
    """The smallest automaton that accepts the same; table [Q, B] has -1 for nowhere.

    States are numbered breadth first from the start, which is state 0; errors as `compile_pattern`.
    """
    if (found := merged(table, accepts, max_states)) is None:
        raise ConstraintError("the form matches nothing; allow at least one text.")
    table, accepts = found
    columns, which = np.unique(table, axis=1, return_inverse=True)
    return Dfa(columns.astype(np.int32), which.reshape(-1)[symbol_class], accepts, marks)


def disjoint(one: Dfa, other: Dfa) -> bool:
    """True where no text is accepted by both."""
    return not any(one.accepts[a] and other.accepts[b] for a, b in _pairs(one, other).states)


def avoiding(dfa: Dfa, ends: Dfa, max_states: int = MAX_STATES) -> Dfa:
    """The automaton without those texts a beginning of which `ends` accepts.

    ends: never dead on what `dfa` reads, and it knows the same marks. Errors as `compile_pattern`.
    """
    pairs = _pairs(dfa, ends)
    bad = np.array([bool(ends.accepts[b]) for _, b in pairs.states])
    accepts = np.array([bool(dfa.accepts[a]) for a, _ in pairs.states]) & ~bad
    table = np.array(pairs.rows, np.int32)
    table[bad] = -1
    return smallest(table, pairs.symbol_class, accepts, dfa.marks, max_states)


@dataclass(frozen=True)
class _Pairs:
    """States of two automata that are reached together; rows: where each class leads, or -1.

    symbol_class: of bytes and the first automaton's marks.
    """

    states: list[tuple[int, int]]
    rows: list[list[int]]
    symbol_class: NDArray[np.int64]


def _pairs(one: Dfa, other: Dfa) -> _Pairs:
    both = np.stack([one.symbol_class, _classes_of(other, one.marks)])
    columns, symbol_class = np.unique(both, axis=1, return_inverse=True)
    dead = np.full((len(other.table), 1), other.num_states)
    first = one.table[:, columns[0]].tolist()
    second = np.hstack([other.table, dead])[:, columns[1]].tolist()
    number, queue = {(0, 0): 0}, [(0, 0)]
    rows: list[list[int]] = []
    for a, b in queue:
        check_cancelled()
        if len(queue) > MAX_PAIRS:
            raise TooLargeError(f"more than {MAX_PAIRS:,} states to be compared")
        row = []
        for pair in zip(first[a], second[b], strict=True):
            alive = pair[0] != one.num_states and pair[1] != other.num_states
            if alive and pair not in number:
                number[pair] = len(queue)
                queue.append(pair)
            row.append(number[pair] if alive else -1)
        rows.append(row)
    return _Pairs(queue, rows, symbol_class.reshape(-1))


def _classes_of(dfa: Dfa, marks: tuple[str, ...]) -> NDArray[np.int64]:
    """The class [256 + M] of each byte and of other marks; one more for what it has not."""
    missing = dfa.table.shape[1]
    own = dict(zip(dfa.marks, dfa.symbol_class[BYTES:].tolist(), strict=True))
    found = [own.get(mark, missing) for mark in marks]
    return np.append(dfa.symbol_class[:BYTES], np.array(found, np.int64))
