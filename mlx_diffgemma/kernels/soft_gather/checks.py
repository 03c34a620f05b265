"""What the selftest checks of soft_gather: both 16-bit dtypes, all packings, small and 26B.

Axes: R rows, V vocabulary, H hidden size, K tokens kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...checkpoint.quantization import QuantizationConfig
from ...diffusion.sampler import SLICE
from ...machine import device
from ...machine.dtypes import dtype_name
from ...model.matrices import PackedMatrix
from ...model.soft_gather import HALF_ULP, KEPT, LEVELS, Table
from ..check import Check, as_float64
from ..denoise.launch import BLOCK
from ..denoise.trial import Reading, ReadTrial, read_in_kernels, read_in_ops
from .trial import BITS, DTYPES, GROUPS, gathered_in_kernel, gathered_in_ops, outcome, tolerances

Size = Literal["small", "26B"]
Floats = NDArray[np.float64]
PART = 8192  # tokens of an embedding made at a time


@dataclass(frozen=True)
class Sizes:
    """One instantiation; bits 0: an embedding in `dtype`."""

    R: int
    V: int
    H: int
    dtype: mx.Dtype
    bits: int = 0
    group: int = 32

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


def checks() -> Iterator[Check]:
    """Every packing, small and at the sizes of the 26B model, as `convert` makes them."""
    packings = [(0, 32), *((bits, group) for bits in BITS for group in GROUPS)]
    for dtype in DTYPES:
        for bits, group in packings:
            yield check(Sizes(7, 5003, 128, dtype, bits, group), "small")
        for bits, group in packings:
            rows = 64 if group == 64 or not bits else 16  # the others are rare, and take as long
            yield check(Sizes(rows, 262_144, 2816, dtype, bits, group), "26B")


def check(sizes: Sizes, size: Size) -> Check:
    """Bytes and operations are those of rows that keep as much as can be kept."""
    R, V = sizes.R, sizes.V
    slices, blocks = -(-V // SLICE), -(-V // BLOCK)
    read = min(KEPT, blocks) * BLOCK
    return Check(
        kernel="soft_gather",
        instantiation=str(sizes),
        size=size,
        memory_bytes=2 * sizes.table_bytes
        + R * (V * (sizes.dtype.size + 6 * 4) + 16 * KEPT * sizes.H),
        flops=R * (12 * read + 2 * KEPT * sizes.H),
        bytes_moved=R
        * (
            16 * slices
            + 4 * blocks
            + read * sizes.dtype.size
            + KEPT * sizes.row_bytes
            + sizes.H * sizes.dtype.size
            + 5
        ),
        tolerances=tolerances(sizes.dtype, R),
        prepare=partial(GatherCase.of, sizes),
    )


@dataclass(frozen=True)
class GatherCase:
    """Gathering for rows that have been read, and what float64 makes of them."""

    reading: Reading
    table: Table

    @staticmethod
    def of(sizes: Sizes) -> "GatherCase":
        trial = ReadTrial.like((sizes.R, sizes.V), sizes.dtype)
        read = read_in_kernels if device.has_metal() else read_in_ops
        return GatherCase(read(trial.logits, trial.uniforms), random_table(sizes))

    def kernel(self) -> Sequence[mx.array]:
        return outcome(gathered_in_kernel(self.reading, self.table))

    def twin(self) -> Sequence[mx.array]:
        return outcome(gathered_in_ops(self.reading, self.table))

    def reference(self) -> Sequence[NDArray[Any]]:
        """By the definition, of logits rounded as they are rounded here."""
        processed = self.reading.processed().astype(self.table.dtype)
        rows = [gather_row(as_float64(row), self.table) for row in processed]
        return [np.array(part) for part in zip(*rows, strict=True)]


def gather_row(rounded: Floats, table: Table) -> tuple[Floats, float, bool]:
    """Soft embedding [H], tail, and whether it suffices, of one row [V]."""
    shares = np.exp(rounded - rounded.max())
    shares /= shares.sum()
    levels = LEVELS[[np.count_nonzero(shares >= level) <= KEPT for level in LEVELS]]
    kept = np.flatnonzero(shares >= levels.min())
    soft = shares[kept] @ exact_rows(table, kept) * table.scale
    tail = 1.0 - float(shares[kept].sum())
    suffices = tail * table.reach <= HALF_ULP[table.dtype] * np.linalg.norm(soft)
    return soft, tail, bool(suffices)


def exact_rows(table: Table, ids: NDArray[np.integer[Any]]) -> Floats:
    """Embeddings [K, H] as stored, unpacked without rounding."""
    matrix, wanted = table.matrix, mx.array(ids)
    if not isinstance(matrix, PackedMatrix):
        return as_float64(matrix[wanted])
    assert matrix.biases is not None
    bits, group = matrix.packing.bits, matrix.packing.group_size
    words = np.asarray(matrix.weight[wanted])[..., None]
    quanta = (words >> np.arange(0, 32, bits, dtype=np.uint32)) & np.uint32(2**bits - 1)
    grouped = quanta.reshape(ids.size, -1, group).astype(np.float64)
    scales, biases = (
        as_float64(part[wanted])[..., None] for part in (matrix.scales, matrix.biases)
    )
    return (grouped * scales + biases).reshape(ids.size, -1)


def random_table(sizes: Sizes) -> Table:
    """An embedding of values in -1 .. 1; the norm is that of the largest row, a tenth added."""
    V, H, bits = sizes.V, sizes.H, sizes.bits
    matrix: mx.array | PackedMatrix
    if bits:
        words = mx.array(
            np.random.default_rng(0).integers(0, 2**32, (V, H * bits // 32), np.uint32)
        )
        groups = (V, H // sizes.group)
        scales = (uniform(groups, 1, mx.float32) + 2) * (0.3 * 2.0 ** (1 - bits))
        biases = (scales * -(2.0 ** (bits - 1))).astype(sizes.dtype)
        kind = QuantizationConfig("affine", bits, sizes.group)
        matrix = PackedMatrix(words, scales.astype(sizes.dtype), biases, kind)
    else:
        matrix = uniform((V, H), 2, sizes.dtype)
    scale = as_float64(mx.array(H**0.5).astype(sizes.dtype)).item()
    return Table(matrix, sizes.dtype, scale, 1.1 * (H / 3) ** 0.5)


def uniform(shape: tuple[int, int], seed: int, dtype: mx.Dtype) -> mx.array:
    """Numbers in -1 .. 1, made in parts: all at once they would take three times the memory."""
    keys = mx.random.split(mx.random.key(seed), -(-shape[0] // PART))
    parts = []
    for number, key in enumerate(keys):
        rows = min(PART, shape[0] - number * PART)
        parts.append(mx.random.uniform(-1, 1, (rows, shape[1]), mx.float32, key).astype(dtype))
        mx.eval(parts)
    return mx.concatenate(parts)
