"""The predictions of a chunk of rows: argmax, entropy and draw, by the kernels or by the sampler.

Axes: R rows of a chunk, V vocabulary.
"""

from dataclasses import dataclass

import mlx.core as mx

from ..kernels.denoise import trial as kernels
from ..kernels.denoise.launch import Slices
from . import sampler
from .sampler import Logits, LogitStatistics


@dataclass(frozen=True)
class Predictions:
    """Tokens that R rows of logits predict, and all that their soft embeddings are made from.

    best, drawn [R] int32; entropy [R] float32 nats. slices: of the kernels; statistics: of the
    sampler, as wide as the vocabulary; one of both is there.
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


def predict(logits: Logits, uniforms: mx.array, in_kernels: bool) -> Predictions:
    """Predictions of every row, drawn with uniforms [R, 2] in (0, 1)."""
    if in_kernels:
        made = kernels.sample_in_kernels(logits, uniforms)
        return Predictions(logits, *made.arrays, slices=made.slices)
    seen = sampler.statistics(logits.processed())
    drawn = sampler.draw(seen, uniforms)
    return Predictions(logits, seen.best, seen.entropy, drawn, statistics=seen)
