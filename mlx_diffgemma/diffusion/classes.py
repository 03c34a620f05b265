"""Rows of logits by token classes, each of which a constraint moves by one bias.

Ids stand in the order of their classes and are cut into blocks of 128, no block with two classes. A
block's record is its largest logit and, of what lies below it, mass and moment. A bias moves a
record's maximum and nothing else, so that one pass over the logits is enough.
The kernels class_stats, class_masses and class_pick must agree with these definitions.
Axes: R rows, V vocabulary, N blocks, K classes.
"""

from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..kernels.classes.launch import Blocks, ClassSums
from ..kernels.denoise.launch import BLOCK
from ..machine.device import in_host, in_numpy, on_gpu
from ..model.elementwise import exp
from .sampler import Logits, first_exceeding

NOTHING = -1  # in place of an id: padding
NOBODY = np.iinfo(np.int32).max  # above every id


@dataclass(frozen=True)
class ClassOrder:
    """The ids of a vocabulary, class by class.

    ids [N, 128] int32, ascending in a block, NOTHING behind the last of a class; block_class [N]
    int32; ends [K] int32: the block behind the last one of each class; classes [V] int32: of each
    id.
    """

    ids: mx.array
    block_class: mx.array
    ends: mx.array
    classes: mx.array


def class_order(classes: NDArray[np.int32], num_classes: int) -> ClassOrder:
    """Every id in the order of its class [V], each class in blocks of its own."""
    order = np.argsort(classes, kind="stable").astype(np.int32)
    counts = np.bincount(classes, minlength=num_classes)
    blocks = -(-counts // BLOCK)
    ends = np.cumsum(blocks)
    ids = np.full((ends[-1], BLOCK), NOTHING, np.int32)
    first_id, first_block = np.cumsum(counts) - counts, ends - blocks
    own = classes[order]
    ids.ravel()[first_block[own] * BLOCK + np.arange(len(order)) - first_id[own]] = order
    block_class = np.repeat(np.arange(num_classes, dtype=np.int32), blocks)
    return ClassOrder(*map(mx.array, (ids, block_class, ends.astype(np.int32), classes)))


def read(logits: Logits, order: ClassOrder) -> Blocks:
    """The statistics of the blocks of logits [R, V]: the only pass over all of them.

    It makes five to six float32 copies of the logits with their padding: a canvas is read a few
    rows at a time.
    """
    present = order.ids != NOTHING
    own = mx.where(present, order.ids, order.ids[:, :1])  # an id for every place
    x = mx.take(logits.processed(), own, axis=1)  # [R, N, 128]
    at = mx.argmax(mx.where(present, x, -mx.inf), axis=-1, keepdims=True)
    peaks = mx.take_along_axis(x, at, axis=-1)
    best = mx.take_along_axis(mx.broadcast_to(own, x.shape), at, axis=-1)[..., 0]
    below, rounded = x - peaks, x.astype(logits.raw.dtype).astype(mx.float32) - peaks
    weights = mx.where(present, exp(below), 0.0)
    sums = (weights, weights * below, mx.where(present, exp(rounded), 0.0))
    return Blocks(peaks[..., 0], mx.stack([each.sum(axis=-1) for each in sums], axis=-1), best)


def class_sums(seen: Blocks, order: ClassOrder) -> ClassSums:
    """The classes of rows, by numpy in float64, since the host is who asks.

    Each class is summed below its own maximum, so that none is 0 for being far below another.
    """
    peaks, mass, best, ends = map(in_host, (seen.peaks, seen.sums[..., 0], seen.best, order.ends))
    full = np.flatnonzero(np.diff(ends, prepend=0))
    begins, own = np.concatenate([[0], ends[full][:-1]]), in_host(order.block_class)
    shape = (len(peaks), len(ends))
    score, token = np.full(shape, -np.inf), np.full(shape, NOTHING, np.int32)
    logs = np.full(shape, -np.inf)
    with np.errstate(all="ignore"):  # NaN stays: weights that are not finite
        score[:, full] = np.fmax.reduceat(peaks, begins, axis=1)
        is_top = peaks == score[:, own]
        token[:, full] = np.minimum.reduceat(np.where(is_top, best, NOBODY), begins, axis=1)
        shares = np.exp(peaks.astype(np.float64) - score[:, own]) * mass
        logs[:, full] = score[:, full] + np.log(np.add.reduceat(shares, begins, axis=1))
        top = logs.max(axis=1, keepdims=True)
        logs -= top + np.log(np.exp(logs - top).sum(axis=1, keepdims=True))
    made = (logs.astype(np.float32), score.astype(np.float32), token)
    return ClassSums(*map(mx.array, made))


def sample(
    logits: Logits, seen: Blocks, order: ClassOrder, bias: mx.array, uniforms: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    """Argmax [R] int32, entropy [R] nats and a draw [R] int32 of rows with a bias a class [R, K].

    bias -inf forbids a class; at least one of a row must be possible. uniforms [R, 2] in (0, 1).
    """
    moved = replace(seen, peaks=seen.peaks + bias[:, order.block_class])
    return *merged(moved), draw(logits, moved, order, uniforms)


def both_halves(
    logits: Logits, order: ClassOrder, bias: mx.array, uniforms: mx.array
) -> tuple[mx.array, ...]:
    """The classes of rows, and what is sampled with a bias that does not depend on them: a trial's
    results."""
    seen = read(logits, order)
    return *class_sums(seen, order), *sample(logits, seen, order, bias, uniforms)


def merged(seen: Blocks) -> tuple[mx.array, mx.array]:
    """Argmax [R] int32 and entropy [R] float32 nats. Argmax ties go to the lowest id."""
    top = seen.peaks.max(axis=-1, keepdims=True)
    best = mx.where(seen.peaks == top, seen.best, NOBODY).min(axis=-1)
    share, mass, moment = exp(seen.peaks - top), seen.sums[..., 0], seen.sums[..., 1]
    below = mx.where(share == 0, 0.0, seen.peaks - top)  # what is forbidden has no moment
    total = row_sums(share * mass)
    best = mx.where(best == NOBODY, seen.best[:, 0], best)  # an id also where a peak is NaN
    return best, mx.log(total) - row_sums(share * (moment + mass * below)) / total


def row_sums(values: mx.array) -> mx.array:
    """Sums of rows [R, N] -> [R]; on the CPU by numpy, whose sums are pairwise."""
    return values.sum(axis=-1) if on_gpu() else in_numpy(lambda x: x.sum(axis=-1), values)


def draw(logits: Logits, seen: Blocks, order: ClassOrder, uniforms: mx.array) -> mx.array:
    """A token [R] int32 of moved blocks, with uniforms [R, 2] in (0, 1).

    The first picks a block by its mass, the second a token in it; only that block's logits are read
    again, in which the bias cancels.
    """
    top = seen.peaks.max(axis=-1, keepdims=True)
    block = first_exceeding(exp(seen.peaks - top) * seen.sums[..., 0], uniforms[:, :1])
    ids = order.ids[block[:, 0]]  # [R, 128]
    own = mx.where(ids == NOTHING, ids[:, :1], ids)
    raw = mx.take_along_axis(logits.raw, own, axis=-1)
    x = mx.where(ids == NOTHING, -mx.inf, replace(logits, raw=raw).processed())
    weights = exp(x - x.max(axis=-1, keepdims=True))
    return mx.take_along_axis(own, first_exceeding(weights, uniforms[:, 1:]), axis=-1)[:, 0]
