"""The launches of the denoising kernels: metal/denoise_*.metal say what each computes.

Axes: R rows of a chunk, C canvas positions, V vocabulary, S slices of 4,096 ids, B blocks of 128.
"""

from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import mlx.core as mx

from ...errors import KernelError
from ..launch import Kernel, expect
from ..weights import DTYPES

SLICE = 4096  # ids of one slice of the draw
BLOCK = 128  # ids that share one maximum
THREADS = 256
MAX_VOCAB = 2**22  # its slices fit into threadgroup memory
MAX_POSITIONS = 512  # the canvas of one threadgroup

STATS = Kernel(
    "denoise_stats",
    ("logits", "scalars"),
    ("records", "best", "peaks"),
    headers=("denoise",),
)
PICK = Kernel(
    "denoise_pick",
    ("logits", "records", "slice_best", "uniforms", "scalars"),
    ("best", "entropy", "drawn"),
    headers=("denoise", "draw"),
)
COMMIT = Kernel(
    "denoise_commit",
    ("best", "entropy", "drawn", "renoise", "previous", "bound"),
    ("accepted", "next_canvas", "summary"),
)


class Logits(Protocol):
    """A dataclass of logits: raw [R, V] as the head gives them, the softcap, the temperature."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def raw(self) -> mx.array: ...
    @property
    def cap(self) -> float: ...
    @property
    def temperature(self) -> float: ...


L = TypeVar("L", bound=Logits)
Inputs = tuple[mx.array, mx.array, mx.array, mx.array, mx.array]
"""Of a commit: best [C] int32, entropy [C] float32 nats, drawn, renoise, previous [C] int32."""
Decision = tuple[mx.array, mx.array, mx.array]
"""Of a commit: accepted [C] bool, next canvas [C] int32, summary [2]: mean entropy, unchanged."""


@dataclass(frozen=True)
class Slices:
    """The result of denoise_stats for R rows.

    records [R, S, 4] float32: maximum, mass, moment, mass of rounded logits; best [R, S] int32;
    peaks [R, B] float32: the maximum of each block.
    """

    records: mx.array
    best: mx.array
    peaks: mx.array


def stats(logits: Logits) -> Slices:
    """Statistics of each slice of the logits [R, V], in one launch."""
    raw = logits.raw
    if raw.ndim != 2 or raw.shape[1] > MAX_VOCAB or 0 in raw.shape:
        raise KernelError(
            f"denoise_stats: logits have shape {list(raw.shape)}, expected rows of at most "
            f"{MAX_VOCAB} logits."
        )
    rows, vocab = raw.shape
    expect("denoise_stats", "logits", raw, (rows, vocab), *DTYPES)
    slices, blocks = -(-vocab // SLICE), -(-vocab // BLOCK)
    made = STATS.launch(
        (raw, scalars(logits)),
        [
            ((rows, slices, 4), mx.float32),
            ((rows, slices), mx.int32),
            ((rows, blocks), mx.float32),
        ],
        template=[("T", raw.dtype), ("V", vocab)],
        groups=(slices, rows, 1),
        threads=(THREADS, 1, 1),
    )
    return Slices(*made)


def pick(logits: Logits, slices: Slices, uniforms: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Argmax [R], entropy [R] and a token [R] drawn with uniforms [R, 2], in one launch."""
    rows, vocab = logits.raw.shape
    expect("denoise_pick", "logits", logits.raw, (rows, vocab), *DTYPES)
    expect_slices("denoise_pick", slices, rows, vocab)
    expect("denoise_pick", "uniforms", uniforms, (rows, 2), mx.float32)
    best, entropy, drawn = PICK.launch(
        (logits.raw, slices.records, slices.best, uniforms, scalars(logits)),
        [((rows,), mx.int32), ((rows,), mx.float32), ((rows,), mx.int32)],
        template=[("T", logits.raw.dtype), ("V", vocab)],
        groups=(rows, 1, 1),
        threads=(THREADS, 1, 1),
    )
    return best, entropy, drawn


def commit_in_kernel(inputs: Inputs, bound: float) -> Decision:
    """The decision of a step in one launch of one threadgroup."""
    best, entropy, drawn, renoise, previous = inputs
    if best.ndim != 1 or not 0 < best.size <= MAX_POSITIONS:
        raise KernelError(
            f"denoise_commit: best has shape {list(best.shape)}, expected 1 to {MAX_POSITIONS} "
            "positions."
        )
    positions = best.size
    ids = {"best": best, "drawn": drawn, "renoise": renoise, "previous": previous}
    for name, array in ids.items():
        expect("denoise_commit", name, array, (positions,), mx.int32)
    expect("denoise_commit", "entropy", entropy, (positions,), mx.float32)
    accepted, next_canvas, summary = COMMIT.launch(
        (*inputs, mx.array([bound], mx.float32)),
        [((positions,), mx.bool_), ((positions,), mx.int32), ((2,), mx.float32)],
        groups=(1, 1, 1),
        threads=(-(-positions // 32) * 32, 1, 1),
    )
    return accepted, next_canvas, summary


def scalars(logits: Logits) -> mx.array:
    """Softcap and temperature [2]: numbers that change between launches of one instantiation."""
    return mx.array([logits.cap, logits.temperature], mx.float32)


def expect_slices(kernel: str, slices: Slices, rows: int, vocab: int) -> None:
    """KernelError unless `slices` are those of `rows` rows over `vocab` ids."""
    count, blocks = -(-vocab // SLICE), -(-vocab // BLOCK)
    expect(kernel, "records", slices.records, (rows, count, 4), mx.float32)
    expect(kernel, "slice_best", slices.best, (rows, count), mx.int32)
    expect(kernel, "peaks", slices.peaks, (rows, blocks), mx.float32)
