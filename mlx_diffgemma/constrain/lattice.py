"""Forward-backward over a machine's states: what a constraint leaves of independent distributions.

P(string) is proportional to prod_i p_i(token_i), for strings the machine allows. Everything that adds
up only adds terms that are not negative: nothing cancels. The forward pass is in logs, since products
of 256 factors leave float64; the backward pass runs on normalised shares, all of them in [0, 1].

Axes: L positions, K classes, S states, E pairs (source, target), U sets of classes that pairs share.
"""

from dataclasses import dataclass

import numpy as np

from .machine import Machine

NEVER = -np.inf


@dataclass(frozen=True)
class Pass:
    """A forward pass: alpha [L + 1, S] logs, share [L, E] of a pair in its target, weight [L, U]."""

    alpha: np.ndarray
    share: np.ndarray
    weight: np.ndarray
    end: np.ndarray
    log_z: float


class Lattice:
    """The machine's edges in the order in which they are added up."""

    def __init__(self, machine: Machine) -> None:
        self.num_states, self.num_classes = machine.num_states, machine.num_classes
        order = np.lexsort((machine.label, machine.source, machine.target))
        source, label, target = machine.source[order], machine.label[order], machine.target[order]
        new = np.ones(len(order), bool)
        new[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
        begins = np.flatnonzero(new)
        self.source, self.target = source[begins], target[begins]
        number: dict[bytes, int] = {}
        sets: list[np.ndarray] = []
        self.set_of = np.empty(len(begins), np.int64)
        for pair, classes in enumerate(np.split(label, begins[1:])):
            key = classes.tobytes()
            if key not in number:
                number[key] = len(sets)
                sets.append(classes)
            self.set_of[pair] = number[key]
        self.members = np.concatenate(sets)
        sizes = np.array([len(s) for s in sets])
        self.set_begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        by_class = np.argsort(self.members, kind="stable")
        self.sets_by_class = np.repeat(np.arange(len(sets)), sizes)[by_class]
        self.classes, self.class_begins = np.unique(self.members[by_class], return_index=True)
        self.targets, self.target_begins = np.unique(self.target, return_index=True)
        self.target_at = np.searchsorted(self.targets, self.target)
        self.target_ends = np.append(self.target_begins[1:], len(self.target))

    def forward(self, mass: np.ndarray, start: int, end: np.ndarray) -> Pass:
        """mass [L, K]: probability of each class; end [S] bool: states a canvas may end in."""
        weight = self.sums(mass)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(weight)
            alpha = np.full((len(mass) + 1, self.num_states), NEVER)
            alpha[0, start] = 0.0
            share = np.zeros((len(mass), len(self.source)))
            for i, row in enumerate(logs):
                scores = alpha[i][self.source] + row[self.set_of]
                top = np.maximum.reduceat(scores, self.target_begins)
                top[top == NEVER] = 0.0
                terms = np.exp(scores - top[self.target_at])
                total = np.add.reduceat(terms, self.target_begins)
                alpha[i + 1, self.targets] = top + np.log(total)
                share[i] = terms / np.where(total > 0, total, 1.0)[self.target_at]
            last = np.where(end, alpha[-1], NEVER)
            top = last.max()
            total = np.exp(last - top).sum() if top > NEVER else 0.0
            return Pass(alpha, share, weight, end, float(top + np.log(total)) if total else NEVER)

    def factors(self, done: Pass) -> np.ndarray:
        """g [L, K]: a class's constrained probability over its own; sum_k mass * g = 1 a position."""
        L = len(done.share)
        passed = np.empty_like(done.share)
        state = np.exp(np.where(done.end, done.alpha[-1], NEVER) - done.log_z)
        for i in range(L - 1, -1, -1):
            passed[i] = state[self.target] * done.share[i]
            state = np.bincount(self.source, passed[i], minlength=self.num_states)
        num_sets = len(self.set_begins)
        flat = (np.arange(L)[:, None] * num_sets + self.set_of).ravel()
        through = np.bincount(flat, passed.ravel(), minlength=L * num_sets).reshape(L, num_sets)
        ratio = np.divide(through, done.weight, out=np.zeros_like(through), where=done.weight > 0)
        g = np.zeros((L, self.num_classes))
        g[:, self.classes] = np.add.reduceat(
            ratio[:, self.sets_by_class], self.class_begins, axis=1
        )
        return g

    def sample(
        self, done: Pass, mass: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """One string of the joint distribution -> states [L + 1] and classes [L]."""
        L = len(mass)
        states, classes = np.empty(L + 1, np.int64), np.empty(L, np.int64)
        ends = np.exp(np.where(done.end, done.alpha[-1], NEVER) - done.log_z)
        states[L] = _drawn(ends, random.random())
        for i in range(L - 1, -1, -1):
            at = int(np.searchsorted(self.targets, states[i + 1]))
            first, last = self.target_begins[at], self.target_ends[at]
            pair = first + _drawn(done.share[i, first:last], random.random())
            states[i] = self.source[pair]
            members = self._members(self.set_of[pair])
            classes[i] = members[_drawn(mass[i, members], random.random())]
        return states, classes

    def sums(self, mass: np.ndarray) -> np.ndarray:
        """mass [L, K] -> [L, U]: what a pair's classes hold together."""
        return np.add.reduceat(mass[:, self.members], self.set_begins, axis=1)

    def largest(self, score: np.ndarray) -> np.ndarray:
        """score [L, K] -> [L, U]: the best of a pair's classes."""
        return np.maximum.reduceat(score[:, self.members], self.set_begins, axis=1)

    def best(
        self, worth: np.ndarray, start: int, end: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray], float]:
        """The best way through -> states [L + 1], the classes allowed at each position, its worth.

        worth [L, U]: logs of `sums` for the likeliest way, `largest` of log p for the likeliest string.
        """
        L = len(worth)
        values = np.full((L + 1, self.num_states), NEVER)
        values[0, start] = 0.0
        for i in range(L):
            scores = values[i][self.source] + worth[i][self.set_of]
            values[i + 1, self.targets] = np.maximum.reduceat(scores, self.target_begins)
        last = np.where(end, values[-1], NEVER)
        states, classes = np.empty(L + 1, np.int64), []
        states[L] = last.argmax()
        for i in range(L - 1, -1, -1):
            at = int(np.searchsorted(self.targets, states[i + 1]))
            pairs = slice(self.target_begins[at], self.target_ends[at])
            scores = values[i][self.source[pairs]] + worth[i][self.set_of[pairs]]
            pair = self.target_begins[at] + scores.argmax()
            states[i] = self.source[pair]
            classes.append(self._members(self.set_of[pair]))
        return states, classes[::-1], float(last.max())

    def _members(self, number: int) -> np.ndarray:
        ends = np.append(self.set_begins[1:], len(self.members))
        return self.members[self.set_begins[number] : ends[number]]


def _drawn(weights: np.ndarray, uniform: float) -> int:
    sums = np.cumsum(weights)
    return int(
        min(np.searchsorted(sums, uniform * sums[-1], side="right"), np.flatnonzero(weights)[-1])
    )
