"""Checks of soft_gather for the selftest: both 16-bit dtypes, all packings, small and 26B.

Axes: R rows, V vocabulary, H hidden size, K tokens kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...checkpoint.quantization import QuantizationConfig
from ...checkpoint.tensors import StoredWeight
from ...machine import device
from ...machine.dtypes import dtype_name
from ..check import Check, as_float64, unpacked_exactly
from ..denoise.launch import BLOCK, SLICE, Slices, stats
from ..denoise.trial import CAP, TEMPERATURE
from ..weights import BITS, GROUPS
from .launch import DTYPES, Gathered, Table, gather_in_kernel
from .tiers import KEPT, PRODUCT
from .trial import tolerances, zipf_rows

Size = Literal["small", "26B"]
Floats = NDArray[np.float64]
PART = 8192  # tokens of an embedding made at a time


@dataclass(frozen=True)
class Sizes:
    """One instantiation; bits 0: an embedding in `dtype`; kept: tokens at most, by tier."""

    R: int
    V: int
    H: int
    dtype: mx.Dtype
    bits: int = 0
    group: int = 32
    kept: tuple[int, ...] = (64, 128)

    def __str__(self) -> str:
        packed = f"{self.bits}-bit groups of {self.group}" if self.bits else "not packed"
        return (
            f"{dtype_name(self.dtype)}, {self.R} rows of {self.V} logits, {self.H} wide, {packed}"
        )

    @property
    def table_bytes(self) -> int:
        """Of the whole embedding."""
        return self.V * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """Of one token's embedding."""
        if not self.bits:
            return self.H * self.dtype.size
        return self.H * self.bits // 8 + 2 * self.H // self.group * self.dtype.size


def checks(reference: ModuleType, sampler: ModuleType) -> Iterator[Check]:
    """Every packing, small and at the sizes of the 26B model, as `convert` makes them."""
    packings = [(0, 32), *((bits, group) for bits in BITS for group in GROUPS)]
    for dtype in DTYPES:
        for bits, group in packings:
            yield check(Sizes(16, 5003, 128, dtype, bits, group), "small", reference, sampler)
        for bits, group in packings:
            rows = 64 if group == 64 or not bits else 16  # the others are rare, and take as long
            yield check(
                Sizes(rows, 262_144, 2816, dtype, bits, group, KEPT), "26B", reference, sampler
            )


def check(sizes: Sizes, size: Size, reference: ModuleType, sampler: ModuleType) -> Check:
    """The check of one instantiation; bytes and operations count rows that keep all they can."""
    R, V = sizes.R, sizes.V
    slices, blocks = -(-V // SLICE), -(-V // BLOCK)
    kept = sizes.kept[-1]
    read = min(kept, blocks) * BLOCK
    return Check(
        kernel="soft_gather",
        instantiation=str(sizes),
        size=size,
        memory_bytes=2 * sizes.table_bytes
        + R * V * (sizes.dtype.size + 6 * 4)
        + 16 * reference.GATHERED * sizes.H,
        flops=R * (12 * read + 2 * kept * sizes.H),
        bytes_moved=R
        * (
            16 * slices
            + 4 * blocks
            + read * sizes.dtype.size
            + kept * sizes.row_bytes
            + sizes.H * sizes.dtype.size
            + 5
        ),
        tolerances=tolerances(reference.HALF_ULP[sizes.dtype]),
        prepare=partial(GatherCase.of, sizes, reference, sampler),
    )


@dataclass(frozen=True)
class GatherCase:
    """Gathering of some rows, and its results in float64."""

    logits: Any  # of the sampler
    slices: Slices | None  # None without Metal
    table: Any  # of the reference
    given: ModuleType

    @staticmethod
    def of(sizes: Sizes, reference: ModuleType, sampler: ModuleType) -> "GatherCase":
        raw = zipf_rows((sizes.R, sizes.V), sizes.dtype)
        logits = sampler.Logits(raw, CAP, TEMPERATURE)
        slices = stats(logits) if device.has_metal() else None
        return GatherCase(logits, slices, random_table(sizes, reference), reference)

    def kernel(self) -> Sequence[mx.array]:
        return gather_in_kernel(self.logits, self.slices or stats(self.logits), self.table)

    def reference(self) -> Sequence[mx.array]:
        made: Gathered = self.given.gather(self.rounded(), self.table)
        return made

    def exact(self) -> Sequence[NDArray[Any]]:
        """Results by the definition, of logits rounded as the reference rounds them."""
        rows = [gather_row(as_float64(row), self.table, self.given) for row in self.rounded()]
        return [np.array(part) for part in zip(*rows, strict=True)]

    def rounded(self) -> mx.array:
        """The processed logits [R, V] in the table's dtype."""
        processed: mx.array = self.logits.processed()
        return processed.astype(self.table.dtype)


def gather_row(rounded: Floats, table: Table, given: ModuleType) -> tuple[Floats, float, int]:
    """Soft embedding [H], tail and tier of one row [V]."""
    shares = np.exp(rounded - rounded.max())
    shares /= shares.sum()
    tail, mean = 1.0, as_float64(table.mean)
    for tier, most in enumerate(table.kept):
        few = [np.count_nonzero(shares >= level) <= most for level in given.LEVELS]
        kept = np.flatnonzero(shares >= given.LEVELS[few].min())
        tail = 1.0 - float(shares[kept].sum())
        rows = unpacked_exactly(table.stored, mx.array(kept))
        soft = (shares[kept] @ rows + tail * mean) * table.scale
        if tail * table.reach <= table.half_ulp * np.linalg.norm(soft):
            return soft, tail, tier
    return np.zeros_like(mean), tail, PRODUCT


def random_table(sizes: Sizes, reference: ModuleType) -> Any:
    """An embedding of values within 1 of a mean embedding, whose values are within 1 of 0."""
    V, H, bits = sizes.V, sizes.H, sizes.bits
    if bits:
        words = mx.array(
            np.random.default_rng(0).integers(0, 2**32, (V, H * bits // 32), np.uint32)
        )
        groups = H // sizes.group
        scales = (uniform((V, groups), 1, mx.float32) + 2) * (0.3 * 2.0 ** (1 - bits))
        biases = uniform((1, groups), 3, mx.float32) - scales * 2.0 ** (bits - 1)
        kind = QuantizationConfig("affine", bits, sizes.group)
        stored = StoredWeight(words, scales.astype(sizes.dtype), biases.astype(sizes.dtype), kind)
    else:
        stored = StoredWeight(uniform((V, H), 2, sizes.dtype, uniform((1, H), 3, mx.float32)))
    scale = as_float64(mx.array(H**0.5).astype(sizes.dtype)).item()
    made = reference.measured(stored, sizes.dtype, scale)
    return replace(made, kept=sizes.kept)


def uniform(
    shape: tuple[int, int], seed: int, dtype: mx.Dtype, middle: mx.array | float = 0.0
) -> mx.array:
    """Numbers within 1 of `middle`, made in parts: at once they would take thrice the memory."""
    keys = mx.random.split(mx.random.key(seed), -(-shape[0] // PART))
    parts = []
    for number, key in enumerate(keys):
        rows = min(PART, shape[0] - number * PART)
        part = mx.random.uniform(-1, 1, (rows, shape[1]), mx.float32, key) + middle
        parts.append(part.astype(dtype))
        mx.eval(parts)
    return mx.concatenate(parts)
