"""Holes of one canvas that have a form each, and other positions beside them that have none.

Every hole has a machine of its own; their classes are refined into common ones, so that the rows of
a canvas share one class map. Axes: F denoised rows, V vocabulary, K common classes, L rows of a
hole, M classes of its machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

    def after(self, tokens: Sequence[int]) -> "Hole":
        """The hole behind more settled tokens; its rows are those of the next canvas's to give."""
        state = self.machine.advance(self.state, tokens)
        return replace(self, rows=(), left=self.left - len(tokens), state=state)


class HoleConstraints:
    """What the holes of one canvas allow; a Constraint for all of its denoised rows.

    ConstraintError where a hole is shorter than the shortest text of its form.
    """

    def __init__(self, holes: Sequence[Hole]) -> None:
        self.holes = tuple(holes)
        for number, hole in enumerate(holes, 1):
            if (needed := int(hole.machine.distance[hole.state])) > hole.left:
                raise ConstraintError(
                    f"the form of hole {number} takes {counted(needed, 'token')} at least, the "
                    f"hole has {hole.left}; make it longer."
                )
        maps = np.stack([hole.machine.of for hole in holes])  # [holes, V]
        self._of_machine, inverse = np.unique(maps, axis=1, return_inverse=True)  # [holes, K]
        self.classes: NDArray[np.int32] = inverse.reshape(-1).astype(np.int32)

    @property
    def num_classes(self) -> int:
        """The number of common classes, K."""
        return int(self._of_machine.shape[1])

    def bias(self, log_mass: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
        """log g [F, K] and the strain, -log Z of all holes together, in nats.

        log_mass [F, K] as Constraint.bias has it. Rows of no hole have a bias of 0.
        """
        bias, strain = np.zeros(log_mass.shape, np.float32), 0.0
        for hole, groups in self._parts:
            rows = list(hole.rows)
            own, nats = _constraint(hole).bias(groups.sums(log_mass[rows]))
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
        its template to say, and `Hole.after` to follow.
        """
        tokens = best_tokens(score, token, np.ones(score.shape, np.bool_))
        for hole, groups in self._parts:
            rows = list(hole.rows)
            best, whose = groups.best(score[rows], token[rows])
            tokens[rows] = _constraint(hole).commit(groups.sums(log_mass[rows]), best, whose)
        return tokens

    @cached_property
    def _parts(self) -> list[tuple[Hole, "_Groups"]]:
        """The holes that are in view, each with what its classes are in the common ones."""
        pairs = zip(self.holes, self._of_machine, strict=True)
        return [(hole, _Groups(of, hole.machine.num_classes)) for hole, of in pairs if hole.rows]


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


def _constraint(hole: Hole) -> Constraint:
    return Constraint(hole.machine, hole.left, hole.state)
