"""A canvas held to a form: class masses to the host, a bias back, the likeliest way at its end.

Axes: F denoised rows of a canvas, R of them in a part, V vocabulary, K token classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.config import ModelConfig
from ..constrain.constraint import Constraint
from ..errors import ConstraintError, Setting, counted
from ..machine.device import in_host
from ..model.blocks import ALL_ROWS
from ..share.part import Rows
from .classes import ClassOrder, class_order
from .predictions import ClassRead, Predictions, predict_biased

CLASS_SUMS = {"log_mass": mx.float32, "score": mx.float32, "token": mx.int32}


class RowConstraint(Protocol):
    """All that a step asks of a form, an answer's or that of a canvas's holes."""

    @property
    def classes(self) -> NDArray[np.int32]:
        """The class of every token [V]."""
        ...

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        ...

    def bias(self, log_mass: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
        """log g [F, K], and the strain in nats, of the logs of class masses [F, K]."""
        ...

    def commit(
        self,
        log_mass: NDArray[np.float64],
        score: NDArray[np.float32],
        token: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """The tokens [F] of a finished canvas; score, token [F, K]: each class's largest logit."""
        ...


@dataclass(frozen=True)
class Held:
    """A form, and the order of its ids where the logits are."""

    constraint: RowConstraint
    order: ClassOrder

    @classmethod
    def of_answer(cls, constraint: Constraint, config: ModelConfig, max_tokens: int) -> "Held":
        """The canvases of one answer, all held to one form; errors as `require_of_answer` has."""
        require_of_answer(constraint, config, max_tokens)
        return cls(constraint, class_order(constraint.classes, constraint.num_classes))

    def bias(self, log_mass: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
        """log g [F, K] of class masses [F, K], and the strain.

        Weights that are not finite make masses NaN: no automaton runs on them, the strain is NaN,
        and so are the entropies, which whoever reads the step looks at.
        """
        if np.isnan(log_mass).any():
            return np.zeros(log_mass.shape, np.float32), np.nan
        return self.constraint.bias(log_mass)


def require_of_answer(constraint: Constraint, config: ModelConfig, max_tokens: int) -> None:
    """ConstraintError where a constraint is not of a model's answers of so many tokens."""
    machine = constraint.machine
    if len(machine.of) != config.text.vocab_size:
        raise ConstraintError(
            f"the form is of a vocabulary of {len(machine.of):,} ids, expected the model's "
            f"{config.text.vocab_size:,}."
        )
    if constraint.left > max_tokens:
        raise ConstraintError(
            f"the form may take {counted(constraint.left, 'token')}, ",
            Setting("max_tokens"),
            f" is {max_tokens}; give both the same number.",
        )
    ends = machine.label[(machine.target == machine.done) & (machine.source != machine.done)]
    inside = machine.label[machine.target != machine.done]
    of_stops = machine.of[list(config.stop_ids)]
    if not np.isin(ends, of_stops).all() or np.isin(of_stops, inside).any():
        raise ConstraintError(
            f"the form ends otherwise than the model, whose stop ids are {list(config.stop_ids)}; "
            "expected some of them at its end, and none in its text."
        )


@dataclass(frozen=True)
class Masses:
    """The rows of a step by class, a part behind the other, before the host has read them.

    own: those of the F rows that the parts hold.
    """

    held: Held
    parts: Sequence[ClassRead]
    in_kernels: bool
    own: Rows = ALL_ROWS

    @property
    def arrays(self) -> list[mx.array]:
        """All that is computed before the host reads it."""
        return [array for part in self.parts for array in part.arrays]

    def read(self) -> None:
        """Let the host read the masses of all Macs, even where no row is computed here."""
        _ = self._bias

    @property
    def strain(self) -> float:
        """-log of what the form leaves of the step's distributions, in nats."""
        return self._bias[1]

    def predict(self, number: int, rows: slice, uniforms: mx.array) -> Predictions:
        """Predictions of part `number`, which holds `rows`, with the bias added."""
        bias = mx.array(self._bias[0][self.own.own][rows])
        return predict_biased(self.parts[number], bias, uniforms, self.in_kernels)

    def commit(self) -> NDArray[np.int32]:
        """The tokens [F] of the canvas that ends with this step; the form's state moves on."""
        score, token = self._of_all("score"), self._of_all("token")
        return self.held.constraint.commit(self.log_mass, score, token)

    @cached_property
    def log_mass(self) -> NDArray[np.float64]:
        """Logs of the classes' shares of each row [F, K], on the host."""
        return self._of_all("log_mass").astype(float)

    def _of_all(self, name: str) -> NDArray[Any]:
        """One of the sums of every class [F, K], of all rows wherever they are computed."""
        found = [getattr(part.sums, name) for part in self.parts]
        if self.own.share.alone:
            return np.concatenate([in_host(part) for part in found])
        none = mx.zeros((0, self.held.constraint.num_classes), CLASS_SUMS[name])
        return in_host(self.own.agreed(mx.concatenate([none, *found]), "classes"))

    @cached_property
    def _bias(self) -> tuple[NDArray[np.float32], float]:
        return self.held.bias(self.log_mass)
