"""One denoising step: decoder, head in row chunks, draw, acceptance, and the next step's input.

Axes: C canvas positions, F of them denoised (all, if nothing is pinned), R rows of a chunk,
V vocabulary, H hidden size.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..kernels.denoise import trial as denoise
from ..kernels.denoise.trial import Reading
from ..machine.device import on_gpu
from ..model.cache import Prefix
from ..model.text import Model
from .sampler import Logits
from .soft import Left, Made, Soft, Sparse

# Logits that exist at a time: 64 rows of a vocabulary of 262,144 make one product large enough for
# a GPU, 16 rows are as fast on the CPU.
GPU_CHUNK_LOGITS, CPU_CHUNK_LOGITS = 2**24, 2**22


@dataclass(frozen=True)
class Chunk:
    """What is kept of R positions: best, drawn [R] int32, entropy [R] nats, soft."""

    best: mx.array
    entropy: mx.array
    drawn: mx.array
    soft: Soft


@dataclass(frozen=True)
class Step:
    """A step's outcome; best, next_canvas [F] int32, entropy [F] nats, accepted [F] bool.

    mean_entropy in nats; unchanged: best is what it was one step before.
    """

    best: mx.array
    entropy: mx.array
    accepted: mx.array
    next_canvas: mx.array
    mean_entropy: float
    unchanged: bool
    chunks: tuple[Chunk, ...]

    def dense_rows(self) -> int:
        """Rows whose next soft embedding takes the product with the whole embedding."""
        return sum(chunk.soft.dense_rows() for chunk in self.chunks)

    def soft(self, model: Model) -> mx.array:
        """The next step's soft embeddings [1, F, H]; here the rows that need it go dense."""
        return mx.concatenate([chunk.soft.completed(model) for chunk in self.chunks])[None]


def denoising_step(
    model: Model,
    canvas: mx.array,
    prefix: Prefix,
    soft: mx.array | None,
    *,
    rows: mx.array | None = None,
    temperature: float,
    entropy_bound: float,
    uniforms: mx.array,
    renoise: mx.array,
    previous: mx.array | None,
    exact: bool,
) -> Step:
    """canvas [C], soft [1, C, H] or None, uniforms [F, 2], renoise [F] -> an evaluated Step.

    rows [F]: the positions that are denoised, None for all; no logits are made for the others,
    which all the same are seen. previous [F]: the argmax of the step before, None at the first.
    exact: never gather the soft embedding. Logits exist for a chunk of rows at a time.
    """
    hidden = model.decode(canvas, prefix, soft).squeeze(0)
    if rows is not None:
        hidden = hidden[rows]
    length = hidden.shape[0]
    size = head_rows(model, length)
    chunks = []
    for first in range(0, length, size):
        part = slice(first, first + size)
        chunk = _chunk(model, hidden[part], temperature, uniforms[part], exact)
        mx.eval(chunk.best, chunk.entropy, chunk.drawn, *chunk.soft.arrays())
        chunks.append(chunk)
    best = mx.concatenate([chunk.best for chunk in chunks])
    entropy = mx.concatenate([chunk.entropy for chunk in chunks])
    drawn = mx.concatenate([chunk.drawn for chunk in chunks])
    done = denoise.commit(
        best,
        entropy,
        drawn,
        renoise.astype(mx.int32),
        mx.full(best.shape, -1, mx.int32) if previous is None else previous,
        entropy_bound,
        model.choices.denoise_kernels,
    )
    mx.eval(best, entropy, done.accepted, done.next_canvas, done.summary)
    mean, unchanged = np.array(done.summary)
    return Step(
        best=best,
        entropy=entropy,
        accepted=done.accepted,
        next_canvas=done.next_canvas,
        mean_entropy=float(mean),
        unchanged=bool(unchanged),
        chunks=tuple(chunks),
    )


def head_rows(model: Model, length: int) -> int:
    """How many of a canvas's `length` rows have logits at a time."""
    limit = model.choices.head_chunk_logits or (GPU_CHUNK_LOGITS if on_gpu() else CPU_CHUNK_LOGITS)
    return max(1, min(length, limit // model.config.text.vocab_size))


def _chunk(
    model: Model, hidden: mx.array, temperature: float, uniforms: mx.array, exact: bool
) -> Chunk:
    """hidden [R, H] -> everything the step needs of these rows' logits."""
    cap = model.config.text.final_logit_softcapping
    logits = Logits(model.raw_logits(hidden), cap, temperature)
    reading = denoise.read(logits, uniforms, model.choices.denoise_kernels)
    soft = _soft(model, reading, exact)
    return Chunk(reading.best, reading.entropy, reading.drawn, soft)


def _soft(model: Model, reading: Reading, exact: bool) -> Soft:
    """The next step's soft embeddings of the rows read, by the cheapest way that is right."""
    if model.gathers and not exact:
        return Sparse(*model.gathered_embedding(reading), reading.logits)
    if reading.rows is None:  # kernels left nothing to mix with
        return Left(reading.logits)
    if model.dtype == mx.float32:  # the same weights again: spares a second pass of exponentials
        return Made(model.mixed_embedding(reading.rows.weights, reading.rows.total))
    return Made(model.soft_embedding(reading.processed()))
