"""The entropy-bound sampler, as definitions in MLX operations: temperature, draw, accept, commit.

The kernels denoise_stats, denoise_pick and denoise_commit must agree with them.
Axes: R rows (canvas positions of a chunk), C canvas positions, V vocabulary, S slices of it.
Source: transformers 5.23 `generation_diffusion_gemma.py` (`_denoising_step`, `EntropyBoundSampler`,
`StableAndConfidentStoppingCriteria`); acceptance is arXiv 2505.24857.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..kernels.denoise.launch import SLICE
from ..machine.device import compiled_on_gpu, in_host, in_numpy, on_gpu
from ..model.elementwise import exp, softcap


def temperature(step: int, steps: int, t_min: float, t_max: float) -> float:
    """Temperature of `step` (0 is the first) out of `steps`: t_max first, towards t_min."""
    return t_min + (t_max - t_min) * ((steps - step) / steps)


@dataclass(frozen=True)
class ClassBias:
    """A constraint's bias of rows of logits: of_class [R, K] float32, -inf for a class that is
    forbidden, and classes [V] int32, the class of every id."""

    of_class: mx.array
    classes: mx.array

    def of_ids(self) -> mx.array:
        """The bias [R, V] of every id."""
        return self.of_class[:, self.classes]


@dataclass(frozen=True)
class Logits:
    """Logits [R, V] of the head, in the model's dtype; softcap and temperature still to come.

    bias: what a constraint adds to the processed logits, None without one. It is no part of
    `processed`: records are of the free logits, and 16 bits round these before it is added.
    """

    raw: mx.array
    cap: float
    temperature: float
    bias: ClassBias | None = None

    def processed(self) -> mx.array:
        """[R, V] float32: softcapped, then divided by the temperature; without the bias."""
        return softcap(self.raw, self.cap) / self.temperature

    def added(self) -> mx.array | None:
        """The bias [R, V] of every id; None without a constraint."""
        return None if self.bias is None else self.bias.of_ids()

    def of_rows(self, ids: mx.array) -> "Logits":
        """The logits of some rows."""
        bias = self.bias and replace(self.bias, of_class=self.bias.of_class[ids])
        return Logits(self.raw[ids], self.cap, self.temperature, bias)

    @staticmethod
    def joined(parts: "Sequence[Logits]") -> "Logits":
        """The rows of parts of one step, one part behind the other."""
        first = parts[0]
        bias = first.bias
        if bias is not None:
            of_class = [part.bias.of_class for part in parts if part.bias is not None]
            bias = replace(bias, of_class=mx.concatenate(of_class))
        return replace(first, raw=mx.concatenate([part.raw for part in parts]), bias=bias)


@dataclass(frozen=True)
class LogitStatistics:
    """All that a step needs of the distributions of R positions.

    processed [R, V] float32 logits; best [R] int32 argmax; entropy [R] float32 nats; weights [R, V]
    float32 = exp(logit - max); total [R, 1] their sum; masses [R, S] their sum a slice.
    """

    processed: mx.array
    best: mx.array
    entropy: mx.array
    weights: mx.array
    total: mx.array
    masses: mx.array


class Committed(NamedTuple):
    """The decisions of a step.

    accepted [C] bool; next_canvas [C] int32; summary [2] float32: mean entropy in nats, and 1
    where the argmax canvas equals the previous one, else 0.
    """

    accepted: mx.array
    next_canvas: mx.array
    summary: mx.array


def statistics(processed: mx.array) -> LogitStatistics:
    """Statistics of processed logits [R, V] float32, finite. Argmax ties go to the lowest id.

    entropy = log Z - sum(w * (x - max)) / Z, which does not cancel near 0 as logsumexp - mean does.
    """
    best = mx.argmax(processed, axis=-1, keepdims=True)
    weights, weighted = weigh(processed, mx.take_along_axis(processed, best, axis=-1))
    masses = slice_masses(weights)
    total = masses.sum(axis=-1, keepdims=True)
    entropy = mx.log(total[:, 0]) - slice_masses(weighted).sum(axis=-1) / total[:, 0]
    return LogitStatistics(processed, best[:, 0].astype(mx.int32), entropy, weights, total, masses)


@compiled_on_gpu
def weigh(processed: mx.array, largest: mx.array) -> tuple[mx.array, mx.array]:
    """exp(x - max), and that times x - max, [R, V] each: one pass on a GPU."""
    shifted = processed - largest
    weights = exp(shifted)
    return weights, weights * shifted


def slice_masses(weights: mx.array) -> mx.array:
    """Sums of weights [R, V] over each SLICE of ids -> [R, S]; the last slice may be shorter."""
    rows, vocab = weights.shape
    whole = vocab - vocab % SLICE
    masses = weights[:, :whole].reshape(rows, -1, SLICE).sum(axis=-1)
    if whole < vocab:
        masses = mx.concatenate([masses, weights[:, whole:].sum(axis=-1, keepdims=True)], axis=-1)
    return masses


def draw(seen: LogitStatistics, uniforms: mx.array) -> mx.array:
    """One token a row with uniforms [R, 2] in (0, 1) -> [R] int32; see `draw_weighted`."""
    return draw_weighted(seen.weights, seen.masses, uniforms)


def draw_weighted(weights: mx.array, masses: mx.array, uniforms: mx.array) -> mx.array:
    """One token a row by weights [R, V], whose slices have masses [R, S] -> [R] int32.

    The first uniform of [R, 2] picks a slice by the running sum of masses, the second a token
    inside it, so that a token's resolution is 2^-23 of its slice, not of the whole vocabulary.
    """
    vocab = weights.shape[1]
    chosen = first_exceeding(masses, uniforms[:, :1])
    ids = chosen * SLICE + mx.arange(min(SLICE, vocab), dtype=mx.int32)
    inside = mx.take_along_axis(weights, mx.minimum(ids, vocab - 1), axis=-1)
    inside = mx.where(ids < vocab, inside, 0.0)
    return (chosen * SLICE + first_exceeding(inside, uniforms[:, 1:]))[:, 0]


def sample(logits: Logits, uniforms: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Argmax [R] int32, entropy [R] nats and a draw [R] int32 of every row, uniforms [R, 2]."""
    seen = statistics(logits.processed())
    return seen.best, seen.entropy, draw(seen, uniforms)


def first_exceeding(masses: mx.array, uniforms: mx.array) -> mx.array:
    """The first index whose running sum exceeds u times the total -> [R, 1] int32.

    masses [R, N], uniforms [R, 1]. If rounding lets none exceed it: the last of positive mass.
    """
    sums = mx.cumsum(masses, axis=-1)
    exceeds = sums > uniforms * sums[:, -1:]
    first = mx.argmax(exceeds, axis=-1, keepdims=True)
    last = masses.shape[1] - 1 - mx.argmax(masses[:, ::-1] > 0, axis=-1, keepdims=True)
    return mx.where(exceeds[:, -1:], first, last).astype(mx.int32)


def accept(entropy: mx.array, bound: float) -> mx.array:
    """Mask [C] of positions to keep: lowest entropy [C] first, while those before sum to <= bound.

    bound in nats. Equal entropies rank by position; the lowest one always passes.
    """
    order = mx.argsort(entropy)
    ranked = entropy[order]
    passes = mx.cumsum(ranked) - ranked <= bound
    return mx.put_along_axis(mx.zeros_like(passes), order, passes, axis=0)


def commit(
    best: mx.array,
    entropy: mx.array,
    drawn: mx.array,
    renoise: mx.array,
    previous: mx.array,
    bound: float,
) -> Committed:
    """Decide a step from best, drawn, renoise, previous [C] int32 and entropy [C] float32 nats.

    Accepted positions keep their draw, the others get fresh noise. previous: the argmax canvas of
    the step before, -1 where there is none.
    """
    accepted = accept(entropy, bound)
    mean = entropy.mean() if on_gpu() else in_numpy(np.mean, entropy)  # as Frame.mean_entropy
    unchanged = mx.array_equal(best, previous).astype(mx.float32)
    return Committed(accepted, mx.where(accepted, drawn, renoise), mx.stack([mean, unchanged]))


def commit_on_host(inputs: Sequence[mx.array], bound: float) -> Committed:
    """`commit` of the same inputs, in their order, by numpy in float64: alike on unlike Macs."""
    best, entropy, drawn, renoise, previous = map(in_host, inputs)
    order = np.argsort(entropy, kind="stable")
    ranked = entropy[order].astype(np.float64)
    accepted = np.zeros(entropy.shape, np.bool_)
    accepted[order] = np.cumsum(ranked) - ranked <= bound
    summary = [entropy.mean(dtype=np.float64), float(np.array_equal(best, previous))]
    made = (accepted, np.where(accepted, drawn, renoise), np.array(summary, np.float32))
    return Committed(*map(mx.array, made))
