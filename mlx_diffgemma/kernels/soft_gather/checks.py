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
from ..classes.checks import random_order
from ..classes.launch import Blocks, Picked
from ..classes.trial import some_bias
from ..denoise.launch import BLOCK, SLICE, Slices, stats
from ..denoise.trial import CAP, TEMPERATURE
from ..weights import BITS, GROUPS
from .launch import DTYPES, Gathered, Table, gather_by_class, gather_in_kernel
from .tiers import KEPT, PRODUCT
from .trial import seen_by_class, tolerances, zipf_rows

Size = Literal["small", "26B"]
Floats = NDArray[np.float64]
PART = 8192  # tokens of an embedding made at a time


@dataclass(frozen=True)
class Sizes:
    """One instantiation; bits 0: an embedding in `dtype`; kept: tokens at most, by tier.

    classes: of a form whose bias the rows have, 0 for free rows.
    """

    R: int
    V: int
    H: int
    dtype: mx.Dtype
    bits: int = 0
    group: int = 32
    kept: tuple[int, ...] = (64, 128)
    classes: int = 0

    def __str__(self) -> str:
        packed = f"{self.bits}-bit groups of {self.group}" if self.bits else "not packed"
        logits = f"{self.V} logits{f' in {self.classes} classes' if self.classes else ''}"
        return f"{dtype_name(self.dtype)}, {self.R} rows of {logits}, {self.H} wide, {packed}"

    @property
    def blocks(self) -> int:
        """Blocks of 128 ids; no order by class has more."""
        return -(-self.V // BLOCK) + self.classes

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


@dataclass(frozen=True)
class Given:
    """The modules with the reference implementations: of the gather, the sampler, the classes."""

    gather: ModuleType
    sampler: ModuleType
    classes: ModuleType


def checks(given: Given) -> Iterator[Check]:
    """Every packing, small and at the sizes of the 26B model, as `convert` makes them; free rows,
    and rows with a bias."""
    packings = [(0, 32), *((bits, group) for bits in BITS for group in GROUPS)]
    for dtype in DTYPES:
        for classes in (0, 41):
            for bits, group in packings:
                small = Sizes(16, 5003, 128, dtype, bits, group, classes=classes)
                yield check(small, "small", given)
        for classes in (0, 430):
            for bits, group in packings:
                rows = (
                    64 if group == 64 or not bits else 16
                )  # the others are rare, and take as long
                real = Sizes(rows, 262_144, 2816, dtype, bits, group, KEPT, classes)
                yield check(real, "26B", given)


def check(sizes: Sizes, size: Size, given: Given) -> Check:
    """The check of one instantiation; bytes and operations count rows that keep all they can."""
    R, V = sizes.R, sizes.V
    slices, blocks = 1 if sizes.classes else -(-V // SLICE), sizes.blocks
    kept = sizes.kept[-1]
    read = min(kept, blocks) * BLOCK
    by_class = 4 * blocks + 4 * read if sizes.classes else 0  # shifts, and ids
    return Check(
        kernel="soft_gather",
        instantiation=str(sizes),
        size=size,
        memory_bytes=2 * sizes.table_bytes
        + R * V * (sizes.dtype.size + 6 * 4)
        + 16 * given.gather.GATHERED * sizes.H,
        flops=R * (12 * read + 2 * kept * sizes.H),
        bytes_moved=R
        * (
            16 * slices
            + 4 * blocks
            + by_class
            + read * sizes.dtype.size
            + kept * sizes.row_bytes
            + sizes.H * sizes.dtype.size
            + 5
        ),
        tolerances=tolerances(given.gather.HALF_ULP[sizes.dtype]),
        prepare=partial(ClassGatherCase.of if sizes.classes else GatherCase.of, sizes, given),
    )


@dataclass(frozen=True)
class GatherCase:
    """Gathering of some rows, and its results in float64."""

    logits: Any  # of the sampler
    slices: Slices | None  # None without Metal
    table: Any  # of the reference
    given: ModuleType

    @staticmethod
    def of(sizes: Sizes, given: Given) -> "GatherCase":
        raw = zipf_rows((sizes.R, sizes.V), sizes.dtype)
        logits = given.sampler.Logits(raw, CAP, TEMPERATURE)
        slices = stats(logits) if device.has_metal() else None
        return GatherCase(logits, slices, random_table(sizes, given.gather), given.gather)

    def kernel(self) -> Sequence[mx.array]:
        return gather_in_kernel(self.logits, self.slices or stats(self.logits), self.table)

    def reference(self) -> Sequence[mx.array]:
        made: Gathered = self.given.gather(self.rounded(), self.table)
        return made

    def exact(self) -> Sequence[NDArray[Any]]:
        """Results by the definition, of logits rounded as the reference rounds them."""
        return gather_rows(self.rounded(), self.table, self.given)

    def rounded(self) -> mx.array:
        """The processed logits [R, V] in the table's dtype."""
        processed: mx.array = self.logits.processed()
        return processed.astype(self.table.dtype)


@dataclass(frozen=True)
class ClassGatherCase:
    """Gathering of some rows with a bias, and its results in float64."""

    logits: Any  # of the sampler
    order: Any  # of the reference of the classes
    bias: mx.array
    seen: tuple[Blocks, Picked] | None  # None without Metal
    table: Any  # of the reference
    given: ModuleType

    @staticmethod
    def of(sizes: Sizes, given: Given) -> "ClassGatherCase":
        logits = given.sampler.Logits(zipf_rows((sizes.R, sizes.V), sizes.dtype), CAP, TEMPERATURE)
        order = random_order(sizes.V, sizes.classes, given.classes)
        bias = some_bias(sizes.R, order)
        seen = seen_by_class(logits, order, bias) if device.has_metal() else None
        table = random_table(sizes, given.gather)
        return ClassGatherCase(logits, order, bias, seen, table, given.gather)

    def kernel(self) -> Sequence[mx.array]:
        seen, picked = self.seen or seen_by_class(self.logits, self.order, self.bias)
        return gather_by_class(self.logits, seen, picked, self.order, self.table)

    def reference(self) -> Sequence[mx.array]:
        made: Gathered = self.given.gather(self.rounded(), self.table)
        return made

    def exact(self) -> Sequence[NDArray[Any]]:
        """Results by the definition; the bias is added to logits that were rounded."""
        return gather_rows(self.rounded(), self.table, self.given)

    def rounded(self) -> mx.array:
        """The processed logits [R, V] rounded to the table's dtype, with the bias, float32."""
        rounded: mx.array = self.logits.processed().astype(self.table.dtype).astype(mx.float32)
        return rounded + self.bias[:, self.order.classes]


def gather_rows(rounded: mx.array, table: Table, given: ModuleType) -> Sequence[NDArray[Any]]:
    """Soft embeddings [R, H], tails and tiers [R] of rows [R, V]."""
    rows = [gather_row(as_float64(row), table, given) for row in rounded]
    return [np.array(part) for part in zip(*rows, strict=True)]


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
