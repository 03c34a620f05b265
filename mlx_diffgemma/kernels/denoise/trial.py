"""Logit statistics, a draw and the commit of a step in kernels, where a trial found them faster.

Axes: R rows of a chunk, C canvas positions, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import mlx.core as mx
import numpy as np

from ...machine.choices import Preference
from ...machine.dtypes import dtype_name
from .. import dispatch
from ..check import Tolerance, absolute_error, mismatches
from ..trial import Trial, rounded_up
from .launch import (
    MAX_POSITIONS,
    MAX_VOCAB,
    Decision,
    Inputs,
    L,
    Logits,
    Slices,
    commit_in_kernel,
    pick,
    stats,
)

FAMILY = "denoise"


@dataclass(frozen=True)
class Sampled:
    """Argmax and drawn tokens [R] int32, entropy [R] float32 nats, and the slices of R rows."""

    best: mx.array
    entropy: mx.array
    drawn: mx.array
    slices: Slices

    @property
    def arrays(self) -> tuple[mx.array, mx.array, mx.array]:
        """The results that a trial compares."""
        return self.best, self.entropy, self.drawn


Sampling = Callable[[L, mx.array], Sequence[mx.array]]
"""Logits [R, V] and uniforms [R, 2] in (0, 1) -> best, entropy, drawn [R], in MLX operations."""


def samples(logits: L, reference: Sampling[L], preference: Preference = "auto") -> bool:
    """True where the kernels take argmax, entropy and draw of rows like these."""
    key, tried = partial(described, logits), partial(sample_trial, logits, reference)
    reason = too_many("a vocabulary", logits.raw.shape[1], MAX_VOCAB)
    return dispatch.covered_and_chosen(FAMILY, reason, key, tried, preference)


def too_many(what: str, count: int, most: int) -> str | None:
    """The reason why the kernels cannot take so many; None where they can."""
    return f"{what} of {count}, more than {most}" if count > most else None


def described(logits: Logits) -> str:
    """Key of a verdict on sampling: shapes and dtype; rows up to the next power of two."""
    rows, vocab = logits.raw.shape
    return f"{rounded_up(rows)} rows of {vocab} logits, {dtype_name(logits.raw.dtype)}"


def sample_in_kernels(logits: Logits, uniforms: mx.array) -> Sampled:
    """The sample in two launches; the logits are read once, and one slice of each row again."""
    slices = stats(logits)
    return Sampled(*pick(logits, slices, uniforms), slices)


def commit(
    inputs: Inputs,
    bound: float,
    reference: Callable[..., Decision],
    preference: Preference = "auto",
) -> Decision:
    """The decision of a step that accepts `bound` nats, by the kernel or by `reference`.

    reference: takes the inputs one by one, and the bound.
    """
    positions = inputs[0].shape[0]
    rows = rounded_up(positions)
    if dispatch.covered_and_chosen(
        FAMILY,
        too_many("a canvas", positions, MAX_POSITIONS),
        lambda: f"commit of {rows} positions",
        partial(commit_trial, rows, reference),
        preference,
    ):
        return commit_in_kernel(inputs, bound)
    return reference(*inputs, bound)


# --- trials

CAP, TEMPERATURE, BOUND = 30.0, 0.6, 0.1
ENTROPY = Tolerance(
    "entropy",
    5e-5,
    "nats, of up to 12.5: float32 sums over the vocabulary, in another order",
    absolute_error,
)
ACCEPTED = (
    Tolerance("accepted", 0, "entropies whose float32 sums are exact in any order", mismatches),
    Tolerance("next canvas", 0, "as accepted", mismatches),
    Tolerance("summary", 1e-6, "nats: one division", absolute_error),
)


def sampling_tolerances(rows: int) -> tuple[Tolerance, ...]:
    """Of best, entropy and drawn."""
    flips = "a uniform may lie within rounding of the end of a token's interval"
    return (
        Tolerance("best", 0, "a comparison of equal numbers", mismatches),
        ENTROPY,
        Tolerance("drawn", max(1, rows // 16), flips, mismatches),
    )


def sample_trial(logits: L, reference: Sampling[L]) -> Trial:
    """The trial on other rows than `logits`, of the number that `described` names."""
    others, uniforms = instead_of(logits)
    return Trial(
        kernel=lambda: sample_in_kernels(others, uniforms).arrays,
        reference=lambda: reference(others, uniforms),
        tolerances=sampling_tolerances(others.raw.shape[0]),
    )


def instead_of(logits: L) -> tuple[L, mx.array]:
    """Other logits and uniforms to try an instantiation on, of the rows that `described` names."""
    rows, vocab = logits.raw.shape
    raw, uniforms = spiked_rows((rounded_up(rows), vocab), logits.raw.dtype)
    return replace(logits, raw=raw, cap=CAP, temperature=TEMPERATURE), uniforms


def spiked_rows(
    shape: tuple[int, int], dtype: mx.Dtype, seed: int = 0
) -> tuple[mx.array, mx.array]:
    """Raw logits [R, V] from nearly flat to certain, and uniforms [R, 2] to draw with.

    The logits are noise, and four equal spikes whose height grows from row to row; the uniforms
    point into the middle of a spike's interval.
    """
    rows, vocab = shape
    random = np.random.default_rng(seed)
    raw = random.standard_normal((rows, vocab), np.float32)
    heights = np.linspace(4, 24, rows, dtype=np.float32)[:, None]
    quarters = np.arange(4) * vocab // 4
    ids = (quarters + np.arange(rows)[:, None] * 37 % -(-vocab // 4)) % vocab
    np.put_along_axis(raw, ids, heights, axis=1)
    uniforms = np.stack([(np.arange(rows) % 4 + 0.5) / 4, np.full(rows, 0.375)], axis=1)
    return mx.array(raw).astype(dtype), mx.array(uniforms.astype(np.float32))


def commit_trial(positions: int, reference: Callable[..., Decision]) -> Trial:
    """The trial on a canvas of so many positions."""
    inputs = tied_canvas(positions)
    return Trial(
        kernel=lambda: commit_in_kernel(inputs, BOUND),
        reference=lambda: reference(*inputs, BOUND),
        tolerances=ACCEPTED,
    )


def tied_canvas(positions: int, seed: int = 0) -> Inputs:
    """Inputs of a commit with entropies of whole numbers of 2^-10 nats, many of them equal."""
    random = np.random.default_rng(seed)
    ids = [random.integers(0, 1000, positions).astype(np.int32) for _ in range(3)]
    entropy = (random.integers(0, 9, positions) / 1024).astype(np.float32)
    best, drawn, renoise = map(mx.array, ids)
    return best, mx.array(entropy), drawn, renoise, best + 0
