"""The next step's soft embeddings of a chunk: made, gathered, or left until needed.

Axes: R rows of a chunk, V vocabulary, H hidden size. What a row still needs is made only when the
next step asks, so that a canvas's last step never pays for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx
import numpy as np

from ..model.text import Model
from .sampler import Logits


class Soft(Protocol):
    """Soft embeddings of R rows, perhaps to be completed."""

    def arrays(self) -> Sequence[mx.array]:
        """What is kept until then."""

    def dense_rows(self) -> int:
        """Rows that take, or took, the product with the whole embedding."""

    def completed(self, model: Model) -> mx.array:
        """[R, H]."""


@dataclass(frozen=True)
class Made:
    """All rows by the whole product: soft [R, H]."""

    soft: mx.array

    def arrays(self) -> Sequence[mx.array]:
        return (self.soft,)

    def dense_rows(self) -> int:
        return self.soft.shape[0]

    def completed(self, model: Model) -> mx.array:
        return self.soft


@dataclass(frozen=True)
class Left:
    """All rows from their logits, later."""

    logits: Logits

    def arrays(self) -> Sequence[mx.array]:
        return (self.logits.raw,)

    def dense_rows(self) -> int:
        return self.logits.raw.shape[0]

    def completed(self, model: Model) -> mx.array:
        soft = model.soft_embedding(self.logits.processed())
        mx.eval(soft)  # one chunk at a time: what the product needs is as wide as the vocabulary
        return soft


@dataclass(frozen=True)
class Sparse:
    """Gathered rows, soft [R, H]; where suffices [R] bool is false, from their logits, later."""

    soft: mx.array
    suffices: mx.array
    logits: Logits

    def arrays(self) -> Sequence[mx.array]:
        return self.soft, self.suffices, self.logits.raw

    def dense_rows(self) -> int:
        return int((~self.suffices).sum())

    def completed(self, model: Model) -> mx.array:
        missing = np.flatnonzero(~np.array(self.suffices))
        if not missing.size:
            return self.soft
        ids = mx.array(missing)
        soft = mx.array(self.soft)
        soft[ids] = Left(self.logits.of_rows(ids)).completed(model)
        return soft
