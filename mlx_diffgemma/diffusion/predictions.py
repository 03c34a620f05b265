"""The predictions of a chunk of rows: argmax, entropy and draw, by the kernels or by the sampler.

Where a constraint holds the rows, in two halves with the host between them.
Axes: R rows of a chunk, V vocabulary, K token classes.
"""

from dataclasses import dataclass, replace

import mlx.core as mx

from ..kernels.denoise import trial as kernels
from ..kernels.denoise.launch import Slices
from . import classes, sampler
from .classes import ClassOrder, Records
from .sampler import ClassBias, Logits, LogitStatistics


@dataclass(frozen=True)
class Predictions:
    """Tokens that R rows of logits predict, and all that their soft embeddings are made from.

    best, drawn [R] int32; entropy [R] float32 nats. slices: of the kernels; statistics: of the
    sampler, as wide as the vocabulary; none of both where a constraint holds the rows.
    """

    logits: Logits
    best: mx.array
    entropy: mx.array
    drawn: mx.array
    slices: Slices | None = None
    statistics: LogitStatistics | None = None

    def processed(self) -> mx.array:
        """The processed logits [R, V] float32, made again where the kernels made none."""
        return self.logits.processed() if self.statistics is None else self.statistics.processed


@dataclass(frozen=True)
class ClassRead:
    """R rows of logits read by token classes; log_mass [R, K] float32: logs of a class's share."""

    logits: Logits
    records: Records
    log_mass: mx.array

    @property
    def arrays(self) -> list[mx.array]:
        """All that the second half of a step is made from."""
        records = self.records
        made = (records.largest, records.mass, records.moment, records.best, self.log_mass)
        return [self.logits.raw, *made]


def read_by_class(logits: Logits, order: ClassOrder) -> ClassRead:
    """The first half of a constrained step: the only pass over all logits."""
    records = classes.read(logits, order)
    return ClassRead(logits, records, classes.log_class_mass(records, order))


def predict_biased(
    seen: ClassRead, order: ClassOrder, bias: mx.array, uniforms: mx.array
) -> Predictions:
    """The second half: predictions of rows whose classes got bias [R, K], -inf for forbidden ones.

    uniforms [R, 2] in (0, 1).
    """
    records = classes.biased(seen.records, order, bias)
    best, entropy = classes.merged(records)
    drawn = classes.draw(seen.logits, records, order, uniforms)
    logits = replace(seen.logits, bias=ClassBias(bias, order.classes))
    return Predictions(logits, best, entropy, drawn)


def predict(logits: Logits, uniforms: mx.array, in_kernels: bool) -> Predictions:
    """Predictions of every row, drawn with uniforms [R, 2] in (0, 1)."""
    if in_kernels:
        made = kernels.sample_in_kernels(logits, uniforms)
        return Predictions(logits, *made.arrays, slices=made.slices)
    seen = sampler.statistics(logits.processed())
    drawn = sampler.draw(seen, uniforms)
    return Predictions(logits, seen.best, seen.entropy, drawn, statistics=seen)
