"""The denoising kernels' faults, and inputs on which each shows."""

from collections.abc import Iterable, Sequence
from functools import cache, partial

import mlx.core as mx
import numpy as np
from mutants import BARRIER, Kernel, Run, barriers, fault, faults, shortened

from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.kernels.denoise.launch import commit_in_kernel, pick, stats

DRAW = faults(  # draw.h, which comes before a kernel's own text
    barriers(2),
    fault("j < PER", "j < PER - 1", 1, 2),
    fault("j < PER", "j <= PER", 1, 2, sanitizer="address"),
    fault("lane == 31", "lane == 30"),
    fault("g < SIMDGROUPS", "g < SIMDGROUPS - 1", 1, 2),
    fault("g < SIMDGROUPS", "g <= SIMDGROUPS", 1, 2, sanitizer="address"),
    fault("sum > target", "sum >= target"),
    fault("+ mine) > target", "+ mine) >= target"),
    fault("t + 1 : 0u", "t : 0u"),
    fault("last - 1 : 0", "last : 0"),
)


def read(raw: mx.array, uniforms: mx.array) -> Iterable[mx.array]:
    """All that denoise_stats and denoise_pick write."""
    logits = Logits(raw, 30.0, 0.1)
    slices = stats(logits)
    return slices.records, slices.best, slices.peaks, *pick(logits, slices, uniforms)


def rows(vocab: int, seed: int) -> mx.array:
    """Noise with ties; then masses of 1 and 0: few, many, all; the last id, and the first ones."""
    random = np.random.default_rng(seed)
    raw = random.normal(0, 1, (10, vocab))
    raw[0, random.choice(vocab, 5)] = 3.0
    raw[1:6] = np.where(
        random.random((5, vocab)) < np.array([[0.001, 0.01, 0.3, 0.9, 1]]).T, 0, -1e4
    )
    raw[6:] = -1e4
    raw[6, -1] = raw[7, 0] = raw[7, 4100] = 0.0
    raw[8, ::64], raw[9, -16:] = 0.0, 0.0
    return mx.array(raw.astype(np.float32))


def reads_of(vocab: int, seed: int = 0) -> Sequence[Run]:
    """Draws at random, at halves, and with uniforms that no running sum exceeds."""
    raw = rows(vocab, seed)
    uniforms = np.random.default_rng(seed + 1).random((10, 2), np.float32)
    return [
        partial(read, raw, mx.array(uniforms)),
        partial(read, raw, mx.full((10, 2), 0.5)),
        partial(read, raw, mx.ones((10, 2))),
    ]


@cache
def reads() -> Sequence[Run]:
    return [*reads_of(4230), *reads_of(5003, 1)]


@cache
def commits() -> Sequence[Run]:
    """Random entropies; equal ones, whose running sum meets the bound; the last id changed."""
    random = np.random.default_rng(5)
    made: list[Run] = []
    for positions, steps in ((70, 1000), (40, 3), (64, 2), (512, 1000)):
        ids, fresh = mx.array(random.integers(0, 99, (2, positions)).astype(np.int32))
        entropy = mx.array((random.integers(0, steps, positions) / 256).astype(np.float32))
        previous = mx.array([*ids.tolist()[:-1], -1], mx.int32)
        made.append(partial(commit, ids, entropy, fresh, previous, 0.125))
    return made


def commit(
    ids: mx.array, entropy: mx.array, fresh: mx.array, previous: mx.array, bound: float
) -> Iterable[mx.array]:
    return commit_in_kernel((ids, entropy, ids, fresh, previous), bound)


KERNELS = (
    Kernel(
        "denoise_stats",
        reads,
        faults(
            barriers(2),
            shortened(
                group_largest="GROUPS",
                group_best="GROUPS",
                group_mass="GROUPS",
                group_moment="GROUPS",
                group_rounded="GROUPS",
            ),
            fault("quad < QUADS", "quad < QUADS - 1"),
            fault("quad < QUADS", "quad <= QUADS", sanitizer="address"),
            fault("j < 4", "j < 3"),
            fault("j < 4", "j < 5", sanitizer="address"),
            fault("id < VOCAB", "id < VOCAB - 1"),
            fault("id < VOCAB", "id <= VOCAB"),
            fault("block < BLOCKS", "block < BLOCKS - 1"),
            fault("block < BLOCKS", "block <= BLOCKS"),
            fault("g < GROUPS", "g < GROUPS - 1", 1),
            fault("g < GROUPS", "g <= GROUPS", 1, sanitizer="address"),
            fault("g < GROUPS", "g < GROUPS - 1", 2),
            fault("g < GROUPS", "g <= GROUPS", 2, sanitizer="address"),
            fault("uint g = 1", "uint g = 2", 1),
            fault("uint g = 1", "uint g = 2", 2),
            fault("i < 4 * QUADS", "i < 4 * QUADS - 1"),
            fault("i < 4 * QUADS", "i <= 4 * QUADS", sanitizer="address"),
            fault("i % 4 < VOCAB", "i % 4 < VOCAB - 1"),
            fault("i % 4 < VOCAB", "i % 4 <= VOCAB"),
            fault("x > largest", "x >= largest"),
            fault("group_best[g] < mine", "group_best[g] > mine"),
            fault("simd_min(", "simd_max("),
        ),
    ),
    Kernel(
        "denoise_pick",
        reads,
        faults(
            DRAW,
            fault(BARRIER, ";", 3),
            shortened(
                masses="SLICES",
                moments="SLICES",
                group_sum="GROUPS",
                group_first="GROUPS",
                group_end="GROUPS",
            ),
            fault("k < SLICES", "k < SLICES - 1", 1, 2, 3, 4),
            fault("k < SLICES", "k <= SLICES", 1),
            fault("k < SLICES", "k <= SLICES", 2, 3, 4, sanitizer="address"),
            fault("j < PER", "j < PER - 1", 3),
            fault("j < PER", "j <= PER", 3, sanitizer="address"),
            fault("begin + j < VOCAB", "begin + j < VOCAB - 1"),
            fault("begin + j < VOCAB", "begin + j <= VOCAB"),
            fault("begin + place", "begin"),
            fault("running > uniforms", "running >= uniforms"),
            fault("m > largest", "m >= largest"),
        ),
        headers=("draw.h",),
    ),
    Kernel(
        "denoise_commit",
        commits,
        faults(
            barriers(2),
            shortened(keys="MOST", ranked="MOST", group_changed="MOST_GROUPS"),
            fault("r < positions", "r < positions - 1"),
            fault("r < positions", "r <= positions", sanitizer="address"),
            fault("k < positions", "k < positions - 1"),
            fault("k < positions", "k <= positions", sanitizer="address"),
            fault("k <= rank", "k < rank"),
            fault("k <= rank", "k <= rank + 1"),
            fault("rank == positions - 1", "rank == positions - 2"),
            fault("g < groups", "g < groups - 1"),
            fault("g < groups", "g <= groups", sanitizer="address"),
            fault("k < r)", "k <= r)", sanitizer="address"),
            fault("k < r)", "k > r)"),
            fault("<= bound", "< bound"),
        ),
    ),
)
