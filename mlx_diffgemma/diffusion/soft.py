"""The next step's soft embeddings: products taken, rows gathered, or logits kept until then.

Axes: R rows of a chunk, F denoised positions of a canvas, V vocabulary, H hidden size. Rows that
still need the product with the whole embedding get it when the next step asks, all rows of a canvas
together, so that a canvas's last step never pays for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..kernels.soft_gather import trial as kernels
from ..kernels.soft_gather.tiers import PRODUCT, SECOND
from ..model.text import Model
from .predictions import Predictions
from .sampler import Logits

Rows = NDArray[np.intp]
"""Numbers of rows in their part."""


@dataclass(frozen=True)
class Dense:
    """Soft embeddings [R, H] by the product with the whole embedding."""

    rows: mx.array


@dataclass(frozen=True)
class Gathered:
    """Soft embeddings [R, H] from few tokens; not to be used where the tier [R] is PRODUCT."""

    rows: mx.array
    tier: mx.array
    logits: Logits


@dataclass(frozen=True)
class Deferred:
    """Logits [R, V] whose product is left to the next step."""

    logits: Logits


Part = Dense | Gathered | Deferred


def arrays(part: Part) -> list[mx.array]:
    """The arrays that a part keeps for the next step; in 16 bits the raw logits among them."""
    match part:
        case Dense():
            return [part.rows]
        case Gathered():
            return [part.rows, part.tier, part.logits.raw]
        case Deferred():
            return [part.logits.raw]


def missing_rows(part: Part) -> Rows:
    """The rows of a part that still need the product."""
    match part:
        case Dense():
            return np.arange(0)
        case Gathered():
            return np.flatnonzero(np.array(part.tier) == PRODUCT)
        case Deferred():
            return np.arange(part.logits.raw.shape[0])


def completed(part: Part, missing: Rows, products: mx.array) -> mx.array:
    """Soft embeddings [R, H] of a part, with the products of its missing rows."""
    if isinstance(part, Deferred):
        return products
    if not missing.size:
        return part.rows
    soft = mx.array(part.rows)
    soft[mx.array(missing)] = products
    return soft


def soft_part(model: Model, seen: Predictions, exact: bool) -> Part:
    """Soft embeddings of R rows in the cheapest form that is right; exact: never gathered."""
    if model.gathers and not exact:
        soft, _, tier = gathered(model, seen)
        return Gathered(soft, tier, seen.logits)
    if seen.statistics is None:
        return Deferred(seen.logits)
    if model.dtype == mx.float32:  # the same weights again: spares a second pass of exponentials
        return Dense(model.mixed_embedding(seen.statistics.weights, seen.statistics.total))
    return Dense(model.soft_embedding(seen.processed()))


def gathered(model: Model, seen: Predictions) -> tuple[mx.array, mx.array, mx.array]:
    """Soft embeddings [R, H] from few tokens, the mass left out [R], and the tiers [R]."""
    if seen.slices is None:
        return model.gathered_embedding(seen.processed())
    return kernels.gather(
        seen.logits,
        seen.slices,
        model.embedding.gather_table,
        lambda logits: model.gathered_embedding(logits.processed()),
        model.choices.soft_gather_kernels,
    )


@dataclass(frozen=True)
class SoftEmbeddings:
    """Soft embeddings of a canvas in parts; products are taken of `chunk` rows at a time."""

    parts: tuple[Part, ...]
    chunk: int

    @property
    def dense_rows(self) -> int:
        """Number of rows that take, or took, the product with the whole embedding."""
        return sum(
            part.rows.shape[0] if isinstance(part, Dense) else missing_rows(part).size
            for part in self.parts
        )

    @property
    def second_tier_rows(self) -> int:
        """Number of rows that are gathered from more tokens than the first tier keeps."""
        tiers = [np.array(part.tier) for part in self.parts if isinstance(part, Gathered)]
        return sum(int(np.count_nonzero(tier == SECOND)) for tier in tiers)

    def completed(self, model: Model) -> mx.array:
        """Soft embeddings [1, F, H]; the rows that need it take the product here."""
        missing = [missing_rows(part) for part in self.parts]
        ends = np.cumsum([rows.size for rows in missing])
        products = mx.split(self._products(model, missing), ends[:-1].tolist())
        parts = zip(self.parts, missing, products, strict=True)
        return mx.concatenate([completed(part, rows, own) for part, rows, own in parts])[None]

    def _products(self, model: Model, missing: Sequence[Rows]) -> mx.array:
        """The products of all missing rows, in order [M, H].

        One chunk at a time is evaluated: what a product needs is as wide as the vocabulary.
        """
        done = [mx.zeros((0, model.config.text.hidden_size), model.dtype)]
        for logits in self._chunks(missing):
            done.append(model.soft_embedding(logits.processed()))
            mx.eval(done[-1])
        return mx.concatenate(done)

    def _chunks(self, missing: Sequence[Rows]) -> Iterator[Logits]:
        """The logits of the missing rows, a chunk at a time."""
        lacking = [
            (part.logits, rows)
            for part, rows in zip(self.parts, missing, strict=True)
            if not isinstance(part, Dense)
        ]
        owner = np.repeat(np.arange(len(lacking)), [rows.size for _, rows in lacking])
        row = np.concatenate([rows for _, rows in lacking]) if lacking else owner
        for first in range(0, owner.size, self.chunk):
            piece = slice(first, first + self.chunk)
            raw = [
                lacking[number][0].raw[mx.array(row[piece][owner[piece] == number])]
                for number in np.unique(owner[piece])
            ]
            yield replace(lacking[0][0], raw=mx.concatenate(raw))
