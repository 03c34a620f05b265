"""The sparse soft embedding: a kernel that reads few logits and few embeddings, or its twin.

Axes: R rows, V vocabulary, H hidden size. The kernel and what it computes: metal/soft_gather.metal;
its twin: soft_gather_ops.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from ...errors import KernelError
from ...machine.choices import Wish
from ...machine.dtypes import dtype_name
from ...model import soft_gather as soft_gather_ops
from ...model.matrices import PackedMatrix
from ...model.soft_gather import HALF_ULP, Gathered, Table
from .. import dispatch
from ..check import Tolerance, absolute_error, disagreement, mismatches, row_error
from ..denoise import trial as denoise
from ..denoise.launch import THREADS, expect_slices
from ..denoise.trial import Reading, ReadTrial
from ..launch import Kernel, Template, expect

FAMILY = "soft_gather"
MAX_VOCAB = 2**19  # its block maxima fit into the threads' registers
DTYPES = (mx.float16, mx.bfloat16)
GROUPS, BITS = (32, 64, 128), (4, 8)
TABLE_DTYPES = (mx.float32, mx.float16, mx.bfloat16)

GATHER = Kernel(
    "soft_gather",
    ("logits", "records", "peaks", "weight", "scales", "biases", "scalars"),
    ("soft", "tail", "suffices"),
    headers=("denoise", "unpack"),
)


def gathered(reading: Reading, table: Table, wish: Wish = "auto") -> Gathered:
    """The soft embeddings of the rows read, from the tokens that carry weight."""
    if reading.slices is not None and (reason := not_covered(reading, table)) is not None:
        dispatch.unsupported(FAMILY, reason)
    elif reading.slices is not None and dispatch.chosen(
        FAMILY, instantiation(reading, table), lambda: GatherTrial.like(reading, table), wish
    ):
        return gathered_in_kernel(reading, table)
    return gathered_in_ops(reading, table)


def gathered_in_ops(reading: Reading, table: Table) -> Gathered:
    """The same in MLX operations; logits are rounded first, as the reference rounds them."""
    return soft_gather_ops.gathered(reading.processed().astype(table.dtype), table)


def gathered_in_kernel(reading: Reading, table: Table) -> Gathered:
    """The same in one launch, of rows that kernels have read."""
    if (reason := not_covered(reading, table)) is not None:
        raise KernelError(f"soft_gather: {reason}, which the kernel was not made for.")
    if reading.slices is None:
        raise KernelError(
            "soft_gather: rows that denoise_stats has not read; expected its records."
        )
    logits, slices = reading.logits, reading.slices
    (rows, vocab), width = logits.raw.shape, hidden_size(table)
    expect("soft_gather", "logits", logits.raw, (rows, vocab), table.dtype)
    expect_slices("soft_gather", slices, rows, vocab)
    parts = expected_parts(table, vocab)
    numbers = [logits.cap, logits.temperature, table.scale, table.reach, HALF_ULP[table.dtype]]
    made = GATHER.launch(
        (logits.raw, slices.records, slices.peaks, *parts, mx.array(numbers, mx.float32)),
        [((rows, width), table.dtype), ((rows,), mx.float32), ((rows,), mx.bool_)],
        template=[("T", table.dtype), ("V", vocab), ("WIDTH", width), *packing(table)],
        groups=(rows, 1, 1),
        threads=(THREADS, 1, 1),
    )
    return Gathered(*made)


def not_covered(reading: Reading, table: Table) -> str | None:
    """Why the kernel cannot gather from `table`; None when it can."""
    vocab = reading.logits.raw.shape[-1]
    if vocab > MAX_VOCAB:
        return f"a vocabulary of {vocab}, more than {MAX_VOCAB}"
    if table.dtype not in DTYPES:
        return f"activations in {dtype_name(table.dtype)}, not 16 bits"
    matrix = table.matrix
    if isinstance(matrix, PackedMatrix):
        kind = matrix.packing
        covered = kind.mode == "affine" and kind.bits in BITS and kind.group_size in GROUPS
        return None if covered else f"an embedding packed as {kind.name}"
    return f"a width of {matrix.shape[1]}, not a multiple of 4" if matrix.shape[1] % 4 else None


def instantiation(reading: Reading, table: Table) -> str:
    """The name of what is tried: shapes, dtypes and packing."""
    return f"{denoise.described(reading.logits)}; {hidden_size(table)} wide, {stored_as(table)}"


def stored_as(table: Table) -> str:
    """How the embedding lies in memory."""
    matrix = table.matrix
    if isinstance(matrix, PackedMatrix):
        return f"{matrix.packing.name}, {dtype_name(matrix.scales.dtype)}"
    return dtype_name(matrix.dtype)


def hidden_size(table: Table) -> int:
    """H of an embedding, packed or not."""
    if isinstance(table.matrix, PackedMatrix):
        return table.matrix.weight.shape[1] * 32 // table.matrix.packing.bits
    return table.matrix.shape[1]


def packing(table: Table) -> Template:
    """BITS and GROUP of the kernel's template; no bits: not packed."""
    if isinstance(table.matrix, PackedMatrix):
        kind = table.matrix.packing
        return [("BITS", kind.bits), ("GROUP", kind.group_size)]
    return [("BITS", 0), ("GROUP", 32)]


def expected_parts(table: Table, vocab: int) -> tuple[mx.array, mx.array, mx.array]:
    """Weight, scales and biases of the embedding, checked; KernelError names the one at fault."""
    width, matrix = hidden_size(table), table.matrix
    if not isinstance(matrix, PackedMatrix):
        expect("soft_gather", "weight", matrix, (vocab, width), *TABLE_DTYPES)
        return matrix, matrix, matrix
    if matrix.biases is None:
        raise KernelError("soft_gather: an affine embedding without biases.")
    kind = matrix.packing
    expect("soft_gather", "weight", matrix.weight, (vocab, width * kind.bits // 32), mx.uint32)
    for name, part in (("scales", matrix.scales), ("biases", matrix.biases)):
        expect("soft_gather", name, part, (vocab, width // kind.group_size), *TABLE_DTYPES)
    return matrix.weight, matrix.scales, matrix.biases


# --- what a trial compares


def tolerances(dtype: mx.Dtype, rows: int) -> tuple[Tolerance, ...]:
    """Of soft, tail and suffices."""
    ulp = 2 * HALF_ULP[dtype]
    return (
        Tolerance(
            "soft",
            6 * ulp,
            "of a row's largest value: the twin rounds shares, embeddings, sum and scaled sum, and "
            "a share on a level may be kept by one only",
            row_error,
        ),
        Tolerance("tail", 2e-5, "a float32 sum over the vocabulary", absolute_error),
        Tolerance("suffices", max(1, rows // 16), "rows at the bound", mismatches),
    )


@dataclass(frozen=True)
class GatherTrial:
    """Both ways of gathering, of rows that kernels have read."""

    reading: Reading
    table: Table

    @staticmethod
    def like(reading: Reading, table: Table) -> "GatherTrial":
        """Other rows, and the very table: it is too large for a second one."""
        trial = ReadTrial.instead_of(reading.logits)
        read = denoise.read_in_kernels(trial.logits, trial.uniforms)
        assert read.slices is not None
        mx.eval(read.slices.records, read.slices.peaks)
        return GatherTrial(read, table)

    def kernel(self) -> Sequence[mx.array]:
        return outcome(gathered_in_kernel(self.reading, self.table))

    def twin(self) -> Sequence[mx.array]:
        return outcome(gathered_in_ops(self.reading, self.table))

    def disagreement(self, kernel: Sequence[mx.array], twin: Sequence[mx.array]) -> str | None:
        rows = self.reading.logits.raw.shape[0]
        return disagreement(kernel, twin, tolerances(self.table.dtype, rows))


def outcome(found: Gathered) -> Sequence[mx.array]:
    """What is compared of a gather."""
    return found.soft, found.tail, found.suffices
