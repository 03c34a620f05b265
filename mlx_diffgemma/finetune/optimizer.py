"""One step of an optimiser as a function: values, gradients and moments in, new ones out.

Nothing is changed in place, so that a step that is interrupted leaves the one before whole. The
rules are those of mlx.optimizers, but for Muon's, which takes a stack of experts for one matrix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import optimizers
from numpy.typing import NDArray

from ..machine.device import in_numpy, on_gpu
from .parameters import Values
from .recipe import Recipe

Moments = Mapping[str, mx.array]
"""What an optimiser remembers, by NAME/part."""

NEWTON_SCHULZ = (
    3.4445,
    -4.7750,
    2.0315,
)  # of a step, five of them: kellerjordan.github.io/posts/muon
NO_MATRICES = "embed", "router"  # parts of names whose matrices Muon leaves to AdamW
TINY = 1e-7


class Muon(optimizers.Optimizer):
    """Muon with decoupled weight decay, each matrix of a stack [..., O, I] by itself.

    The momentum is averaged and looked ahead (Nesterov's), as in the reference.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.momentum, self.weight_decay = recipe.momentum, recipe.weight_decay

    def init_single(self, parameter: mx.array, state: dict[str, mx.array]) -> None:
        """Zero momentum."""
        state["v"] = mx.zeros_like(parameter)

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]
    ) -> mx.array:
        """The new parameter; the new momentum goes into `state`."""
        kept = self.momentum
        state["v"] = kept * state["v"] + (1 - kept) * gradient
        moved = orthogonal(kept * state["v"] + (1 - kept) * gradient)
        rows, columns = parameter.shape[-2:]
        lr = self.learning_rate
        decayed = (1 - lr * self.weight_decay) * parameter
        new: mx.array = decayed - lr * max(1, rows / columns) ** 0.5 * moved
        return new


def orthogonal(x: mx.array) -> mx.array:
    """Matrices [..., O, I] with all singular values moved to about 1, by five Newton-Schulz steps.

    On the CPU numpy multiplies.
    """
    return _newton_schulz_ops(x) if on_gpu() else in_numpy(_newton_schulz_numpy, x)


def _newton_schulz_ops(x: mx.array) -> mx.array:
    tall = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x
    x = x / (mx.sqrt((x * x).sum(axis=(-2, -1), keepdims=True)) + TINY)
    a, b, c = NEWTON_SCHULZ
    for _ in range(5):
        squared = x @ x.swapaxes(-1, -2)
        x = a * x + (b * squared + c * squared @ squared) @ x
    return x.swapaxes(-1, -2) if tall else x


def _newton_schulz_numpy(x: NDArray[Any]) -> NDArray[Any]:
    tall = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x
    x = x / (np.sqrt(np.square(x).sum(axis=(-2, -1), keepdims=True)) + TINY)
    a, b, c = NEWTON_SCHULZ  # numbers of Python leave arrays in float32
    for _ in range(5):
        squared = x @ x.swapaxes(-1, -2)
        x = a * x + (b * squared + c * (squared @ squared)) @ x
    return np.ascontiguousarray(x.swapaxes(-1, -2) if tall else x)


@dataclass(frozen=True)
class Optimizer:
    """The optimiser of a recipe."""

    recipe: Recipe

    def begin(self, values: Values) -> dict[str, mx.array]:
        """The moments before the first step."""
        moments: dict[str, mx.array] = {}
        for name, value in values.items():
            own: dict[str, mx.array] = {}
            self._rule(name, value, 1).init_single(value, own)
            moments |= {f"{name}/{part}": array for part, array in own.items()}
        return moments

    def __call__(
        self, values: Values, gradients: Values, moments: Moments, step: int
    ) -> tuple[dict[str, mx.array], dict[str, mx.array]]:
        """Values and moments after step 1, 2, 3, ...; gradients are float32."""
        rules: dict[bool, optimizers.Optimizer] = {}
        new_values: dict[str, mx.array] = {}
        new_moments: dict[str, mx.array] = {}
        parts = _by_name(moments)
        for name, value in values.items():
            alone = self._is_matrix(name, value)
            rule = rules.setdefault(alone, self._rule(name, value, step))
            own = dict(parts.get(name, {}))
            new_values[name] = rule.apply_single(gradients[name], value, own)
            new_moments |= {f"{name}/{part}": array for part, array in own.items()}
        return new_values, new_moments

    def _is_matrix(self, name: str, value: mx.array) -> bool:
        return value.ndim >= 2 and not any(part in name for part in NO_MATRICES)

    def _rule(self, name: str, value: mx.array, step: int) -> optimizers.Optimizer:
        """The rule of a variable, at its learning rate in step `step`."""
        recipe = self.recipe
        rule: optimizers.Optimizer
        lr = recipe.lr
        if recipe.optimizer == "muon" and self._is_matrix(name, value):
            rule, lr = Muon(recipe), recipe.matrix_lr
        elif recipe.optimizer == "adafactor":
            rule = optimizers.Adafactor(
                learning_rate=lr,
                scale_parameter=False,
                relative_step=False,
                weight_decay=recipe.weight_decay,
            )
        else:
            rule = optimizers.AdamW(
                learning_rate=lr,
                betas=list(recipe.betas),
                eps=recipe.eps,
                weight_decay=recipe.weight_decay,
                bias_correction=True,
            )
        rule.learning_rate = mx.array(lr * recipe.share(step), mx.float32)
        rule.state["step"] = mx.array(step, mx.uint64)
        return rule


def clipped(gradients: Values, most: float) -> tuple[dict[str, mx.array], mx.array]:
    """The gradients with their common norm at most `most` (0: no limit), and that norm before."""
    norm = mx.sqrt(sum((mx.square(g).sum() for g in gradients.values()), mx.array(0.0)))
    if not most:
        return dict(gradients), norm
    scale = mx.minimum(most / (norm + 1e-6), 1.0)
    return {name: gradient * scale for name, gradient in gradients.items()}, norm


def averaged(average: Values, values: Values, recipe: Recipe, step: int) -> dict[str, mx.array]:
    """The running average of the weights after `step`; the first steps count for less."""
    keep = min(recipe.average, 1 - 1 / (1 + 0.3 * step))
    return {name: keep * average[name] + (1 - keep) * value for name, value in values.items()}


def _by_name(moments: Moments) -> dict[str, dict[str, mx.array]]:
    parts: dict[str, dict[str, mx.array]] = {}
    for key, array in moments.items():
        name, _, part = key.rpartition("/")
        parts.setdefault(name, {})[part] = array
    return parts
