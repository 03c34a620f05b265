"""The next step's soft embeddings: products taken, rows gathered, or logits kept until then.

Axes: R rows of a part, F denoised positions of a canvas, V vocabulary, H hidden size. Rows that
still need the product with the whole embedding get it when the next step asks, all rows of a canvas
together, so that a canvas's last step never pays for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..kernels.soft_gather import trial as kernels
from ..kernels.soft_gather.launch import gather_by_class, gather_in_kernel
from ..kernels.soft_gather.tiers import PRODUCT, SECOND
from ..model.text import Model
from .classes import ClassOrder
from .predictions import Predictions
from .sampler import ClassBias, Logits

# Rows that take the product with the whole embedding at a time. A product reads the embedding once,
# so few rows take as long as 32. More than 64 would gain little, and need memory for their logits.
PRODUCT_ROWS = 64


@dataclass(frozen=True)
class Part:
    """Soft embeddings of R rows.

    rows [R, H], None where all of them wait for the product; tier [R] uint8: what is enough for
    each, None where none was gathered; logits: of the rows that may wait, else None.
    """

    rows: mx.array | None
    tier: mx.array | None = None
    logits: Logits | None = None

    @property
    def arrays(self) -> list[mx.array]:
        """The arrays that are kept for the next step; in 16 bits the raw logits among them."""
        kept = (self.rows, self.tier, self.logits.raw if self.logits else None)
        return [array for array in kept if array is not None]


@dataclass(frozen=True, kw_only=True)
class OwnPart(Part):
    """Soft embeddings of R rows that wait for the product, each Mac with the logits of its own ids.

    largest, mass [R, 1] float32: of all ids, as `Embedding.own_soft` takes them.
    """

    logits: Logits
    largest: mx.array
    mass: mx.array

    def completed(self, model: Model) -> mx.array:
        """Soft embeddings [R, H] on every Mac: each multiplies by its own rows of the table."""
        embedding, products = model.embedding, []
        for first in range(0, self.logits.raw.shape[0], PRODUCT_ROWS):
            rows = mx.arange(first, min(first + PRODUCT_ROWS, self.logits.raw.shape[0]))
            x = self.logits.of_rows(rows).processed()
            product = embedding.own_soft(x, self.largest[rows], self.mass[rows])
            mx.eval(product)
            products.append(product)
        soft = embedding.summed(mx.concatenate(products))
        mx.eval(soft)  # before another message is built: two that wait may go in either order
        return soft


def soft_part(model: Model, seen: Predictions, *, gathers: bool, in_kernel: bool) -> Part:
    """Soft embeddings of R rows in the cheapest form that is right.

    gathers: from few tokens; in_kernel: by soft_gather.
    """
    if gathers:
        soft, _, tier = gathered(model, seen, in_kernel)
        return Part(soft, tier, seen.logits)
    if seen.statistics is None:
        return Part(None, logits=seen.logits)
    if model.dtype == mx.float32:  # the same weights again: spares a second pass of exponentials
        return Part(model.mixed_embedding(seen.statistics.weights, seen.statistics.total))
    return Part(model.soft_embedding(seen.processed()))


def gathered(
    model: Model, seen: Predictions, in_kernel: bool
) -> tuple[mx.array, mx.array, mx.array]:
    """Soft embeddings [R, H] from few tokens, the mass left out [R], and the tiers [R]."""
    if in_kernel and seen.slices is not None:
        return gather_in_kernel(seen.logits, seen.slices, model.embedding.gather_table)
    if in_kernel and seen.read is not None and seen.picked is not None:
        blocks, order = seen.read.blocks, seen.read.order
        table = model.embedding.gather_table
        return gather_by_class(seen.logits, blocks, seen.picked, order, table)
    return model.gathered_embedding(seen.processed(), seen.logits.added())


def gathers_in_kernel(model: Model, logits: Logits) -> bool:
    """True where soft_gather takes rows like these, which denoise_stats has to have seen."""
    return kernels.runs(
        logits,
        model.embedding.gather_table,
        lambda logits: model.gathered_embedding(logits.processed()),
        model.choices.soft_gather_kernels,
    )


def gathers_by_class_in_kernel(model: Model, logits: Logits, order: ClassOrder) -> bool:
    """True where soft_gather takes rows like these by class, which class_pick has to have seen."""

    def reference(logits: Logits, bias: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        added = ClassBias(bias, order.classes).of_ids()
        return model.gathered_embedding(logits.processed(), added)

    return kernels.runs_by_class(
        logits, order, model.embedding.gather_table, reference, model.choices.soft_gather_kernels
    )


@dataclass(frozen=True)
class SoftEmbeddings:
    """Soft embeddings of a canvas, whose parts follow each other.

    tiers [F] uint8: what is enough for each row, as the host has read it.
    """

    parts: Sequence[Part]
    tiers: NDArray[np.uint8]

    @property
    def dense_rows(self) -> int:
        """Number of rows that take, or took, the product with the whole embedding."""
        return int((self.tiers == PRODUCT).sum())

    @property
    def second_tier_rows(self) -> int:
        """Number of rows that are gathered from more tokens than the first tier keeps."""
        return int((self.tiers == SECOND).sum())

    @property
    def is_complete(self) -> bool:
        """True where no row waits for the product."""
        return not self.dense_rows or all(part.logits is None for part in self.parts)

    def completed(self, model: Model) -> mx.array:
        """Soft embeddings [1, F, H]; the rows that wait for the product take it here."""
        if self.is_complete:
            return joined(self.parts)
        if isinstance(own := self.parts[0], OwnPart):
            return own.completed(model)[None]
        missing = np.flatnonzero(self.tiers == PRODUCT)
        products = mx.concatenate(list(self._products(model, missing)))
        if missing.size == self.tiers.size:
            return products[None]
        soft = joined(self.parts)
        soft[:, mx.array(missing)] = products
        return soft

    def _products(self, model: Model, missing: NDArray[np.intp]) -> Iterator[mx.array]:
        """The products of the missing rows, in order, PRODUCT_ROWS at a time.

        Each is evaluated before the next: what it needs is as wide as the vocabulary.
        """
        for first in range(0, missing.size, PRODUCT_ROWS):
            logits = self._logits(missing[first : first + PRODUCT_ROWS])
            product = model.soft_embedding(logits.processed(), logits.added())
            mx.eval(product)
            yield product

    def _logits(self, rows: NDArray[np.intp]) -> Logits:
        """The logits of some rows of the canvas, ascending."""
        kept = [part.logits for part in self.parts if part.logits is not None]
        ends = np.cumsum([logits.raw.shape[0] for logits in kept])
        owner = np.searchsorted(ends, rows, side="right")
        pieces = [
            kept[number].of_rows(
                mx.array(rows[owner == number] - ends[number] + kept[number].raw.shape[0])
            )
            for number in np.unique(owner)
        ]
        return Logits.joined(pieces)


def joined(parts: Sequence[Part]) -> mx.array:
    """The rows at hand of all parts [1, F, H], those that wait for a product as they are."""
    rows = [part.rows for part in parts if part.rows is not None]
    return mx.concatenate(rows)[None]
