"""One denoising step of the entropy-bound sampler, as small pure functions.

Axes: C canvas positions (or a chunk of them), V vocabulary, S slices of the vocabulary.
Source: transformers 5.23 `generation_diffusion_gemma.py` (`_denoising_step`, `EntropyBoundSampler`,
`StableAndConfidentStoppingCriteria`); acceptance is arXiv 2505.24857.
"""

from dataclasses import dataclass

import mlx.core as mx

from ..device import compiled_on_gpu
from ..kernels.elementwise import exp

SLICE = 4096  # ids of one slice of the draw


@dataclass(frozen=True)
class Rows:
    """What a step needs of the distributions of some positions.

    best [C] int32 argmax; entropy [C] float32 nats; weights [C, V] float32 = exp(logit - max);
    total [C, 1] their sum; masses [C, S] their sum a slice.
    """

    best: mx.array
    entropy: mx.array
    weights: mx.array
    total: mx.array
    masses: mx.array


def temperature(step: int, steps: int, t_min: float, t_max: float) -> float:
    """The temperature of `step` (0 is the first) out of `steps`: t_max first, towards t_min."""
    return t_min + (t_max - t_min) * ((steps - step) / steps)


def read_rows(processed: mx.array) -> Rows:
    """processed logits [C, V] float32, finite -> Rows. Ties of the argmax go to the lowest id.

    entropy = log Z - sum(w * (x - max)) / Z, which does not cancel near 0 as logsumexp - mean does.
    """
    best = mx.argmax(processed, axis=-1, keepdims=True)
    weights, weighted = weigh(processed, mx.take_along_axis(processed, best, axis=-1))
    masses = slice_masses(weights)
    total = masses.sum(axis=-1, keepdims=True)
    entropy = mx.log(total[:, 0]) - weighted.sum(axis=-1) / total[:, 0]
    return Rows(best[:, 0].astype(mx.int32), entropy, weights, total, masses)


@compiled_on_gpu
def weigh(processed: mx.array, largest: mx.array) -> tuple[mx.array, mx.array]:
    """exp(x - max) and the same times x - max, [C, V] each: on a GPU one pass."""
    shifted = processed - largest
    weights = exp(shifted)
    return weights, weights * shifted


def slice_masses(weights: mx.array) -> mx.array:
    """weights [C, V] -> [C, S]: the sum over each SLICE of ids, the last one may be shorter."""
    rows, vocab = weights.shape
    whole = vocab - vocab % SLICE
    masses = weights[:, :whole].reshape(rows, -1, SLICE).sum(axis=-1)
    if whole < vocab:
        masses = mx.concatenate([masses, weights[:, whole:].sum(axis=-1, keepdims=True)], axis=-1)
    return masses


def draw(rows: Rows, uniforms: mx.array) -> mx.array:
    """One token a position from `rows` with uniforms [C, 2] in (0, 1) -> [C] int32.

    The first uniform picks a slice by the running sum of masses, the second a token inside it, so
    that a token's resolution is 2^-23 of its slice, not of the whole vocabulary.
    """
    vocab = rows.weights.shape[1]
    chosen = first_exceeding(rows.masses, uniforms[:, :1])
    ids = chosen * SLICE + mx.arange(min(SLICE, vocab), dtype=mx.int32)
    weights = mx.take_along_axis(rows.weights, mx.minimum(ids, vocab - 1), axis=-1)
    weights = mx.where(ids < vocab, weights, 0.0)
    return (chosen * SLICE + first_exceeding(weights, uniforms[:, 1:]))[:, 0]


def first_exceeding(masses: mx.array, uniforms: mx.array) -> mx.array:
    """The first index whose running sum exceeds u times the total -> [C, 1] int32.

    masses [C, N], uniforms [C, 1]. If rounding lets none exceed it: the last of positive mass.
    """
    sums = mx.cumsum(masses, axis=-1)
    exceeds = sums > uniforms * sums[:, -1:]
    first = mx.argmax(exceeds, axis=-1, keepdims=True)
    last = masses.shape[1] - 1 - mx.argmax(masses[:, ::-1] > 0, axis=-1, keepdims=True)
    return mx.where(exceeds[:, -1:], first, last).astype(mx.int32)


def accept(entropy: mx.array, bound: float) -> mx.array:
    """entropy [C] -> [C] bool: lowest first, while those before it sum to at most `bound` nats.

    Equal entropies rank by position; the lowest one always passes.
    """
    order = mx.argsort(entropy)
    ranked = entropy[order]
    passes = mx.cumsum(ranked) - ranked <= bound
    return mx.put_along_axis(mx.zeros_like(passes), order, passes, axis=0)
