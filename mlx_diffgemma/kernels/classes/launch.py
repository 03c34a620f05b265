"""The launches of the class kernels: metal/class_*.metal say what each computes.

Axes: R rows of a chunk, V vocabulary, N blocks of 128 ids of one class, K classes.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import mlx.core as mx

from ...errors import KernelError
from ..denoise.launch import BLOCK, THREADS, Logits, scalars
from ..launch import Kernel, expect
from ..weights import DTYPES

MAX_CLASSES = 4096  # their logarithms fit into threadgroup memory
MAX_BLOCKS = 4096  # those of a row fit into the registers of a threadgroup
BLOCKS_STEP = 1024  # capacities of an instantiation: forms of many sizes share one
ROWS_IN_TURN, BLOCKS_AT_ONCE = 4, 8  # of a threadgroup of class_stats

STATS = Kernel(
    "class_stats", ("logits", "ids", "scalars"), ("peaks", "sums", "best"), headers=("denoise",)
)
MASSES = Kernel(
    "class_masses", ("peaks", "sums", "block_best", "ends"), ("log_mass", "score", "token")
)
PICK = Kernel(
    "class_pick",
    (
        *("logits", "ids", "block_class", "peaks", "sums", "block_best"),
        *("bias", "uniforms", "scalars"),
    ),
    ("best", "entropy", "drawn", "whole", "shifts"),
    headers=("denoise", "draw"),
)


class Order(Protocol):
    """The ids of a vocabulary, class by class.

    ids [N, 128] int32, ascending in a block, -1 behind the last of a class; block_class [N] int32;
    ends [K] int32: the block behind the last one of each class.
    """

    @property
    def ids(self) -> mx.array: ...
    @property
    def block_class(self) -> mx.array: ...
    @property
    def ends(self) -> mx.array: ...


@dataclass(frozen=True)
class Blocks:
    """The statistics of each block of R rows of processed logits x.

    peaks [R, N] float32: max x; sums [R, N, 3] float32: of exp(x - peak), of that times x - peak,
    and of exp(T(x) - peak), x rounded to the logits' dtype; best [R, N] int32: the largest's id.
    """

    peaks: mx.array
    sums: mx.array
    best: mx.array

    @property
    def arrays(self) -> list[mx.array]:
        """All of them."""
        return [self.peaks, self.sums, self.best]


class ClassSums(NamedTuple):
    """The classes of R rows.

    log_mass [R, K] float32: the logarithm of a class's share of its row, in nats; score [R, K]
    float32: its largest processed logit; token [R, K] int32: whose that is. A class without ids has
    -inf, -inf and -1.
    """

    log_mass: mx.array
    score: mx.array
    token: mx.array


@dataclass(frozen=True)
class Picked:
    """Argmax and drawn tokens [R] int32, entropy [R] float32 nats of R rows with a bias.

    And what soft_gather takes: whole [R, 1, 4] float32, the record of a row; shifts [R, N] float32,
    the bias of each block.
    """

    best: mx.array
    entropy: mx.array
    drawn: mx.array
    whole: mx.array
    shifts: mx.array

    @property
    def arrays(self) -> tuple[mx.array, mx.array, mx.array]:
        """The results that a trial compares."""
        return self.best, self.entropy, self.drawn


def stats(logits: Logits, order: Order) -> Blocks:
    """Statistics of each block of the logits [R, V], in one launch."""
    raw, blocks = logits.raw, expect_order("class_stats", order)
    if raw.ndim != 2 or 0 in raw.shape:
        raise KernelError(f"class_stats: logits have shape {list(raw.shape)}, expected rows.")
    rows, vocab = raw.shape
    expect("class_stats", "logits", raw, (rows, vocab), *DTYPES)
    made = STATS.launch(
        (raw, order.ids, scalars(logits)),
        [
            ((rows, blocks), mx.float32),
            ((rows, blocks, 3), mx.float32),
            ((rows, blocks), mx.int32),
        ],
        template=[("T", raw.dtype), ("V", vocab)],
        groups=(-(-blocks // BLOCKS_AT_ONCE), -(-rows // ROWS_IN_TURN), 1),
        threads=(THREADS, 1, 1),
    )
    return Blocks(*made)


def masses(seen: Blocks, order: Order) -> ClassSums:
    """The classes of R rows, in one launch."""
    blocks, classes = expect_order("class_masses", order), order.ends.size
    rows = seen.peaks.shape[0]
    expect_blocks("class_masses", seen, rows, blocks)
    made = MASSES.launch(
        (*seen.arrays, order.ends),
        [((rows, classes), mx.float32), ((rows, classes), mx.float32), ((rows, classes), mx.int32)],
        groups=(rows, 1, 1),
        threads=(THREADS, 1, 1),
    )
    return ClassSums(*made)


def pick(logits: Logits, seen: Blocks, order: Order, bias: mx.array, uniforms: mx.array) -> Picked:
    """Argmax, entropy and a draw of rows whose classes got `bias` [R, K], in one launch.

    uniforms [R, 2] in (0, 1).
    """
    blocks, (rows, vocab) = expect_order("class_pick", order), logits.raw.shape
    expect("class_pick", "logits", logits.raw, (rows, vocab), *DTYPES)
    expect_blocks("class_pick", seen, rows, blocks)
    expect("class_pick", "bias", bias, (rows, order.ends.size), mx.float32)
    expect("class_pick", "uniforms", uniforms, (rows, 2), mx.float32)
    made = PICK.launch(
        (
            *(logits.raw, order.ids, order.block_class, *seen.arrays),
            *(bias, uniforms, scalars(logits)),
        ),
        [
            ((rows,), mx.int32),
            ((rows,), mx.float32),
            ((rows,), mx.int32),
            ((rows, 1, 4), mx.float32),
            ((rows, blocks), mx.float32),
        ],
        template=[("T", logits.raw.dtype), ("V", vocab), ("MOST", capacity(blocks))],
        groups=(rows, 1, 1),
        threads=(THREADS, 1, 1),
    )
    return Picked(*made)


def capacity(blocks: int) -> int:
    """The most blocks that the instantiation for so many takes."""
    return -(-blocks // BLOCKS_STEP) * BLOCKS_STEP


def expect_order(kernel: str, order: Order) -> int:
    """The number of an order's blocks; KernelError unless it is one that the kernels take."""
    blocks, classes = order.block_class.size, order.ends.size
    if not (0 < blocks <= MAX_BLOCKS and 0 < classes <= MAX_CLASSES):
        raise KernelError(
            f"{kernel}: an order of {blocks} blocks and {classes} classes, expected 1 to "
            f"{MAX_BLOCKS} and 1 to {MAX_CLASSES}."
        )
    expect(kernel, "ids", order.ids, (blocks, BLOCK), mx.int32)
    expect(kernel, "block_class", order.block_class, (blocks,), mx.int32)
    expect(kernel, "ends", order.ends, (classes,), mx.int32)
    return blocks


def expect_blocks(kernel: str, seen: Blocks, rows: int, blocks: int) -> None:
    """KernelError unless `seen` are the statistics of so many rows and blocks."""
    expect(kernel, "peaks", seen.peaks, (rows, blocks), mx.float32)
    expect(kernel, "sums", seen.sums, (rows, blocks, 3), mx.float32)
    expect(kernel, "block_best", seen.best, (rows, blocks), mx.int32)
