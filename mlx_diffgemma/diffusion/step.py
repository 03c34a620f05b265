"""One denoising step: decoder, head in row chunks, draw, acceptance, and the next step's input.

Axes: C canvas positions, R rows of a chunk, V vocabulary, H hidden size.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..device import on_gpu
from ..model.cache import Prefix
from ..model.text import Model
from .sampler import accept, draw, read_rows

# Logits that exist at a time: 64 rows of a vocabulary of 262,144 make one product large enough for
# a GPU, 16 rows are as fast on the CPU.
GPU_CHUNK_LOGITS, CPU_CHUNK_LOGITS = 2**24, 2**22


@dataclass(frozen=True)
class Chunk:
    """What is kept of the logits of R canvas positions once they are gone.

    soft [R, H]: the next step's soft embeddings. Where those were gathered, suffices [R] bool says
    for which rows that was enough, and logits [R, V] in 16 bits are kept for the others.
    """

    best: mx.array
    entropy: mx.array
    drawn: mx.array
    soft: mx.array
    suffices: mx.array | None = None
    logits: mx.array | None = None

    def arrays(self) -> list[mx.array]:
        return [a for a in vars(self).values() if a is not None]


@dataclass(frozen=True)
class Step:
    """A step's outcome; best, drawn, next_canvas [C] int32, entropy [C] nats, accepted [C] bool."""

    best: mx.array
    entropy: mx.array
    accepted: mx.array
    next_canvas: mx.array
    chunks: tuple[Chunk, ...]

    def dense_rows(self) -> int:
        """Rows whose next soft embedding takes the product with the whole embedding."""
        return sum(
            chunk.best.size if chunk.suffices is None else int((~chunk.suffices).sum())
            for chunk in self.chunks
        )

    def soft(self, model: Model) -> mx.array:
        """The next step's soft embeddings [1, C, H]; here the rows that need it go dense.

        Lazy, so that a canvas's last step never pays for it.
        """
        return mx.concatenate([_completed(chunk, model) for chunk in self.chunks])[None]


def denoising_step(
    model: Model,
    canvas: mx.array,
    prefix: Prefix,
    soft: mx.array | None,
    *,
    temperature: float,
    entropy_bound: float,
    uniforms: mx.array,
    renoise: mx.array,
    exact: bool,
) -> Step:
    """canvas [C], soft [1, C, H] or None, uniforms [C, 2], renoise [C] -> an evaluated Step.

    exact: never gather the soft embedding. Logits exist for a chunk of rows at a time.
    """
    hidden = model.decode(canvas, prefix, soft).squeeze(0)
    length = hidden.shape[0]
    limit = GPU_CHUNK_LOGITS if on_gpu() else CPU_CHUNK_LOGITS
    rows = max(1, min(length, limit // model.config.text.vocab_size))
    chunks = []
    for first in range(0, length, rows):
        part = slice(first, first + rows)
        chunk = _chunk(model, hidden[part], temperature, uniforms[part], exact)
        mx.eval(chunk.arrays())
        chunks.append(chunk)
    entropy = mx.concatenate([chunk.entropy for chunk in chunks])
    accepted = accept(entropy, entropy_bound)
    drawn = mx.concatenate([chunk.drawn for chunk in chunks])
    best = mx.concatenate([chunk.best for chunk in chunks])
    next_canvas = mx.where(accepted, drawn, renoise.astype(mx.int32))
    mx.eval(best, entropy, accepted, next_canvas)
    return Step(best, entropy, accepted, next_canvas, tuple(chunks))


def _chunk(
    model: Model, hidden: mx.array, temperature: float, uniforms: mx.array, exact: bool
) -> Chunk:
    """hidden [R, H] -> everything the step needs of these rows' logits."""
    processed = model.logits(hidden) / temperature
    rows = read_rows(processed)
    drawn = draw(rows, uniforms)
    if model.gathers and not exact:
        logits = processed.astype(model.dtype)  # the reference, too, rounds them before the softmax
        soft, suffices = model.gathered_embedding(logits)
        return Chunk(rows.best, rows.entropy, drawn, soft, suffices, logits)
    if model.dtype == mx.float32:  # the same weights again: spares a second pass of exponentials
        return Chunk(
            rows.best, rows.entropy, drawn, model.mixed_embedding(rows.weights, rows.total)
        )
    return Chunk(rows.best, rows.entropy, drawn, model.soft_embedding(processed))


def _completed(chunk: Chunk, model: Model) -> mx.array:
    """A chunk's soft embeddings [R, H], those rows replaced for which the gather was not enough."""
    if chunk.suffices is None or chunk.logits is None:
        return chunk.soft
    missing = np.flatnonzero(~np.array(chunk.suffices))
    if not missing.size:
        return chunk.soft
    ids = mx.array(missing)
    soft = mx.array(chunk.soft)
    soft[ids] = model.soft_embedding(chunk.logits[ids])
    return soft
