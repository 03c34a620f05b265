"""A constrained step's classes, statistics and draw in kernels, where a trial found them faster.

Axes: R rows of a chunk, V vocabulary, K classes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import mlx.core as mx
import numpy as np

from ...machine.choices import Preference
from .. import dispatch
from ..check import Tolerance, absolute_error, mismatches
from ..denoise.launch import MAX_VOCAB, L, Logits
from ..denoise.trial import described, instead_of, sampling_tolerances, too_many
from ..trial import Trial
from .launch import MAX_BLOCKS, MAX_CLASSES, Order, masses, pick, stats

FAMILY = "classes"

O = TypeVar("O", bound=Order)  # noqa: E741 - the order that both sides are given
Sampling = Callable[[L, O, mx.array, mx.array], Sequence[mx.array]]
"""Logits [R, V], an order, bias [R, K] and uniforms [R, 2] -> log_mass, score, token [R, K] before
the bias, and best, entropy, drawn [R] with it, in MLX operations."""


def samples(
    logits: L, order: O, reference: Sampling[L, O], preference: Preference = "auto"
) -> bool:
    """True where the kernels read rows like these by class, and draw from them with a bias."""
    key, tried = partial(named, logits), partial(trial, logits, order, reference)
    reason = not_covered(logits, order)
    return dispatch.covered_and_chosen(FAMILY, reason, key, tried, preference)


def not_covered(logits: Logits, order: Order) -> str | None:
    """The reason why the kernels cannot take such rows; None where they can."""
    return (
        too_many("a vocabulary", logits.raw.shape[1], MAX_VOCAB)
        or too_many("a form's blocks", order.block_class.size, MAX_BLOCKS)
        or too_many("a form's classes", order.ends.size, MAX_CLASSES)
    )


def named(logits: Logits) -> str:
    """Key of a verdict: that of free rows; forms of all sizes share it."""
    return f"{described(logits)}, by class"


def all_in_kernels(
    logits: Logits, order: Order, bias: mx.array, uniforms: mx.array
) -> Sequence[mx.array]:
    """Both halves of a step in three launches: the logits are read once, and one block of each row
    again."""
    seen = stats(logits, order)
    return *masses(seen, order), *pick(logits, seen, order, bias, uniforms).arrays


# --- trials


def tolerances(rows: int) -> tuple[Tolerance, ...]:
    """Of log_mass, score, token, best, entropy and drawn."""
    return (
        Tolerance(
            "log mass",
            5e-5,
            "nats, a difference of two numbers of up to 300: float32 sums, in another order",
            absolute_error,
        ),
        Tolerance("score", 5e-5, "of up to 150: units in the last place of tanh", absolute_error),
        Tolerance("token", 0, "a comparison of equal numbers", mismatches),
        *sampling_tolerances(rows),
    )


def trial(logits: L, order: O, reference: Sampling[L, O]) -> Trial:
    """The trial on other rows than `logits`, and the very order."""
    others, uniforms = instead_of(logits)
    rows = others.raw.shape[0]
    bias = some_bias(rows, order)
    return Trial(
        kernel=lambda: all_in_kernels(others, order, bias, uniforms),
        reference=lambda: reference(others, order, bias, uniforms),
        tolerances=tolerances(rows),
    )


def some_bias(rows: int, order: Order, seed: int = 0) -> mx.array:
    """A bias [R, K] that forbids a third of the classes, never that of the most ids."""
    random = np.random.default_rng(seed)
    bias = random.normal(0, 2, (rows, order.ends.size)).astype(np.float32)
    kept = np.bincount(np.asarray(order.block_class)).argmax()
    bias[:, np.arange(order.ends.size) % 3 == (kept + 1) % 3] = -np.inf
    return mx.array(bias)
