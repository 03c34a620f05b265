"""The sampling of tokens in mode ar: temperature, top_k, top_p, min_p and the draw, in MLX.

Axes: R rows, V vocabulary, K candidates. Order of the cuts as in the logits warpers of transformers
5.24: temperature, top_k, top_p over the K renormalised, min_p. What a form of the answer does not
allow is left out before all of them.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..checkpoint.generation import TokenDefaults
from ..diffusion.sampler import draw_weighted, slice_masses, statistics
from ..generation.settings import LEAST
from ..machine.device import compiled_on_gpu, in_host
from ..model.elementwise import exp

BLOCKS = (128, 16)  # ids whose maximum stands for them, first over all, then over what is left
BROKEN = -1  # in place of a token whose logits are not finite: found when the token is read
LEFT_OUT = -1e30  # in place of a logit that a form leaves out: finite, so that 0 times it is no NaN


class Drawn(NamedTuple):
    """A token that was read, and of its distribution entropy in nats and largest probability.

    strain: -log of what the form of the answer leaves of the model's distribution, in nats.
    """

    token: int
    entropy: float = math.nan
    top_probability: float | None = None
    strain: float = 0.0


@dataclass(frozen=True)
class Sampled:
    """Drawn tokens [R] int32, BROKEN where logits are not finite, which nobody has waited for.

    seen [R, 2]: entropy in nats and top probability, where somebody watches, else None. Both are of
    the model's own distribution, or what a form leaves of it, before temperature and cuts. sides
    [R, 2]: the logarithms of what that distribution holds of allowed and of other tokens, up to a
    constant; None without a form.
    """

    tokens: mx.array
    seen: mx.array | None = None
    sides: mx.array | None = None

    def submit(self) -> "Sampled":
        """These, begun on the device."""
        mx.async_eval([part for part in (self.tokens, self.seen, self.sides) if part is not None])
        return self

    def row(self, index: int) -> "Sampled":
        """One of the rows."""
        rows, seen, sides = slice(index, index + 1), self.seen, self.sides
        return Sampled(
            self.tokens[rows],
            None if seen is None else seen[rows],
            None if sides is None else sides[rows],
        )

    def read(self) -> list[Drawn]:
        """The rows, once they are there; entropy NaN and no probability where nobody watches."""
        ids = in_host(self.tokens).tolist()
        strains = self._strains()
        if self.seen is None:
            pairs = zip(ids, strains, strict=True)
            return [Drawn(token, strain=strain) for token, strain in pairs]
        entropies, tops = in_host(self.seen).T.tolist()
        return [Drawn(*row) for row in zip(ids, entropies, tops, strains, strict=True)]

    def _strains(self) -> list[float]:
        """-log of the allowed share of each row: log(1 + other / allowed) cancels nothing."""
        if self.sides is None:
            return [0.0] * self.tokens.shape[0]
        allowed, other = in_host(self.sides).astype(np.float64).T
        with np.errstate(invalid="ignore"):  # of a row that is BROKEN
            strains: list[float] = np.logaddexp(0.0, other - allowed).tolist()
        return strains


def sample(
    logits: mx.array,
    uniforms: mx.array,
    sampler: TokenDefaults,
    *,
    watched: bool = False,
    allowed: mx.array | None = None,
) -> Sampled:
    """A token for each row of logits [R, V] float32 with uniforms [R, 2] in (0, 1).

    temperature 0, or one that float32 holds no inverse of, takes the argmax, the lowest of equal
    ids. Rows do not depend on each other. allowed [R, V] bool: tokens that the form of the answer
    lets come, at least one a row; None without a form.
    """
    sides = None
    if allowed is not None:
        logits, sides = _parted(logits, allowed)
    maxima = block_maxima(logits, BLOCKS[0])
    peak = maxima.max(axis=-1, keepdims=True)  # NaN where one of the row is
    if sampler.temperature < LEAST:
        tokens = mx.argmax(logits, axis=-1)
    elif 0 < sampler.top_k < logits.shape[1]:
        values, ids = largest(logits, sampler.top_k, maxima)
        tokens = _of_candidates(values, ids, peak, uniforms[:, :1], sampler)
    else:
        tokens = _of_all(logits, peak, uniforms, sampler)
    finite = peak[:, 0] < math.inf
    if sides is not None:
        finite = finite & (sides.max(axis=-1) < math.inf)
    tokens = mx.where(finite, tokens.astype(mx.int32), BROKEN)
    return Sampled(tokens, _seen(logits) if watched else None, sides)


def _parted(logits: mx.array, allowed: mx.array) -> tuple[mx.array, mx.array]:
    """The logits with what is not allowed left out, and `Sampled.sides`."""
    kept, others = mx.where(allowed, logits, LEFT_OUT), mx.where(allowed, LEFT_OUT, logits)
    return kept, mx.stack([mx.logsumexp(kept, axis=-1), mx.logsumexp(others, axis=-1)], axis=-1)


def _seen(logits: mx.array) -> mx.array:
    found = statistics(logits)
    return mx.stack([found.entropy, 1 / found.total[:, 0]], axis=-1)


def largest(
    values: mx.array, count: int, maxima: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """The `count` largest of values [R, N], the largest first, and their indices: [R, K].

    Equal ones in the order of their indices; maxima: of BLOCKS[0], where they are known. Nothing as
    long as N is sorted where blocks help: in the order by value, then by index, each of the first
    `count` lies in one of the first `count` blocks, by maximum, then by index. A block outside
    would have so many before it, each with an element that comes before all of its own.
    """
    size = next((size for size in BLOCKS if count * size < values.shape[1]), None)
    if size is None:
        order = mx.argsort(-values, axis=-1)[:, :count]
        return mx.take_along_axis(values, order, axis=-1), order
    if maxima is None or size != BLOCKS[0]:
        maxima = block_maxima(values, size)
    inside, indices = _in_best_blocks(values, maxima, count, size)
    found, places = largest(inside, count)
    return found, mx.take_along_axis(indices, places, axis=-1)


def block_maxima(values: mx.array, size: int) -> mx.array:
    """The largest of each `size` values [R, N], the last block perhaps of fewer -> [R, blocks]."""
    rows, length = values.shape
    whole = length - length % size
    parts = [values[:, :whole].reshape(rows, whole // size, size).max(axis=-1)] if whole else []
    if whole < length:
        parts.append(values[:, whole:].max(axis=-1, keepdims=True))
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=-1)


def _in_best_blocks(
    values: mx.array, maxima: mx.array, count: int, size: int
) -> tuple[mx.array, mx.array]:
    """Values [R, count * size] of the blocks with the largest maxima, and their indices, ascending.

    Behind the end of a shorter last block stands -inf.
    """
    best = mx.sort(mx.argsort(-maxima, axis=-1)[:, :count], axis=-1)
    indices = (best[:, :, None] * size + mx.arange(size, dtype=mx.uint32)).flatten(1)
    length = values.shape[1]
    if length % size == 0:
        return mx.take_along_axis(values, indices, axis=-1), indices
    inside = mx.take_along_axis(values, mx.minimum(indices, length - 1), axis=-1)
    return mx.where(indices < length, inside, -math.inf), indices


def _of_candidates(
    values: mx.array, ids: mx.array, peak: mx.array, uniforms: mx.array, sampler: TokenDefaults
) -> mx.array:
    """A token [R] of the candidates [R, K], in falling order, with one uniform [R, 1]."""
    sums, kept = cut(values, peak, sampler.temperature, sampler.top_p, sampler.min_p)
    total = mx.where(kept, sums, 0.0).max(axis=-1, keepdims=True)  # the kept ones come first
    chosen = mx.argmax(sums > uniforms * total, axis=-1, keepdims=True)
    return mx.take_along_axis(ids, chosen, axis=-1)[:, 0]


@compiled_on_gpu
def cut(
    values: mx.array, peak: mx.array, temperature: float, top_p: float, min_p: float
) -> tuple[mx.array, mx.array]:
    """Running sums of the weights of values [R, K] in falling order, and the mask of those kept.

    A weight is exp((value - peak) / temperature), 1 for the likeliest. top_p keeps a token while
    those before it have less than that share of all; min_p those of at least that weight.
    """
    weights = mx.exp((values - peak) / temperature)
    sums = mx.cumsum(weights, axis=-1)
    kept = weights >= min_p
    if top_p < 1:
        kept = kept & (sums - weights < top_p * sums[:, -1:])
    return sums, kept


def _of_all(
    logits: mx.array, peak: mx.array, uniforms: mx.array, sampler: TokenDefaults
) -> mx.array:
    """A token [R] of the whole vocabulary with two uniforms; cuts are a mask over it."""
    weights = exp((logits - peak) / sampler.temperature)
    weights = mx.where(kept_of_all(logits, weights, peak, sampler), weights, 0.0)
    return draw_weighted(weights, slice_masses(weights), uniforms)


def kept_of_all(
    logits: mx.array, weights: mx.array, peak: mx.array, sampler: TokenDefaults
) -> mx.array:
    """The mask [R, V] of top_p and min_p without top_k; only top_p has to sort the vocabulary."""
    if sampler.top_p == 1:
        return weights >= sampler.min_p
    order = mx.argsort(-logits, axis=-1)
    values = mx.take_along_axis(logits, order, axis=-1)
    _, kept = cut(values, peak, sampler.temperature, sampler.top_p, sampler.min_p)
    return mx.put_along_axis(mx.zeros_like(kept), order, kept, axis=-1)
