"""States of an automaton that accept the same become one, by hashes that are then checked.

Moore's passes, each over those states alone that the pass before may have told apart.

Axes: Q states, B classes of equal symbols, S merged states.
"""

import numpy as np
from numpy.typing import NDArray

from .compiling import check_cancelled
from .nfa import TooLargeError

Table = NDArray[np.int32]
Flags = NDArray[np.bool_]


def merged(table: Table, accepts: Flags, max_states: int) -> tuple[Table, Flags] | None:
    """The least states -> table [S + 1, B], the last state dead, and accepts [S + 1].

    table [Q, B]: where each class of symbols leads, -1 for nowhere; state 0 is the start. Merged
    states are numbered breadth first. None where no state that is reached accepts. TooLargeError
    as soon as there are more than `max_states` that differ.
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


class _Sources:
    """The edges of a table, against their direction."""

    def __init__(self, table: Table) -> None:
        targets = table.ravel()
        order = targets.argsort(kind="stable")
        self._before = order // table.shape[1]
        self._begins = np.searchsorted(targets[order], np.arange(len(table) + 1))

    def of(self, states: NDArray[np.int64]) -> NDArray[np.int64]:
        """The states with an edge to one of these, ascending."""
        begins = self._begins[states]
        counts = self._begins[states + 1] - begins
        steps = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        return np.unique(self._before[np.repeat(begins, counts) + steps])


def _live(table: Table, accepts: Flags) -> Flags:
    """States [Q] that reach an accepting one, found against the edges."""
    live, sources, new = accepts.copy(), _Sources(table), np.flatnonzero(accepts)
    while len(new):
        found = sources.of(new)
        new = found[~live[found]]
        live[new] = True
    return live


def _groups(
    table: Table, accepts: Flags, live: Flags, max_states: int
) -> tuple[NDArray[np.int64], ...]:
    """The first state of each group of equal ones [S + 1], and the group of each state [Q].

    A pass looks at states alone that lead to one whose group has a new number. The others of their
    group lead where they led, so that they differ from all of these.
    """
    random = np.random.default_rng(0).integers(1, 2**63, table.shape[1], np.uint64)
    sources = _Sources(table)
    group = np.unique(accepts + 2 * live, return_inverse=True)[1].astype(np.int64)
    sizes, looked_at = np.bincount(group).tolist(), np.arange(len(table))
    while len(looked_at):
        check_cancelled()
        keys = (_mixed(group.astype(np.uint64))[table[looked_at]] * random).sum(axis=1)
        moved = _split(group, sizes, looked_at, keys)
        if len(sizes) > max_states + 1:  # one group is the dead state's
            raise TooLargeError(f"more than {max_states:,} states")
        looked_at = sources.of(moved)
    _, first, found = np.unique(group, return_index=True, return_inverse=True)
    _require_equal(table, accepts, first, found)
    return first, found


def _split(
    group: NDArray[np.int64],
    sizes: list[int],
    states: NDArray[np.int64],
    keys: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Give states of one group with different keys different groups; those with a new number.

    Where all states of a group are among them, the largest part keeps its number.
    """
    order = np.lexsort((keys, group[states]))
    states, keys = states[order], keys[order]
    begins = np.flatnonzero(
        np.append(True, (keys[1:] != keys[:-1]) | (np.diff(group[states]) != 0))
    )
    parts = np.split(states, begins[1:])
    of_group: dict[int, list[NDArray[np.int64]]] = {}
    for part in parts:
        of_group.setdefault(int(group[part[0]]), []).append(part)
    moved = []
    for number, found in of_group.items():
        found.sort(key=len)
        if sum(map(len, found)) == sizes[number]:
            found.pop()
        for part in found:
            group[part] = len(sizes)
            sizes[number] -= len(part)
            sizes.append(len(part))
        moved += found
    return np.concatenate(moved) if moved else states[:0]


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
