"""Reading the logits of a chunk of rows, and committing a step: kernels, or their twin.

Axes: R rows of a chunk, C canvas positions, V vocabulary.
The kernels and what they compute: metal/denoise_*.metal; their twin: denoise_ops.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import mlx.core as mx
import numpy as np

from ...diffusion import sampler as denoise_ops
from ...diffusion.sampler import Committed, Logits, Rows
from ...machine.choices import Wish
from ...machine.dtypes import dtype_name
from .. import dispatch
from ..check import Tolerance, absolute_error, disagreement, mismatches
from ..trial import rounded_up
from .launch import MAX_POSITIONS, MAX_VOCAB, Slices, commit_in_kernel, pick, stats

FAMILY = "denoise"


@dataclass(frozen=True)
class Reading:
    """What a step needs of R rows, and what their soft embeddings are made from.

    best, drawn [R] int32; entropy [R] float32 nats. slices: left by the kernels; rows: left by the
    twin, as wide as the vocabulary.
    """

    logits: Logits
    best: mx.array
    entropy: mx.array
    drawn: mx.array
    slices: Slices | None = None
    rows: Rows | None = None

    def processed(self) -> mx.array:
        """The processed logits [R, V] float32, made again where the kernels made none."""
        return self.logits.processed() if self.rows is None else self.rows.processed


def read(logits: Logits, uniforms: mx.array, wish: Wish = "auto") -> Reading:
    """Argmax, entropy and a draw of every row, with uniforms [R, 2] in (0, 1)."""
    vocab = logits.raw.shape[1]
    if vocab > MAX_VOCAB:
        dispatch.unsupported(FAMILY, f"a vocabulary of {vocab}, more than {MAX_VOCAB}")
    elif dispatch.chosen(
        FAMILY,
        described(logits),
        lambda: ReadTrial.instead_of(logits),
        wish,
    ):
        return read_in_kernels(logits, uniforms)
    return read_in_ops(logits, uniforms)


def described(logits: Logits) -> str:
    """What a verdict on reading holds for; rows up to the next power of two."""
    rows, vocab = logits.raw.shape
    return f"{rounded_up(rows)} rows of {vocab} logits, {dtype_name(logits.raw.dtype)}"


def read_in_kernels(logits: Logits, uniforms: mx.array) -> Reading:
    """The same in two launches; the logits are read once, and one slice of each row again."""
    slices = stats(logits)
    best, entropy, drawn = pick(logits, slices, uniforms)
    return Reading(logits, best, entropy, drawn, slices=slices)


def read_in_ops(logits: Logits, uniforms: mx.array) -> Reading:
    """The same in MLX operations."""
    rows = denoise_ops.read_rows(logits.processed())
    drawn = denoise_ops.draw(rows, uniforms)
    return Reading(logits, rows.best, rows.entropy, drawn, rows=rows)


def commit(
    best: mx.array,
    entropy: mx.array,
    drawn: mx.array,
    renoise: mx.array,
    previous: mx.array,
    bound: float,
    wish: Wish = "auto",
) -> Committed:
    """best, drawn, renoise, previous [C] int32, entropy [C] float32 nats -> what the step decides.

    previous: the last step's argmax canvas, -1 where there is none.
    """
    positions = best.shape[0]
    inputs = (best, entropy, drawn, renoise, previous)
    if positions > MAX_POSITIONS:
        dispatch.unsupported(FAMILY, f"a canvas of {positions}, more than {MAX_POSITIONS}")
    elif dispatch.chosen(
        FAMILY,
        f"commit of {rounded_up(positions)} positions",
        lambda: CommitTrial.like(rounded_up(positions)),
        wish,
    ):
        return commit_in_kernel(*inputs, bound)
    return denoise_ops.commit(*inputs, bound)


# --- what a trial compares

ENTROPY = Tolerance(
    "entropy",
    5e-5,
    "nats, of up to 12.5: float32 sums over the vocabulary, in another order",
    absolute_error,
)
ACCEPTED = (
    Tolerance("accepted", 0, "entropies whose float32 sums are exact in any order", mismatches),
    Tolerance("next canvas", 0, "as accepted", mismatches),
    Tolerance("summary", 1e-6, "nats: one division", absolute_error),
)


def reading_tolerances(rows: int) -> tuple[Tolerance, ...]:
    """Of best, entropy and drawn."""
    flips = "a uniform may lie within rounding of the end of a token's interval"
    return (
        Tolerance("best", 0, "a comparison of equal numbers", mismatches),
        ENTROPY,
        Tolerance("drawn", max(1, rows // 16), flips, mismatches),
    )


@dataclass(frozen=True)
class ReadTrial:
    """Both ways of reading some rows."""

    logits: Logits
    uniforms: mx.array

    @classmethod
    def instead_of(cls, logits: Logits) -> Self:
        """Other rows than these, of the number that `described` names."""
        rows, vocab = logits.raw.shape
        return cls.like((rounded_up(rows), vocab), logits.raw.dtype)

    @classmethod
    def like(cls, shape: Sequence[int], dtype: mx.Dtype, seed: int = 0) -> Self:
        """Rows [R, V] from nearly flat to certain: noise, and four equal spikes of growing height.

        Uniforms point into the middle of a spike's interval.
        """
        rows, vocab = shape
        random = np.random.default_rng(seed)
        raw = random.standard_normal((rows, vocab), np.float32)
        heights = np.linspace(4, 24, rows, dtype=np.float32)[:, None]
        places = (
            np.arange(4) * vocab // 4 + np.arange(rows)[:, None] * 37 % -(-vocab // 4)
        ) % vocab
        np.put_along_axis(raw, places, heights, axis=1)
        uniforms = np.stack([(np.arange(rows) % 4 + 0.5) / 4, np.full(rows, 0.375)], axis=1)
        logits = Logits(mx.array(raw).astype(dtype), 30.0, 0.6)
        return cls(logits, mx.array(uniforms.astype(np.float32)))

    def kernel(self) -> Sequence[mx.array]:
        return outcome(read_in_kernels(self.logits, self.uniforms))

    def twin(self) -> Sequence[mx.array]:
        return outcome(read_in_ops(self.logits, self.uniforms))

    def disagreement(self, kernel: Sequence[mx.array], twin: Sequence[mx.array]) -> str | None:
        return disagreement(kernel, twin, reading_tolerances(self.logits.raw.shape[0]))


@dataclass(frozen=True)
class CommitTrial:
    """Both ways of committing a step; inputs as `commit` takes them."""

    inputs: tuple[mx.array, mx.array, mx.array, mx.array, mx.array]
    bound: float = 0.1

    @classmethod
    def like(cls, positions: int, seed: int = 0) -> Self:
        """Entropies that are whole numbers of 2^-10 nats, many of them equal."""
        random = np.random.default_rng(seed)
        ids = [random.integers(0, 1000, positions).astype(np.int32) for _ in range(3)]
        entropy = (random.integers(0, 9, positions) / 1024).astype(np.float32)
        best, drawn, renoise = map(mx.array, ids)
        return cls((best, mx.array(entropy), drawn, renoise, best + 0))

    def kernel(self) -> Sequence[mx.array]:
        return decision(commit_in_kernel(*self.inputs, self.bound))

    def twin(self) -> Sequence[mx.array]:
        return decision(denoise_ops.commit(*self.inputs, self.bound))

    def disagreement(self, kernel: Sequence[mx.array], twin: Sequence[mx.array]) -> str | None:
        return disagreement(kernel, twin, ACCEPTED)


def outcome(reading: Reading) -> Sequence[mx.array]:
    """What is compared of a reading."""
    return reading.best, reading.entropy, reading.drawn


def decision(committed: Committed) -> Sequence[mx.array]:
    """What is compared of a commit."""
    return committed.accepted, committed.next_canvas, committed.summary
