"""Holes of one canvas that have a form each, and other positions beside them that have none.

Every hole has a machine of its own; their classes are refined into common ones, so that the rows of
a canvas share one class map. Axes: F denoised rows, V vocabulary, K common classes, L rows of a
hole, M classes of its machine.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConstraintError, counted
from .constraint import Constraint, best_tokens
from .machine import Machine


@dataclass(frozen=True)
class Hole:
    """A hole that is being filled.

    rows: of its positions in view, in their order, the numbers among the canvas's denoised rows;
    left: its positions that are not settled, those out of view too; state: of the machine, behind
    those that are.
    """

    machine: Machine
    rows: Sequence[int]
    left: int
    state: int


class CommonClasses:
    """Classes so fine that each lies within one class of every machine.

    machines: each of them once; of [V] int32: the class of every token; of_machine [machines, K]
    int32: the machine's class that each of them lies in.
    """

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.machines = tuple(dict.fromkeys(machines))
        self.of: NDArray[np.int32] = np.zeros(len(self.machines[0].of), np.int32)
        first = np.zeros(1, np.int64)  # a token of each class
        for machine in self.machines:
            pairs = self.of.astype(np.int64) * machine.num_classes + machine.of
            _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
            self.of = inverse.astype(np.int32)
        self.of_machine: NDArray[np.int32] = np.stack(
            [machine.of[first] for machine in self.machines]
        )

    @property
    def num_classes(self) -> int:
        """The number of common classes, K."""
        return int(self.of_machine.shape[1])

    def of_classes(self, machine: Machine) -> NDArray[np.int32]:
        """The class of one of the machines that each class [K] lies in."""
        found: NDArray[np.int32] = self.of_machine[self.machines.index(machine)]
        return found


class HoleConstraints:
    """What the holes of one canvas allow; a Constraint for all of its denoised rows.

    common: classes of the holes' machines, made here where nobody has them. ConstraintError where a
    hole is shorter than the shortest text of its form.
    """

    def __init__(self, holes: Sequence[Hole], common: CommonClasses | None = None) -> None:
        self.holes = tuple(holes)
        for number, hole in enumerate(holes, 1):
            if (needed := int(hole.machine.distance[hole.state])) > hole.left:
                raise ConstraintError(
                    f"the form of hole {number} takes {counted(needed, 'token')} at least, the "
                    f"hole has {hole.left}; make it longer."
                )
        self._common = common or CommonClasses([hole.machine for hole in holes])

    @property
    def classes(self) -> NDArray[np.int32]:
        """The common class of every token [V]."""
        return self._common.of

    @property
    def num_classes(self) -> int:
        """The number of common classes, K."""
        return self._common.num_classes

    def bias(self, log_mass: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
        """log g [F, K] and the strain, -log Z of all holes together, in nats.

        log_mass [F, K] as Constraint.bias has it. Rows of no hole have a bias of 0.
        """
        bias, strain = np.zeros(log_mass.shape, np.float32), 0.0
        for rows, constraint, groups in self._parts:
            own, nats = constraint.bias(groups.sums(log_mass[rows]))
            bias[rows] = own[:, groups.of]
            strain += nats
        return bias, strain

    def commit(
        self,
        log_mass: NDArray[np.float64],
        score: NDArray[np.float32],
        token: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """The tokens [F] of a finished canvas; arguments as Constraint.commit's.

        Those of no hole are the likeliest ones. No hole moves: how much of it is settled is for
        its template to say.
        """
        tokens = best_tokens(score, token, np.ones(score.shape, np.bool_))
        for rows, constraint, groups in self._parts:
            best, whose = groups.best(score[rows], token[rows])
            tokens[rows] = copy(constraint).commit(groups.sums(log_mass[rows]), best, whose)
        return tokens

    @cached_property
    def _parts(self) -> list[tuple[list[int], Constraint, "_Groups"]]:
        """The rows and the form of each hole in view, and its classes in the common ones."""
        return [
            (
                list(hole.rows),
                Constraint(hole.machine, hole.left, hole.state),
                _Groups(self._common.of_classes(hole.machine), hole.machine.num_classes),
            )
            for hole in self.holes
            if hole.rows
        ]


class _Groups:
    """A machine's classes [M] as groups of common ones; of [K]: the group of each."""

    def __init__(self, of: NDArray[np.int32], num_groups: int) -> None:
        self.of = of
        self._num_groups = num_groups
        self._order = np.argsort(of, kind="stable")
        self._present, self._begins = np.unique(of[self._order], return_index=True)
        self._place = np.searchsorted(self._present, of[self._order])

    def sums(self, log_mass: NDArray[np.float64]) -> NDArray[np.float64]:
        """log_mass [L, K] -> [L, M], -inf for a class without tokens."""
        ordered = log_mass[:, self._order]
        return self._spread(np.logaddexp.reduceat(ordered, self._begins, axis=1), -np.inf)

    def best(
        self, score: NDArray[np.float32], token: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The largest logit [L, M] of each class, and whose it is; ties go to the lowest id."""
        scores, tokens = score[:, self._order], token[:, self._order]
        top = np.maximum.reduceat(scores, self._begins, axis=1)
        tied = np.where(scores == top[:, self._place], tokens, np.iinfo(np.int32).max)
        lowest = np.minimum.reduceat(tied, self._begins, axis=1)
        return self._spread(top, -np.inf), self._spread(lowest, 0)

    def _spread(self, values: NDArray[Any], nothing: float) -> NDArray[Any]:
        whole = np.full((len(values), self._num_groups), nothing, values.dtype)
        whole[:, self._present] = values
        return whole
