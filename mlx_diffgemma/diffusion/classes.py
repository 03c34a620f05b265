"""Rows of logits by token classes, each of which a constraint moves by one bias.

Ids stand in the order of their classes and are cut into blocks of 128, no block with two classes. A
block's record is its largest logit and, of what lies below it, mass and moment. A bias moves a
record's maximum and nothing else, so that one pass over the logits is enough.
The kernels must agree with these definitions in MLX operations.
Axes: R rows, V vocabulary, N blocks, K classes.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from .sampler import Logits, first_exceeding

BLOCK = 128
NOTHING = -1  # in place of an id: padding


@dataclass(frozen=True)
class ClassOrder:
    """The ids of a vocabulary, class by class.

    ids [N, 128] int32, NOTHING where the last block of a class is padded; block_class [N] int32;
    classes [V] int32: of each id.
    """

    ids: mx.array
    block_class: mx.array
    classes: mx.array
    num_classes: int


@dataclass(frozen=True)
class Records:
    """Of each block of each row: largest, mass, moment [R, N] float32; best [R, N] int32.

    mass: sum of exp(x - largest), moment: of that times x - largest; best: the largest's id.
    """

    largest: mx.array
    mass: mx.array
    moment: mx.array
    best: mx.array


def class_order(classes: NDArray[np.int32], num_classes: int) -> ClassOrder:
    """Every id in the order of its class [V], each class in blocks of its own."""
    order = np.argsort(classes, kind="stable").astype(np.int32)
    counts = np.bincount(classes, minlength=num_classes)
    blocks = -(-counts // BLOCK)
    ids = np.full((int(blocks.sum()), BLOCK), NOTHING, np.int32)
    first_id, first_block = np.cumsum(counts) - counts, np.cumsum(blocks) - blocks
    own = classes[order]
    ids.ravel()[first_block[own] * BLOCK + np.arange(len(order)) - first_id[own]] = order
    block_class = np.repeat(np.arange(num_classes, dtype=np.int32), blocks)
    return ClassOrder(mx.array(ids), mx.array(block_class), mx.array(classes), num_classes)


def read(logits: Logits, order: ClassOrder) -> Records:
    """The records of rows of logits [R, V]: the only pass over all of them."""
    x = in_order(logits, order.ids)
    at = mx.argmax(x, axis=-1, keepdims=True)
    largest = mx.take_along_axis(x, at, axis=-1)
    below = x - largest
    weights = mx.exp(below)
    moment = mx.where(weights > 0, weights * below, 0.0).sum(axis=-1)
    ids = mx.broadcast_to(order.ids, x.shape)
    best = mx.take_along_axis(ids, at, axis=-1)[..., 0]
    return Records(largest[..., 0], weights.sum(axis=-1), moment, best)


def in_order(logits: Logits, ids: mx.array) -> mx.array:
    """Processed logits [R, *ids.shape] float32 of ids that all rows share, -inf for NOTHING."""
    shape = ids.shape
    flat = ids.reshape(-1)
    x = logits.processed()[:, mx.maximum(flat, 0)]
    return mx.where(flat == NOTHING, -mx.inf, x).reshape(-1, *shape)


def log_class_mass(records: Records, order: ClassOrder) -> mx.array:
    """Logarithms [R, K] float32 of the classes' shares of a row, -inf for a class without ids.

    Each class is summed below its own maximum, so that none is 0 for being far below another.
    """
    rows = records.largest.shape[0]
    empty = mx.full((rows, order.num_classes), -mx.inf)
    top = empty.at[:, order.block_class].maximum(records.largest)
    blocks = mx.exp(records.largest - top[:, order.block_class]) * records.mass
    sums = mx.zeros_like(top).at[:, order.block_class].add(blocks)
    logs = mx.where(sums == 0, -mx.inf, top + mx.log(sums))  # NaN stays: weights that hold some
    return logs - mx.logsumexp(logs, axis=-1, keepdims=True)


def class_best(records: Records, order: ClassOrder) -> tuple[mx.array, mx.array]:
    """The largest logit [R, K] of each class, and whose it is [R, K] int32; ties as in `read`."""
    rows = records.largest.shape[0]
    empty = mx.full((rows, order.num_classes), -mx.inf)
    top = empty.at[:, order.block_class].maximum(records.largest)
    is_top = records.largest == top[:, order.block_class]
    candidates = mx.where(is_top, records.best, np.iinfo(np.int32).max)
    ids = mx.full(top.shape, np.iinfo(np.int32).max, mx.int32)
    return top, ids.at[:, order.block_class].minimum(candidates)


def biased(records: Records, order: ClassOrder, bias: mx.array) -> Records:
    """The records of logits to which bias [R, K] was added, a class each; -inf forbids a class."""
    largest = records.largest + bias[:, order.block_class]
    return Records(largest, records.mass, records.moment, records.best)


def merged(records: Records) -> tuple[mx.array, mx.array]:
    """Argmax [R] int32 and entropy [R] float32 nats. Argmax ties go to the lowest id."""
    top = records.largest.max(axis=-1, keepdims=True)
    below = records.largest - top
    share = mx.exp(below)
    total = (share * records.mass).sum(axis=-1)
    inside = mx.where(share > 0, below, 0.0)
    moment = (share * (records.moment + records.mass * inside)).sum(axis=-1)
    is_top = records.largest == top
    best = mx.where(is_top, records.best, np.iinfo(np.int32).max).min(axis=-1)
    return best.astype(mx.int32), mx.log(total) - moment / total


def draw(logits: Logits, records: Records, order: ClassOrder, uniforms: mx.array) -> mx.array:
    """A token [R] int32 of biased records, with uniforms [R, 2] in (0, 1).

    The first picks a block by its mass, the second a token in it; only that block's logits are
    read again, in which the bias cancels.
    """
    top = records.largest.max(axis=-1, keepdims=True)
    block = first_exceeding(mx.exp(records.largest - top) * records.mass, uniforms[:, :1])
    ids = order.ids[block[:, 0]]  # [R, 128]
    x = mx.take_along_axis(logits.processed(), mx.maximum(ids, 0), axis=-1)
    x = mx.where(ids == NOTHING, -mx.inf, x)
    weights = mx.exp(x - x.max(axis=-1, keepdims=True))
    return mx.take_along_axis(ids, first_exceeding(weights, uniforms[:, 1:]), axis=-1)[:, 0]
