"""The predictions of a chunk of rows: argmax, entropy and draw, by the kernels or by the sampler.

Where a constraint holds the rows, in two halves with the host between them.
Axes: R rows of a chunk, V vocabulary, K token classes.
"""

from dataclasses import dataclass, replace

import mlx.core as mx

from ..kernels.classes import launch as class_kernels
from ..kernels.classes.launch import Blocks, ClassSums, Picked
from ..kernels.denoise import trial as kernels
from ..kernels.denoise.launch import Slices
from . import classes, sampler
from .classes import ClassOrder
from .sampler import ClassBias, Logits, LogitStatistics


@dataclass(frozen=True)
class ClassRead:
    """R rows of logits read by token classes, in the order of these; what a class holds: sums."""

    logits: Logits
    order: ClassOrder
    blocks: Blocks
    sums: ClassSums

    @property
    def arrays(self) -> list[mx.array]:
        """All that the host and the second half of a step need."""
        return [self.logits.raw, *self.blocks.arrays, *self.sums]


@dataclass(frozen=True)
class Predictions:
    """Tokens that R rows of logits predict, and all that their soft embeddings are made from.

    best, drawn [R] int32; entropy [R] float32 nats. slices, or read and picked where a constraint
    holds the rows: of the kernels; statistics: of the sampler, as wide as the vocabulary.
    """

    logits: Logits
    best: mx.array
    entropy: mx.array
    drawn: mx.array
    slices: Slices | None = None
    read: ClassRead | None = None
    picked: Picked | None = None
    statistics: LogitStatistics | None = None

    def processed(self) -> mx.array:
        """The processed logits [R, V] float32, made again where the kernels made none."""
        return self.logits.processed() if self.statistics is None else self.statistics.processed


def read_by_class(logits: Logits, order: ClassOrder, in_kernels: bool) -> ClassRead:
    """The first half of a constrained step: the only pass over all logits."""
    if in_kernels:
        blocks = class_kernels.stats(logits, order)
        return ClassRead(logits, order, blocks, class_kernels.masses(blocks, order))
    blocks = classes.read(logits, order)
    return ClassRead(logits, order, blocks, classes.class_sums(blocks, order))


def predict_biased(
    seen: ClassRead, bias: mx.array, uniforms: mx.array, in_kernels: bool
) -> Predictions:
    """The second half: predictions of rows whose classes got bias [R, K], -inf for forbidden ones.

    uniforms [R, 2] in (0, 1).
    """
    logits = replace(seen.logits, bias=ClassBias(bias, seen.order.classes))
    if in_kernels:
        picked = class_kernels.pick(seen.logits, seen.blocks, seen.order, bias, uniforms)
        return Predictions(logits, *picked.arrays, read=seen, picked=picked)
    return Predictions(
        logits, *classes.sample(seen.logits, seen.blocks, seen.order, bias, uniforms)
    )


def predict(logits: Logits, uniforms: mx.array, in_kernels: bool) -> Predictions:
    """Predictions of every row, drawn with uniforms [R, 2] in (0, 1)."""
    if in_kernels:
        made = kernels.sample_in_kernels(logits, uniforms)
        return Predictions(logits, *made.arrays, slices=made.slices)
    seen = sampler.statistics(logits.processed())
    drawn = sampler.draw(seen, uniforms)
    return Predictions(logits, seen.best, seen.entropy, drawn, statistics=seen)
