"""Byte automata, deterministic and minimal. Axes: Q states, B classes of equal bytes."""

from dataclasses import dataclass

import numpy as np

from ..errors import ConstraintError
from .nfa import Nfa
from .patterns import Pattern


@dataclass(frozen=True)
class Dfa:
    """table [Q + 1, B] int32, state Q is dead, 0 the start; byte_class [256]; accepts [Q + 1] bool.

    Every other state is reached from the start and reaches an accepting one.
    """

    table: np.ndarray
    byte_class: np.ndarray
    accepts: np.ndarray

    @property
    def num_states(self) -> int:
        return len(self.table) - 1

    def run(self, text: bytes, state: int = 0) -> int:
        for byte in text:
            state = int(self.table[state, self.byte_class[byte]])
        return state

    def matches(self, text: str | bytes) -> bool:
        return bool(self.accepts[self.run(text.encode() if isinstance(text, str) else text)])


def compile_pattern(pattern: Pattern, max_states: int = 4000, max_nfa: int = 100_000) -> Dfa:
    """The minimal DFA of a pattern; ConstraintError above `max_states`, or if nothing matches."""
    nfa = Nfa(max_nfa, [], [])
    start = nfa.state()
    return minimal(*determinised(nfa, start, nfa.add(pattern, start), 4 * max_states), max_states)


def determinised(nfa: Nfa, start: int, end: int, limit: int) -> tuple[np.ndarray, ...]:
    """Subset construction: table [Q, B] with -1 for dead, byte_class, accepts."""
    cuts = sorted(
        {0, 256} | {c for edges in nfa.edges for lo, hi, _ in edges for c in (lo, hi + 1)}
    )
    byte_class = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    first_class = {byte: index for index, byte in enumerate(cuts)}
    closures: dict[int, frozenset[int]] = {}

    def closure(state: int) -> frozenset[int]:
        if state not in closures:
            seen, stack = {state}, [state]
            while stack:
                for after in nfa.empty[stack.pop()]:
                    if after not in seen:
                        seen.add(after)
                        stack.append(after)
            # Only states with bytes to read, and the end, tell subsets apart.
            closures[state] = frozenset(s for s in seen if nfa.edges[s] or s == end)
        return closures[state]

    begin = closure(start)
    number, queue, rows = {begin: 0}, [begin], []
    for subset in queue:
        targets: dict[int, set[int]] = {}
        for state in subset:
            for low, high, after in nfa.edges[state]:
                for index in range(first_class[low], first_class[high + 1]):
                    targets.setdefault(index, set()).add(after)
        row = [-1] * (len(cuts) - 1)
        made: dict[frozenset[int], int] = {}
        for index, after in targets.items():
            key = frozenset(after)
            if key not in made:
                found = frozenset().union(*map(closure, key))
                if found not in number:
                    if len(number) >= limit:
                        raise ConstraintError(
                            f"the pattern needs more than {limit} states; shorten its repetitions "
                            "(maxLength, minItems, maxItems) or its enums."
                        )
                    number[found] = len(queue)
                    queue.append(found)
                made[key] = number[found]
            row[index] = made[key]
        rows.append(row)
    accepts = np.array([end in subset for subset in queue])
    return np.array(rows, np.int32), byte_class, accepts


def minimal(table: np.ndarray, byte_class: np.ndarray, accepts: np.ndarray, limit: int) -> Dfa:
    """Drops states that accept nothing and merges those that accept the same (Moore, by hashes)."""
    num = len(table)
    table = np.vstack([np.where(table < 0, num, table), np.full(table.shape[1], num)])
    accepts = np.append(accepts, False)
    live = accepts.copy()
    while (grown := live | live[table].any(axis=1)).sum() > live.sum():
        live = grown
    if not live[0]:
        raise ConstraintError("the pattern matches nothing.")
    table = np.where(live[table], table, num)
    random = np.random.default_rng(0).integers(1, 2**63, (table.shape[1] + 1, 2), np.uint64)
    block = accepts.astype(np.uint64) + 2 * live.astype(np.uint64)
    count = 0
    while True:
        mixed = (block * np.uint64(0x9E3779B97F4A7C15)) ^ (block >> np.uint64(29))
        mixed = mixed * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
        keys = (mixed[table] * random[:-1, 0]).sum(axis=1) + block * random[-1, 0]
        _, first, block = np.unique(keys, return_index=True, return_inverse=True)
        block = block.astype(np.uint64)
        if len(first) == count:
            break
        count = len(first)
    groups = block.astype(np.int64)
    same = groups[table]
    if not (
        np.array_equal(same, same[first][groups]) and (accepts[first][groups] == accepts).all()
    ):
        raise RuntimeError("hash collision in minimal()")
    return _numbered(same[first], byte_class, accepts[first], groups[0], groups[num], limit)


def _numbered(table, byte_class, accepts, start, dead, limit) -> Dfa:
    """States in breadth-first order from the start, dead last, byte classes merged."""
    if len(table) - 1 > limit:
        raise ConstraintError(
            f"the pattern needs {len(table) - 1} states, at most {limit} are allowed; shorten its "
            "repetitions (maxLength, minItems, maxItems) or its enums."
        )
    order, seen = [int(start)], {int(start), int(dead)}
    for state in order:
        for after in dict.fromkeys(table[state].tolist()):
            if after not in seen:
                seen.add(after)
                order.append(after)
    order.append(int(dead))
    place = np.empty(len(table), np.int32)
    place[order] = np.arange(len(order))
    columns, which = np.unique(place[table[order]], axis=1, return_inverse=True)
    return Dfa(columns.astype(np.int32), which.reshape(-1)[byte_class], accepts[order])


def disjoint(one: Dfa, other: Dfa) -> bool:
    """Whether no text is matched by both."""
    queue = [(0, 0)]
    seen = set(queue)
    pairs = sorted(set(zip(one.byte_class.tolist(), other.byte_class.tolist(), strict=True)))
    for a, b in queue:
        if one.accepts[a] and other.accepts[b]:
            return False
        for x, y in pairs:
            after = (int(one.table[a, x]), int(other.table[b, y]))
            if after not in seen and after[0] < one.num_states and after[1] < other.num_states:
                seen.add(after)
                queue.append(after)
    return True
