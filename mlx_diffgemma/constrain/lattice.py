"""Forward-backward over a machine's states: what a form leaves of independent distributions.

P(string) is proportional to prod_i p_i(token_i), over the strings that the machine allows (Dang and
Ermon, arXiv 2607.07026). Whatever is added up is not negative, so that nothing cancels. The forward
pass is in logs, since products of 256 factors leave float64; the backward pass runs on normalised
shares, all of them in [0, 1].
Axes: L positions, K classes, S states, E pairs (source, target), U sets of classes of pairs.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .machine import Machine

NEVER = -np.inf
KEPT = 16  # machines whose lattices stay in memory

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Pass:
    """A forward pass: last [S], logs of the ways to each state in which the positions may end.

    share [L, E]: of a pair in its target; weight [L, U]: what each set of classes holds; log_z:
    the logarithm of all that is allowed, -inf for nothing.
    """

    last: Floats
    share: Floats
    weight: Floats
    log_z: float

    @property
    def ends(self) -> Floats:
        """The probability [S] of each state behind the last position."""
        found: Floats = np.exp(self.last - self.log_z)
        return found


@dataclass(frozen=True)
class Way:
    """A way through states [L + 1]; value: log of its mass.

    classes: those that lead along it at each position.
    """

    states: Ints
    classes: tuple[Ints, ...]
    value: float


class Lattice:
    """A machine's edges in the order in which they are added up: by target, then by source."""

    def __init__(self, machine: Machine) -> None:
        self.num_states, self.num_classes = machine.num_states, machine.num_classes
        order = np.lexsort((machine.label, machine.source, machine.target))
        source, label, target = machine.source[order], machine.label[order], machine.target[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
        begins = np.flatnonzero(new)
        self.source, self.target = source[begins], target[begins]
        self.targets, self.target_begins = np.unique(self.target, return_index=True)
        self.target_at = np.searchsorted(self.targets, self.target)
        self.target_ends = np.append(self.target_begins[1:], len(self.target))
        self._share_sets(label, begins)

    def _share_sets(self, label: NDArray[np.int32], begins: Ints) -> None:
        """The sets of classes that lead from a state to another, each of them once."""
        number: dict[bytes, int] = {}
        sets: list[Ints] = []
        self.set_of = np.empty(len(begins), np.int64)
        ends = [*begins.tolist(), len(label)]
        for pair, (first, last) in enumerate(pairwise(ends)):
            classes = label[first:last]
            place = number.setdefault(classes.tobytes(), len(sets))
            if place == len(sets):
                sets.append(classes.astype(np.int64))
            self.set_of[pair] = place
        sizes = np.array([len(members) for members in sets])
        self.sets, self.members = sets, np.concatenate(sets)
        self.set_begins = np.cumsum(sizes) - sizes
        by_class = np.argsort(self.members, kind="stable")
        self.sets_by_class = np.repeat(np.arange(len(sets)), sizes)[by_class]
        self.classes, self.class_begins = np.unique(self.members[by_class], return_index=True)

    def forward(self, mass: Floats, start: int, end: Flags) -> Pass:
        """mass [L, K]: the probability of each class; end [S]: states the positions may end in."""
        weight = self.sums(mass)
        share = np.zeros((len(mass), len(self.source)))
        with np.errstate(divide="ignore", invalid="ignore"):
            alpha = np.full(self.num_states, NEVER)
            alpha[start] = 0.0
            for i, row in enumerate(np.log(weight)):
                scores = alpha[self.source] + row[self.set_of]
                top = np.maximum.reduceat(scores, self.target_begins)
                top[top == NEVER] = 0.0
                terms = np.exp(scores - top[self.target_at])
                total = np.add.reduceat(terms, self.target_begins)
                alpha = np.full(self.num_states, NEVER)
                alpha[self.targets] = top + np.log(total)
                share[i] = terms / np.where(total > 0, total, 1.0)[self.target_at]
            last = np.where(end, alpha, NEVER)
            return Pass(last, share, weight, _log_sum(last))

    def factors(self, done: Pass) -> Floats:
        """g [L, K]: a class's allowed probability over its own; sum_k mass * g = 1 a position."""
        L, num_sets = done.weight.shape
        passed = np.empty_like(done.share)
        state: Floats = done.ends
        for i in range(L - 1, -1, -1):
            passed[i] = state[self.target] * done.share[i]
            state = np.bincount(self.source, passed[i], self.num_states).astype(np.float64)
        flat = (np.arange(L)[:, None] * num_sets + self.set_of).ravel()
        through = np.bincount(flat, passed.ravel(), minlength=L * num_sets).reshape(L, num_sets)
        ratio = np.divide(through, done.weight, out=np.zeros_like(through), where=done.weight > 0)
        g = np.zeros((L, self.num_classes))
        by_class = ratio[:, self.sets_by_class]
        g[:, self.classes] = np.add.reduceat(by_class, self.class_begins, axis=1)
        return g

    def sums(self, mass: Floats) -> Floats:
        """mass [L, K] -> [L, U]: what the classes of each set hold together."""
        found: Floats = np.add.reduceat(mass[:, self.members], self.set_begins, axis=1)
        return found

    def best(self, worth: Floats, start: int, end: Flags) -> Way:
        """The best way; worth [L, U]: logarithms of `sums`."""
        values = np.full((len(worth) + 1, self.num_states), NEVER)
        values[0, start] = 0.0
        for i, row in enumerate(worth):
            scores = values[i][self.source] + row[self.set_of]
            values[i + 1, self.targets] = np.maximum.reduceat(scores, self.target_begins)
        last = np.where(end, values[-1], NEVER)
        states = np.empty(len(worth) + 1, np.int64)
        states[-1] = last.argmax()
        classes: list[Ints] = []
        for i in range(len(worth) - 1, -1, -1):
            pairs = self._into(int(states[i + 1]))
            scores = values[i][self.source[pairs]] + worth[i][self.set_of[pairs]]
            pair = pairs.start + int(scores.argmax())
            states[i] = self.source[pair]
            classes.append(self.sets[self.set_of[pair]])
        return Way(states, tuple(reversed(classes)), float(last.max()))

    def _into(self, state: int) -> slice:
        """The pairs that lead into a state."""
        at = int(np.searchsorted(self.targets, state))
        return slice(int(self.target_begins[at]), int(self.target_ends[at]))


@lru_cache(maxsize=KEPT)
def lattice_of(machine: Machine) -> Lattice:
    """The lattice of a machine, made once."""
    return Lattice(machine)


def _log_sum(logs: Floats) -> float:
    top = logs.max()
    return float(top + np.log(np.exp(logs - top).sum())) if top > NEVER else NEVER
