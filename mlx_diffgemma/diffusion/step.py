"""One denoising step: decoder, head in row chunks, draw, acceptance, and the next step's input.

Axes: C canvas positions, F of them denoised (all, where none is pinned), R rows of a chunk,
V vocabulary, H hidden size.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..kernels.denoise import trial as kernels
from ..machine.device import on_gpu
from ..model.cache import Prefix
from ..model.text import Model
from . import sampler
from .predictions import Predictions, predict
from .sampler import Logits
from .soft import Part, SoftEmbeddings, arrays, soft_part

# Logits computed at a time: 64 rows of a vocabulary of 262,144 make one product large enough for
# a GPU, 16 rows are as fast on the CPU.
GPU_CHUNK_LOGITS, CPU_CHUNK_LOGITS = 2**24, 2**22


@dataclass(frozen=True)
class State:
    """All that one denoising step hands to the next.

    tokens [C] int32; soft [1, C, H], None at the first step; best [F] int32: the argmax of the
    denoised positions one step before, None at the first step.
    """

    tokens: mx.array
    soft: mx.array | None = None
    best: mx.array | None = None


@dataclass(frozen=True)
class StepInputs:
    """All that a denoising step takes beside the state.

    uniforms [F, 2] for the draw; renoise [F] int32 for positions that are not accepted; rows [F]:
    the denoised positions, None for all: no logits are made for the others, which all the same are
    seen. exact: never gather the soft embedding. entropy_bound in nats.
    """

    temperature: float
    entropy_bound: float
    uniforms: mx.array
    renoise: mx.array
    rows: mx.array | None = None
    exact: bool = False


@dataclass(frozen=True)
class Step:
    """The outcome of a step; best, next_canvas [F] int32, entropy [F] nats, accepted [F] bool.

    mean_entropy in nats; unchanged: best is what it was one step before.
    """

    best: mx.array
    entropy: mx.array
    accepted: mx.array
    next_canvas: mx.array
    mean_entropy: float
    unchanged: bool
    soft: SoftEmbeddings


def advance(state: State, given: StepInputs, model: Model, prefix: Prefix) -> Step:
    """The step after `state`, evaluated; the prefix is not changed.

    Logits are computed a chunk of rows at a time. They are dropped with their chunk in float32; in
    16 bits the raw logits of the whole canvas stay until the next step has its soft embeddings.
    """
    hidden = model.decode(state.tokens, prefix, state.soft).squeeze(0)
    if given.rows is not None:
        hidden = hidden[given.rows]
    size = head_rows(model, hidden.shape[0])
    seen, parts = [], []
    for first in range(0, hidden.shape[0], size):
        chunk, part = _chunk(model, hidden, slice(first, first + size), given)
        seen.append(chunk)
        parts.append(part)
    best, entropy, drawn = (mx.concatenate(list(chunks)) for chunks in zip(*seen, strict=True))
    before = mx.full(best.shape, -1, mx.int32) if state.best is None else state.best
    accepted, next_canvas, summary = kernels.commit(
        (best, entropy, drawn, given.renoise.astype(mx.int32), before),
        given.entropy_bound,
        sampler.commit,
        model.choices.denoise_kernels,
    )
    mx.eval(best, entropy, accepted, next_canvas, summary)
    mean, unchanged = np.array(summary)
    soft = SoftEmbeddings(tuple(parts), size)
    return Step(best, entropy, accepted, next_canvas, float(mean), bool(unchanged), soft)


def head_rows(model: Model, length: int) -> int:
    """Number of rows of a canvas's `length` whose logits are computed at a time."""
    limit = model.choices.head_chunk_logits or (GPU_CHUNK_LOGITS if on_gpu() else CPU_CHUNK_LOGITS)
    return max(1, min(length, limit // model.config.text.vocab_size))


def _chunk(
    model: Model, hidden: mx.array, rows: slice, given: StepInputs
) -> tuple[tuple[mx.array, mx.array, mx.array], Part]:
    """Best, entropy and drawn [R] of some rows of hidden [F, H], and their soft embeddings."""
    cap = model.config.text.final_logit_softcapping
    logits = Logits(model.raw_logits(hidden[rows]), cap, given.temperature)
    seen: Predictions = predict(logits, given.uniforms[rows], model.choices.denoise_kernels)
    part = soft_part(model, seen, given.exact)
    mx.eval(seen.best, seen.entropy, seen.drawn, *arrays(part))
    return (seen.best, seen.entropy, seen.drawn), part
