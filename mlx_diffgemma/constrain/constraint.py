"""One answer held to its form: a bias a step, an allowed canvas at the end, and it moves on.

Axes: L canvas positions, V vocabulary, K token classes, S states.
"""

from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import ConstraintError, counted
from .lattice import NEVER, Lattice, lattice_of
from .machine import Machine

LEAST_LOG = -690.0  # of a mass: its inverse, and sums of many of these, are float64 too
NO_STRING = (
    "no text fits the form here: the model gives everything that is allowed a probability of 0; "
    "see that the weights are whole, or ask without the form."
)


@dataclass
class Constraint:
    """One answer on its way; left: tokens that may still be returned, the end included.

    state: of the machine, behind all tokens so far; begin: where that is not its start.
    """

    machine: Machine
    left: int
    begin: InitVar[int | None] = None
    state: int = field(init=False)
    lattice: Lattice = field(init=False, repr=False)

    def __post_init__(self, begin: int | None) -> None:
        self.state = self.machine.start if begin is None else begin
        self.lattice = lattice_of(self.machine)
        if (needed := int(self.machine.distance[self.state])) > self.left:
            raise ConstraintError(
                f"the shortest answer takes {counted(needed, 'token')}, {self.left:,} are left."
            )

    @property
    def classes(self) -> NDArray[np.int32]:
        """The class of every token [V]."""
        return self.machine.of

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return self.machine.num_classes

    def bias(self, log_mass: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
        """log g [L, K], which added to the logits makes them the constrained ones, and the strain.

        log_mass [L, K]: logarithms of what each class holds at each position, -inf for nothing.
        The strain is -log Z in nats, at least 0; a class counts at most -LEAST_LOG in it. Behind
        `left` positions only fillers are allowed.
        """
        length = min(len(log_mass), self.left)
        done = self.lattice.forward(masses(log_mass[:length]), self.state, self._may_end(length))
        if done.log_z == NEVER:
            raise ConstraintError(NO_STRING)
        g = np.zeros(log_mass.shape)
        g[:length] = self.lattice.factors(done)
        g[length:] = self._filling()
        with np.errstate(divide="ignore"):
            return np.log(g).astype(np.float32), max(0.0, -done.log_z)

    def commit(
        self,
        log_mass: NDArray[np.float64],
        score: NDArray[np.float32],
        token: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """The tokens [L] of a finished canvas, all of them allowed; the state moves behind them.

        The likeliest way through the states, and on it the likeliest tokens. score, token [L, K]:
        the largest logit of each class, and whose it is.
        """
        length = min(len(log_mass), self.left)
        with np.errstate(divide="ignore"):
            worth = np.log(self.lattice.sums(masses(log_mass[:length])))
        way = self.lattice.best(worth, self.state, self._may_end(length))
        if way.value == NEVER:
            raise ConstraintError(NO_STRING)
        allowed = np.zeros(score.shape, np.bool_)
        for position, members in enumerate(way.classes):
            allowed[position, members] = True
        allowed[length:] = self._filling() > 0
        self.state, self.left = int(way.states[-1]), self.left - length
        return best_tokens(score, token, allowed)

    def advance(self, tokens: Iterable[int]) -> None:
        """Take tokens that were written otherwise; ConstraintError at the first not allowed."""
        taken = list(tokens)
        self.state = self.machine.advance(self.state, taken)
        self.left -= len(taken)

    def allowed(self) -> NDArray[np.bool_]:
        """Classes [K] of which the next token may be, so that the answer can still end in time."""
        edges = (self.machine.source == self.state) & (
            self.machine.distance[self.machine.target] < self.left
        )
        allowed = np.zeros(self.num_classes, np.bool_)
        allowed[self.machine.label[edges]] = True
        return allowed

    @property
    def ended(self) -> bool:
        """True behind the end of the answer."""
        return self.state == self.machine.done

    def _may_end(self, length: int) -> NDArray[np.bool_]:
        """States [S] from which the answer can still end in the tokens left behind `length`."""
        may: NDArray[np.bool_] = self.machine.distance <= self.left - length
        return may

    def _filling(self) -> NDArray[np.float64]:
        """[K]: 1 for classes that may stand behind the end."""
        g = np.zeros(self.num_classes)
        g[self.machine.label[self.machine.source == self.machine.done]] = 1.0
        return g


def masses(log_mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """Masses of their logarithms. What is too small for float64 counts as the least one and not as
    0: a temperature near 0 forbids no form."""
    kept: NDArray[np.float64] = np.exp(np.maximum(log_mass, LEAST_LOG))
    return np.where(log_mass == NEVER, 0.0, kept)


def best_tokens(
    score: NDArray[np.float32], token: NDArray[np.int32], allowed: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """The token [L] of the largest allowed score of each row, of [L, K]; ties: the lowest id."""
    top = np.where(allowed, score, NEVER).max(axis=1, keepdims=True)
    tied = np.where(allowed & (score == top), token, np.iinfo(np.int32).max)
    best: NDArray[np.int32] = tied.min(axis=1).astype(np.int32)
    return best
