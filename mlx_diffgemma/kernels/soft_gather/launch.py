"""The launch of soft_gather: metal/soft_gather.metal says what it computes.

Axes: R rows, V vocabulary, H hidden size.
"""

from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from ...checkpoint.tensors import StoredWeight
from ...errors import KernelError
from ...machine.dtypes import dtype_name
from ..classes.launch import Blocks, Order, Picked, capacity, expect_blocks, expect_order
from ..denoise.launch import THREADS, Logits, Slices, expect_slices
from ..launch import Kernel, expect
from ..weights import packing_template, readable, weight_inputs

MAX_VOCAB = 2**19  # its block maxima fit into the threads' registers
DTYPES = (mx.float16, mx.bfloat16)

GATHER = Kernel(
    "soft_gather",
    (
        *("logits", "records", "peaks", "order", "shifts"),
        *("weight", "scales", "biases", "mean", "scalars"),
    ),
    ("soft", "tail", "tier"),
    headers=("denoise", "unpack"),
)


class Table(Protocol):
    """An embedding to gather from, packed or not.

    dtype: of activations; scale: sqrt(H) rounded to it; mean [H] in the dtype: what stands for the
    tokens left out; reach: the distance by which a whole unit of their mass could move a soft
    embedding; longest: no soft embedding is longer; half_ulp: half an ulp at 1 of the dtype; kept:
    the tokens kept at most, by tier, one tier or two.
    """

    @property
    def stored(self) -> StoredWeight: ...
    @property
    def dtype(self) -> mx.Dtype: ...
    @property
    def scale(self) -> float: ...
    @property
    def mean(self) -> mx.array: ...
    @property
    def reach(self) -> float: ...
    @property
    def longest(self) -> float: ...
    @property
    def half_ulp(self) -> float: ...
    @property
    def kept(self) -> tuple[int, ...]: ...


Gathered = tuple[mx.array, mx.array, mx.array]
"""Soft embeddings [R, H], tail [R] float32: the share left out, tier [R] uint8."""


def not_covered(vocab: int, table: Table) -> str | None:
    """The reason why the kernel cannot gather from `table`; None where it can."""
    if vocab > MAX_VOCAB:
        return f"a vocabulary of {vocab}, more than {MAX_VOCAB}"
    if table.dtype not in DTYPES:
        return f"activations in {dtype_name(table.dtype)}, not 16 bits"
    stored = table.stored
    if not readable(stored):
        return f"an embedding packed as {stored.packing.name if stored.packing else 'nothing'}"
    dense, width = stored.packing is None, stored.shape[1]
    return f"a width of {width}, not a multiple of 4" if dense and width % 4 else None


@dataclass(frozen=True)
class Source:
    """All that is known of the logits of R rows, in the names of the kernel's contract."""

    records: mx.array
    peaks: mx.array
    order: mx.array
    shifts: mx.array
    class_blocks: int

    @property
    def arrays(self) -> tuple[mx.array, ...]:
        """The kernel's inputs among it."""
        return self.records, self.peaks, self.order, self.shifts


def gather_in_kernel(logits: Logits, slices: Slices, table: Table) -> Gathered:
    """Soft embeddings in one launch, of rows [R, V] that denoise_stats has seen."""
    expect_slices("soft_gather", slices, *logits.raw.shape)
    # Arrays of the right dtypes in place of those that are not read.
    return _gathered(
        logits, Source(slices.records, slices.peaks, slices.best, slices.peaks, 0), table
    )


def gather_by_class(
    logits: Logits, seen: Blocks, picked: Picked, order: Order, table: Table
) -> Gathered:
    """Soft embeddings in one launch, of rows [R, V] with a bias: of class_stats and class_pick."""
    rows, blocks = logits.raw.shape[0], expect_order("soft_gather", order)
    expect_blocks("soft_gather", seen, rows, blocks)
    expect("soft_gather", "whole", picked.whole, (rows, 1, 4), mx.float32)
    expect("soft_gather", "shifts", picked.shifts, (rows, blocks), mx.float32)
    made = Source(picked.whole, seen.peaks, order.ids, picked.shifts, capacity(blocks))
    return _gathered(logits, made, table)


def _gathered(logits: Logits, source: Source, table: Table) -> Gathered:
    rows, vocab = logits.raw.shape
    if (reason := not_covered(vocab, table)) is not None:
        raise KernelError(f"soft_gather: {reason}, which the kernel was not made for.")
    stored, width = table.stored, table.stored.shape[1]
    expect("soft_gather", "logits", logits.raw, (rows, vocab), table.dtype)
    expect("soft_gather", "mean", table.mean, (width,), table.dtype)
    parts = weight_inputs("soft_gather", stored, (vocab, width))
    bound = [table.scale, table.reach, table.half_ulp, table.longest]
    scalars = mx.array([logits.cap, logits.temperature, *bound], mx.float32)
    first, second = (*table.kept, 0)[:2]
    sizes = [("V", vocab), ("WIDTH", width), ("KEPT", first), ("MORE", second)]
    order = ("CLASS_BLOCKS", source.class_blocks)
    soft, tail, tier = GATHER.launch(
        (logits.raw, *source.arrays, *parts, table.mean, scalars),
        [((rows, width), table.dtype), ((rows,), mx.float32), ((rows,), mx.uint8)],
        template=[("T", table.dtype), *sizes, order, *packing_template(stored)],
        groups=(rows, 1, 1),
        threads=(THREADS, 1, 1),
    )
    return soft, tail, tier
