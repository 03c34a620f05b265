"""Checks of the denoising kernels for the selftest: all dtypes, on small and on real shapes.

Axes: R rows, C positions, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...machine.dtypes import dtype_name
from ..check import Check, as_float64
from ..weights import DTYPES
from .launch import BLOCK, SLICE, Decision, Inputs, Logits, commit_in_kernel
from .trial import (
    ACCEPTED,
    BOUND,
    CAP,
    TEMPERATURE,
    sample_in_kernels,
    sampling_tolerances,
    spiked_rows,
    tied_canvas,
)

Size = Literal["small", "26B"]
Floats = NDArray[np.float64]

# Odd sizes, those of the embedded checkpoint, and those of the 26B model.
ROWS: tuple[tuple[Size, int, int], ...] = (
    ("small", 7, 5003),
    ("small", 90, 128),
    ("26B", 64, 262_144),
)
POSITIONS: tuple[tuple[Size, int], ...] = (("small", 7), ("small", 90), ("26B", 256))


def checks(reference: ModuleType) -> Iterator[Check]:
    """Every instantiation: one a dtype and vocabulary; one commit, at several canvas lengths."""
    for size, rows, vocab in ROWS:
        for dtype in DTYPES:
            yield _sampling(size, rows, vocab, dtype, reference)
    for size, positions in POSITIONS:
        yield _committing(size, positions, reference)


@dataclass(frozen=True)
class SampleCase:
    """Sampling of some rows with a reference implementation, and the results in float64."""

    logits: Any  # of the sampler
    uniforms: mx.array
    given: ModuleType

    @classmethod
    def of(
        cls, shape: tuple[int, int], dtype: mx.Dtype, reference: ModuleType, seed: int = 0
    ) -> "SampleCase":
        """Rows [R, V] from nearly flat to certain."""
        raw, uniforms = spiked_rows(shape, dtype, seed)
        return cls(reference.Logits(raw, CAP, TEMPERATURE), uniforms, reference)

    def kernel(self) -> Sequence[mx.array]:
        return sample_in_kernels(self.logits, self.uniforms).arrays

    def reference(self) -> Sequence[mx.array]:
        made: Sequence[mx.array] = self.given.sample(self.logits, self.uniforms)
        return made

    def exact(self) -> Sequence[NDArray[Any]]:
        uniforms = as_float64(self.uniforms)
        parts = zip(processed_rows(self.logits), uniforms, strict=True)
        return [np.array(part) for part in zip(*(read_row(x, u) for x, u in parts), strict=True)]


@dataclass(frozen=True)
class CommitCase:
    """The commit of a step, and its results by a loop over sorted entropies."""

    inputs: Inputs
    given: ModuleType
    bound: float = BOUND

    def kernel(self) -> Sequence[mx.array]:
        return commit_in_kernel(self.inputs, self.bound)

    def reference(self) -> Sequence[mx.array]:
        made: Decision = self.given.commit(*self.inputs, self.bound)
        return made

    def exact(self) -> Sequence[NDArray[Any]]:
        best, entropy, drawn, renoise, previous = (as_float64(array) for array in self.inputs)
        order = np.argsort(entropy, kind="stable")
        before = np.concatenate([[0.0], np.cumsum(entropy[order])[:-1]])
        accepted = np.zeros(entropy.size, bool)
        accepted[order] = before <= np.float32(self.bound)
        unchanged = float(np.array_equal(best, previous))
        summary = np.array([entropy.mean(), unchanged])
        return accepted, np.where(accepted, drawn, renoise), summary


def processed_rows(logits: Logits) -> Iterator[Floats]:
    """The rows of the logits as stored, softcapped and divided, [V] each."""
    cap, temperature = (float(np.float32(x)) for x in (logits.cap, logits.temperature))
    for row in range(logits.raw.shape[0]):
        yield np.tanh(as_float64(logits.raw[row]) / cap) * cap / temperature


def read_row(processed: Floats, uniforms: Floats) -> tuple[int, float, int]:
    """Argmax, entropy and draw of one row [V], with two uniforms."""
    shifted = processed - processed.max()
    weights = np.exp(shifted)
    total = weights.sum()
    entropy = np.log(total) - (weights * shifted).sum() / total
    chosen = first_exceeding(
        np.add.reduceat(weights, np.arange(0, weights.size, SLICE)), uniforms[0]
    )
    inside = weights[chosen * SLICE : (chosen + 1) * SLICE]
    token = chosen * SLICE + first_exceeding(inside, uniforms[1])
    return int(processed.argmax()), float(entropy), token


def first_exceeding(masses: Floats, uniform: float) -> int:
    """The first index whose running sum exceeds uniform * total."""
    sums = np.cumsum(masses)
    return int(np.argmax(sums > uniform * sums[-1]))


def _sampling(size: Size, rows: int, vocab: int, dtype: mx.Dtype, reference: ModuleType) -> Check:
    logits, slices, blocks = rows * vocab, -(-vocab // SLICE), -(-vocab // BLOCK)
    read_again = rows * min(vocab, SLICE)
    records = rows * (20 * slices + 4 * blocks)
    return Check(
        kernel="denoise_stats, denoise_pick",
        instantiation=f"{rows} rows of {vocab} logits, {dtype_name(dtype)}",
        size=size,
        memory_bytes=logits * (dtype.size + 6 * 4),  # the reference's float32 copies
        flops=12 * logits + 8 * read_again,  # an exponential or tanh counts as one
        bytes_moved=(logits + read_again) * dtype.size + records + 20 * rows * slices + 20 * rows,
        tolerances=sampling_tolerances(rows),
        prepare=lambda: SampleCase.of((rows, vocab), dtype, reference),
    )


def _committing(size: Size, positions: int, reference: ModuleType) -> Check:
    return Check(
        kernel="denoise_commit",
        instantiation=f"{positions} positions",
        size=size,
        memory_bytes=64 * positions,
        flops=2 * positions * positions,
        bytes_moved=25 * positions + 8,
        tolerances=ACCEPTED,
        prepare=lambda: CommitCase(tied_canvas(positions), reference),
    )
