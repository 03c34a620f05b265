"""Checks of the class kernels for the selftest: all dtypes, on small and on real shapes.

Axes: R rows, V vocabulary, N blocks, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...machine.dtypes import dtype_name
from ..check import Check, as_float64
from ..denoise.checks import Floats, Size, first_exceeding, processed_rows
from ..denoise.launch import BLOCK
from ..denoise.trial import CAP, TEMPERATURE, spiked_rows
from ..weights import DTYPES
from .launch import Order
from .trial import all_in_kernels, some_bias, tolerances

# Odd sizes; a vocabulary as small as the embedded checkpoints'; that of the 26B model with as many
# classes as the form of an ordinary schema.
SIZES: tuple[tuple[Size, int, int, int], ...] = (
    ("small", 7, 5003, 41),
    ("small", 90, 128, 5),
    ("26B", 64, 262_144, 430),
)


def checks(reference: ModuleType, sampler: ModuleType) -> Iterator[Check]:
    """Every instantiation: one a dtype and vocabulary; the number of classes makes none."""
    for size, rows, vocab, classes in SIZES:
        for dtype in DTYPES:
            yield _check(size, (rows, vocab), classes, dtype, reference, sampler)


@dataclass(frozen=True)
class ClassCase:
    """Both halves of a constrained step of some rows, and their results in float64."""

    logits: Any  # of the sampler
    order: Order
    bias: mx.array
    uniforms: mx.array
    given: ModuleType

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        classes: int,
        dtype: mx.Dtype,
        reference: ModuleType,
        sampler: ModuleType,
        seed: int = 0,
    ) -> "ClassCase":
        """Rows [R, V] from nearly flat to certain; a bias that forbids a third of the classes."""
        raw, uniforms = spiked_rows(shape, dtype, seed)
        order = random_order(shape[1], classes, reference, seed)
        bias = some_bias(shape[0], order, seed)
        return cls(sampler.Logits(raw, CAP, TEMPERATURE), order, bias, uniforms, reference)

    def kernel(self) -> Sequence[mx.array]:
        return all_in_kernels(self.logits, self.order, self.bias, self.uniforms)

    def reference(self) -> Sequence[mx.array]:
        inputs = self.logits, self.order, self.bias, self.uniforms
        made: Sequence[mx.array] = self.given.both_halves(*inputs)
        return made

    def exact(self) -> Sequence[NDArray[Any]]:
        bias, uniforms = as_float64(self.bias), as_float64(self.uniforms)
        blocks = [ids[ids >= 0] for ids in np.asarray(self.order.ids)]
        own = np.asarray(self.order.block_class)
        parts = zip(processed_rows(self.logits), bias, uniforms, strict=True)
        rows = [read_row(x, blocks, own, b, u) for x, b, u in parts]
        return [np.array(part) for part in zip(*rows, strict=True)]


def read_row(
    processed: Floats,
    blocks: Sequence[NDArray[np.int32]],
    own: NDArray[np.int32],
    bias: Floats,
    uniforms: Floats,
) -> tuple[Floats, Floats, NDArray[np.int32], int, float, int]:
    """All results for one row [V] of blocks of ids, whose classes are `own`, with two uniforms."""
    log_mass, score = np.full(bias.size, -np.inf), np.full(bias.size, -np.inf)
    token = np.full(bias.size, -1, np.int32)
    moved = np.full(processed.size, -np.inf)
    for label in set(own.tolist()):
        members = np.sort(np.concatenate([blocks[n] for n in range(own.size) if own[n] == label]))
        x = processed[members]
        score[label], token[label] = x.max(), members[x.argmax()]
        log_mass[label] = x.max() + np.log(np.exp(x - x.max()).sum())
        moved[members] = x + bias[label]
    log_mass -= log_mass.max() + np.log(np.exp(log_mass - log_mass.max()).sum())
    shifted = moved - moved.max()
    weights = np.exp(shifted)
    total = weights.sum()
    inside = np.where(weights > 0, shifted, 0.0)
    chosen = blocks[first_exceeding(np.array([weights[ids].sum() for ids in blocks]), uniforms[0])]
    drawn = chosen[first_exceeding(weights[chosen], uniforms[1])]
    entropy = np.log(total) - (weights * inside).sum() / total
    return log_mass, score, token, int(moved.argmax()), float(entropy), int(drawn)


def random_order(vocab: int, classes: int, reference: ModuleType, seed: int = 0) -> Order:
    """Classes like a form's: most ids in one, few in many of them, and one without ids."""
    random = np.random.default_rng(seed)
    own = np.where(random.random(vocab) < 0.8, 2 % classes, 1 % classes)
    few = random.choice(vocab, min(vocab // 4, 60 * classes), replace=False)
    own[few] = (classes * random.random(few.size) ** 3).astype(np.int64)
    own[own == classes // 2] = 0
    made: Order = reference.class_order(own.astype(np.int32), classes)
    return made


def _check(
    size: Size,
    shape: tuple[int, int],
    classes: int,
    dtype: mx.Dtype,
    reference: ModuleType,
    sampler: ModuleType,
) -> Check:
    rows, vocab = shape
    logits, blocks = rows * vocab, -(-vocab // BLOCK) + classes  # no order has more blocks
    records, again = 20 * rows * blocks, rows * BLOCK
    by_class = rows * classes * (12 + 4)  # written, and the bias
    return Check(
        kernel="class_stats, class_masses, class_pick",
        instantiation=f"{rows} rows of {vocab} logits in {classes} classes, {dtype_name(dtype)}",
        size=size,
        memory_bytes=logits * (dtype.size + 8 * 4) + 16 * records,  # the reference's float32 copies
        flops=12 * logits + 12 * rows * blocks + 4 * rows * classes,
        bytes_moved=(logits + again) * dtype.size
        + blocks * BLOCK * 4  # ids
        + 3 * records
        + 4 * rows * blocks
        + by_class
        + 36 * rows,
        tolerances=tolerances(rows),
        prepare=lambda: ClassCase.of(shape, classes, dtype, reference, sampler),
    )
