"""States of an automaton that accept the same become one (Moore), by hashes that are then checked.

Axes: Q states, B classes of equal symbols, S merged states.
"""

import numpy as np
from numpy.typing import NDArray

from .alone import look
from .nfa import TooLargeError

Table = NDArray[np.int32]
Flags = NDArray[np.bool_]


def merged(table: Table, accepts: Flags, max_states: int) -> tuple[Table, Flags] | None:
    """The least states -> table [S + 1, B], the last state dead, and accepts [S + 1].

    table [Q, B]: where each class of symbols leads, -1 for nowhere; state 0 is the start. Merged
    states are numbered breadth first. None where no state that is reached accepts. TooLargeError
    as soon as there are more than `max_states` that differ: a chain of thousands is told apart a
    state a pass.
    """
    dead = len(table)
    table = np.vstack([np.where(table < 0, dead, table), np.full(table.shape[1], dead)])
    accepts = np.append(accepts, False)
    live = _live(table, accepts)
    if not live[0]:
        return None
    table = np.where(live[table], table, dead)
    first, groups = _groups(table, accepts, live, max_states)
    return _numbered(groups[table[first]], accepts[first], int(groups[0]), int(groups[dead]))


def _live(table: Table, accepts: Flags) -> Flags:
    """States [Q] that reach an accepting one, found against the edges."""
    live, order = accepts.copy(), table.ravel().argsort(kind="stable")
    before = order // table.shape[1]
    begins = np.searchsorted(table.ravel()[order], np.arange(len(table) + 1))
    new = np.flatnonzero(live).tolist()
    for state in new:
        for source in before[begins[state] : begins[state + 1]].tolist():
            if not live[source]:
                live[source] = True
                new.append(source)
    return live


def _groups(
    table: Table, accepts: Flags, live: Flags, max_states: int
) -> tuple[NDArray[np.int64], ...]:
    """The first state of each group of equal ones [S + 1], and the group of each state [Q]."""
    random = np.random.default_rng(0).integers(1, 2**63, (table.shape[1] + 1, 1), np.uint64)[:, 0]
    group = accepts.astype(np.uint64) + np.uint64(2) * live.astype(np.uint64)
    count = 0
    while True:
        look()
        keys = (_mixed(group)[table] * random[:-1]).sum(axis=1) + group * random[-1]
        _, first, found = np.unique(keys, return_index=True, return_inverse=True)
        group = found.astype(np.uint64)
        if len(first) == count:
            break
        if (count := len(first)) > max_states + 1:  # one group is the dead state's
            raise TooLargeError(f"more than {max_states:,} states")
    _require_equal(table, accepts, first, found)
    return first, found


def _mixed(group: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = (group * np.uint64(0x9E3779B97F4A7C15)) ^ (group >> np.uint64(29))
    mixed = mixed * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    return mixed


def _require_equal(
    table: Table, accepts: Flags, first: NDArray[np.int64], groups: NDArray[np.int64]
) -> None:
    """RuntimeError where two states of a group differ: two hashes were equal by chance."""
    leads = groups[table]
    equal = np.array_equal(leads, leads[first][groups])
    if not (equal and np.array_equal(accepts, accepts[first][groups])):
        raise RuntimeError("two different states have one hash; report this form.")


def _numbered(
    table: NDArray[np.int64], accepts: Flags, start: int, dead: int
) -> tuple[Table, Flags]:
    """The states that are reached, breadth first from the start, and the dead one last."""
    order, seen = [start], {start, dead}
    for state in order:
        for after in dict.fromkeys(table[state].tolist()):
            if after not in seen:
                seen.add(after)
                order.append(after)
    order.append(dead)
    place = np.full(len(table), len(order) - 1, np.int32)
    place[order] = np.arange(len(order))
    return place[table[order]], accepts[order]
