"""The class kernels' faults, and inputs on which each shows."""

from collections.abc import Iterable, Sequence
from functools import cache, partial

import mlx.core as mx
import numpy as np
from denoise_mutants import DRAW
from mutants import BARRIER, Kernel, Run, barriers, fault, faults, shortened

from mlx_diffgemma.diffusion.classes import ClassOrder, class_order
from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.kernels.classes.launch import MAX_CLASSES, Blocks, masses, pick, stats

V = 5003


def read(raw: mx.array, order: ClassOrder) -> Iterable[mx.array]:
    """All that class_stats writes."""
    return stats(Logits(raw, 30.0, 0.1), order).arrays


def summed(seen: Blocks, order: ClassOrder) -> Iterable[mx.array]:
    return masses(seen, order)


def picked(
    raw: mx.array, order: ClassOrder, bias: mx.array, uniforms: mx.array
) -> Iterable[mx.array]:
    """All that class_pick writes."""
    logits = Logits(raw, 30.0, 0.1)
    return vars(pick(logits, stats(logits, order), order, bias, uniforms)).values()


@cache
def order_of(num_classes: int) -> ClassOrder:
    """One class of most ids; the others have one or some, the last of all two."""
    random = np.random.default_rng(num_classes)
    own = np.zeros(V, np.int32)
    places = random.choice(V, max(V // 8, num_classes), replace=False)
    own[places] = np.arange(places.size) % (num_classes - num_classes // 40)  # some have none
    own[own == num_classes - 1] = 0
    own[[0, V - 1]] = num_classes - 1
    return class_order(own, num_classes)


def rows(seed: int) -> mx.array:
    """Noise with ties; then masses of 1 and 0: few, many, all; the first and the last id."""
    random = np.random.default_rng(seed)
    raw = random.normal(0, 1, (10, V))
    raw[0, random.choice(V, 200)] = 3.0
    raw[1:6] = np.where(random.random((5, V)) < np.array([[0.001, 0.01, 0.3, 0.9, 1]]).T, 0, -1e4)
    raw[6:] = -1e4
    raw[6, -1] = raw[7, 0] = raw[7, 4100] = 0.0
    raw[8, ::64], raw[9, -16:] = 0.0, 0.0
    return mx.array(raw.astype(np.float32))


def random_blocks(order: ClassOrder, seed: int) -> Blocks:
    """Blocks of five rows; peaks of few values, so that they tie; one that all depends on."""
    random, shape = np.random.default_rng(seed), (5, order.block_class.size)
    peaks = random.integers(-30, 3, shape).astype(np.float32)
    peaks[0, -1], peaks[1] = 150.0, 2.0
    sums = random.uniform(1, 128, (*shape, 3)).astype(np.float32)
    return Blocks(
        mx.array(peaks),
        mx.array(sums),
        order.ids[:, 0][None].astype(mx.int32) + mx.zeros(shape, mx.int32),
    )


@cache
def reads() -> Sequence[Run]:
    """Blocks that fill no threadgroup, in 16 bits too; rows that fill no four."""
    orders = order_of(37), order_of(38)
    return [
        *(partial(read, rows(seed), order) for seed, order in enumerate(orders)),
        partial(read, rows(2).astype(mx.bfloat16), orders[0]),
    ]


@cache
def sums() -> Sequence[Run]:
    """A few classes, and as many as there may be."""
    orders = order_of(37), order_of(MAX_CLASSES)
    return [partial(summed, random_blocks(order, 0), order) for order in orders]


@cache
def picks() -> Sequence[Run]:
    """Draws at random, at halves, and with uniforms that no running sum exceeds; classes apart, in
    ties and forbidden; the best in each simdgroup."""
    made: list[Run] = []
    for seed, num_classes in enumerate((37, 900)):
        random, order = np.random.default_rng(seed), order_of(num_classes)
        bias = random.normal(0, 1, (10, num_classes))
        bias[random.random(bias.shape) < 0.3] = -np.inf
        bias[:, [0, num_classes - 1]] = 0.0
        for row, label in enumerate(np.array(order.block_class)[20::128]):
            bias[row, label] = 90.0
        level = np.where(np.isfinite(bias), 0.0, bias)
        uniforms = [random.random((10, 2)), np.full((10, 2), 0.5), np.ones((10, 2))]
        for own in (bias, level):
            for each in uniforms:
                arrays = (mx.array(array.astype(np.float32)) for array in (own, each))
                made.append(partial(picked, rows(seed), order, *arrays))
    return made


KERNELS = (
    Kernel(
        "class_stats",
        reads,
        faults(
            fault("block >= blocks", "block > blocks"),
            fault("block >= blocks", "block + 1 >= blocks"),
            fault("j < PER", "j < PER - 1", 1, 2, 3),
            fault("j < PER", "j <= PER", 1, 2, 3, sanitizer="address"),
            fault("lane * PER + j", "lane * (PER - 1) + j"),
            fault("first + ROWS, rows", "first + ROWS - 1, rows"),
            fault("first + ROWS, rows", "first + ROWS, rows - 1"),
            fault("first + ROWS, rows", "first + ROWS, rows + 1"),
            fault("own[j] < VOCAB", "own[j] < VOCAB - 1", 1, 2),
            fault("own[j] < VOCAB", "true", 1, 2),
            fault("values[j] > largest", "values[j] >= largest"),
            fault("mine : NONE", "mine : 0"),
            fault("simd_min(", "simd_max("),
            fault("static_cast<T>(values[j])", "values[j]"),
            fault("weight * below", "weight"),
        ),
    ),
    Kernel(
        "class_masses",
        sums,
        faults(
            barriers(1),
            shortened(logs="MOST_CLASSES"),
            fault("k = group;", "k = group + 1;"),
            fault("k < classes", "k < classes - 1", 1, 2, 3, 4),
            fault("k < classes", "k <= classes", 1, 2, 3, 4, sanitizer="address"),
            fault("k > 0 ?", "k > 1 ?"),
            fault("begin + lane", "begin + lane + 1", 1, 2),
            fault("n < end", "n < end - 1", 1, 2),
            fault("n < end", "n <= end", 1, 2),
            fault("peak > largest", "peak >= largest"),
            fault("simd_min(", "simd_max("),
            fault("peaks[at + n] - most", "peaks[at + n]"),
            fault("logs[k] > largest", "logs[k] < largest"),
            fault("k = lane;", "k = lane + 1;", 2),
        ),
    ),
    Kernel(
        "class_pick",
        picks,
        faults(
            DRAW,
            fault(BARRIER, ";", 3, 4),
            shortened(
                group_largest="SIMDGROUPS",
                group_best="SIMDGROUPS",
                group_moment="SIMDGROUPS",
                group_rounded="SIMDGROUPS",
                group_sum="SIMDGROUPS",
                group_first="SIMDGROUPS",
                group_end="SIMDGROUPS",
                chosen="1",
            ),
            fault("i < PER", "i < PER - 1", 1, 2),
            fault("i < PER", "i <= PER", 1, 2, sanitizer="address"),
            fault("n < blocks", "n < blocks - 1", 1, 2),
            fault("n < blocks", "n <= blocks", 1),
            fault("n < blocks", "n <= blocks", 2, sanitizer="address"),
            fault("block_class[n]", "n"),
            fault("heights[i] > largest", "heights[i] >= largest"),
            fault("id < mine)", "id > mine)"),
            fault("simd_min(", "simd_max(", 2),
            fault("g < SIMDGROUPS", "g < SIMDGROUPS - 1", 3, 4),
            fault("g < SIMDGROUPS", "g <= SIMDGROUPS", 3, 4, sanitizer="address"),
            fault("uint g = 1", "uint g = 2", 1, 2),
            fault("group_best[g] < mine", "group_best[g] > mine"),
            fault("share > 0.0f ?", "true ?"),
            fault("t * PER + place", "t * PER"),
            fault("t < BLOCK", "t < BLOCK - 1"),
            fault("t < BLOCK", "t <= BLOCK"),
            fault("id < VOCAB", "id < VOCAB - 1"),
            fault("id < VOCAB", "true"),
            fault("row * 2 + 1]", "row * 2]"),
        ),
        headers=("draw.h",),
    ),
)
