"""The denoising kernels and soft_gather with one fault each, and inputs on which each shows.

Run as a program under a sanitizer it tries those faults that a plain run need not notice.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path

import mlx.core as mx
import numpy as np

sys.path.extend(str(folder) for folder in Path(__file__).parents[:3])

from mutants import Mutant, Run, barriers, shortened, try_all

from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.kernels.denoise.launch import commit_in_kernel, pick, stats
from mlx_diffgemma.kernels.soft_gather.checks import Sizes, random_table
from mlx_diffgemma.kernels.soft_gather.launch import gather_in_kernel
from mlx_diffgemma.model import embedding

STATS = [
    *barriers("denoise_stats", 2),
    *shortened(
        "denoise_stats",
        group_largest="GROUPS",
        group_best="GROUPS",
        group_mass="GROUPS",
        group_moment="GROUPS",
        group_rounded="GROUPS",
    ),
    Mutant("denoise_stats", "quad < QUADS", "quad < QUADS - 1"),
    Mutant("denoise_stats", "quad < QUADS", "quad <= QUADS", sanitizer="address"),
    Mutant("denoise_stats", "j < 4", "j < 3"),
    Mutant("denoise_stats", "j < 4", "j < 5", sanitizer="address"),
    Mutant("denoise_stats", "id < VOCAB", "id < VOCAB - 1"),
    Mutant("denoise_stats", "id < VOCAB", "id <= VOCAB"),
    Mutant("denoise_stats", "block < BLOCKS", "block < BLOCKS - 1"),
    Mutant("denoise_stats", "block < BLOCKS", "block <= BLOCKS"),
    Mutant("denoise_stats", "g < GROUPS", "g < GROUPS - 1", 1),
    Mutant("denoise_stats", "g < GROUPS", "g <= GROUPS", 1, sanitizer="address"),
    Mutant("denoise_stats", "g < GROUPS", "g < GROUPS - 1", 2),
    Mutant("denoise_stats", "g < GROUPS", "g <= GROUPS", 2, sanitizer="address"),
    Mutant("denoise_stats", "uint g = 1", "uint g = 2", 1),
    Mutant("denoise_stats", "uint g = 1", "uint g = 2", 2),
    Mutant("denoise_stats", "i < 4 * QUADS", "i < 4 * QUADS - 1"),
    Mutant("denoise_stats", "i < 4 * QUADS", "i <= 4 * QUADS", sanitizer="address"),
    Mutant("denoise_stats", "i % 4 < VOCAB", "i % 4 < VOCAB - 1"),
    Mutant("denoise_stats", "i % 4 < VOCAB", "i % 4 <= VOCAB"),
    Mutant("denoise_stats", "x > largest", "x >= largest"),
    Mutant("denoise_stats", "group_best[g] < mine", "group_best[g] > mine"),
    Mutant("denoise_stats", "simd_min(", "simd_max("),
]
PICK = [
    *barriers("denoise_pick", 3),
    *shortened(
        "denoise_pick",
        masses="SLICES",
        moments="SLICES",
        group_sum="GROUPS",
        group_first="GROUPS",
        group_end="GROUPS",
    ),
    *(Mutant("denoise_pick", "k < SLICES", "k < SLICES - 1", n) for n in (1, 2, 3, 4)),
    Mutant("denoise_pick", "k < SLICES", "k <= SLICES", 1),
    *(Mutant("denoise_pick", "k < SLICES", "k <= SLICES", n, "address") for n in (2, 3, 4)),
    *(Mutant("denoise_pick", "j < PER", "j < PER - 1", n) for n in (1, 2)),
    *(Mutant("denoise_pick", "j < PER", "j <= PER", n, "address") for n in (1, 2)),
    Mutant("denoise_pick", "begin + j < VOCAB", "begin + j < VOCAB - 1"),
    Mutant("denoise_pick", "begin + j < VOCAB", "begin + j <= VOCAB"),
    Mutant("denoise_pick", "lane == 31", "lane == 30"),
    *(Mutant("denoise_pick", "g < GROUPS", "g < GROUPS - 1", n) for n in (1, 2)),
    *(Mutant("denoise_pick", "g < GROUPS", "g <= GROUPS", n, "address") for n in (1, 2)),
    Mutant("denoise_pick", "running > uniforms", "running >= uniforms"),
    Mutant("denoise_pick", "sum > target", "sum >= target"),
    Mutant("denoise_pick", "+ mine) > target", "+ mine) >= target"),
    Mutant("denoise_pick", "m > largest", "m >= largest"),
    Mutant("denoise_pick", "t + 1 : 0u", "t : 0u"),
    Mutant("denoise_pick", "last - 1 : 0", "last : 0"),
]
COMMIT = [
    *barriers("denoise_commit", 2),
    *shortened("denoise_commit", keys="MOST", ranked="MOST", group_changed="MOST_GROUPS"),
    Mutant("denoise_commit", "r < positions", "r < positions - 1"),
    Mutant("denoise_commit", "r < positions", "r <= positions", sanitizer="address"),
    Mutant("denoise_commit", "k < positions", "k < positions - 1"),
    Mutant("denoise_commit", "k < positions", "k <= positions", sanitizer="address"),
    Mutant("denoise_commit", "k <= rank", "k < rank"),
    Mutant("denoise_commit", "k <= rank", "k <= rank + 1"),
    Mutant("denoise_commit", "rank == positions - 1", "rank == positions - 2"),
    Mutant("denoise_commit", "g < groups", "g < groups - 1"),
    Mutant("denoise_commit", "g < groups", "g <= groups", sanitizer="address"),
    Mutant("denoise_commit", "k < r)", "k <= r)", sanitizer="address"),
    Mutant("denoise_commit", "k < r)", "k > r)"),
    Mutant("denoise_commit", "<= bound", "< bound"),
]
GATHER = [
    *barriers("soft_gather", 6),
    *shortened(
        "soft_gather",
        masses="SLICES",
        block_room="SEARCH",
        block_places="SIMDGROUPS",
        blocks="KEPT",
        token_room="SEARCH",
        token_places="SIMDGROUPS",
        ids="KEPT",
        shares="KEPT",
        group_share="SIMDGROUPS",
        group_square="SIMDGROUPS",
    ),
    *(Mutant("soft_gather", "i < COUNT", "i < COUNT - 1", n) for n in (1, 2)),
    *(Mutant("soft_gather", "i < COUNT", "i <= COUNT", n, "address") for n in (1, 2)),
    *(Mutant("soft_gather", "g < SIMDGROUPS", "g < SIMDGROUPS - 1", n) for n in (1, 2, 3)),
    *(Mutant("soft_gather", "g < SIMDGROUPS", "g <= SIMDGROUPS", n, "address") for n in (1, 2, 3)),
    Mutant("soft_gather", "n < 6", "n < 5"),
    Mutant("soft_gather", "n < 6", "n < 7", sanitizer="address"),
    Mutant("soft_gather", "<= KEPT", "< KEPT"),
    Mutant("soft_gather", "<= KEPT", "<= KEPT + 1"),
    Mutant("soft_gather", "32u >> n", "31u >> n"),
    Mutant("soft_gather", "g < group ?", "g <= group ?"),
    *(Mutant("soft_gather", "lane == 31", "lane == 30", n) for n in (1,)),
    *(Mutant("soft_gather", "k < SLICES", "k < SLICES - 1", n) for n in (1, 2, 3)),
    Mutant("soft_gather", "k < SLICES", "k <= SLICES", 1),
    *(Mutant("soft_gather", "k < SLICES", "k <= SLICES", n, "address") for n in (2, 3)),
    *(Mutant("soft_gather", "i < BLOCKS_PER", "i < BLOCKS_PER - 1", n) for n in (1, 2)),
    *(Mutant("soft_gather", "i < BLOCKS_PER", "i <= BLOCKS_PER", n, "address") for n in (1, 2)),
    Mutant("soft_gather", "block < BLOCKS)", "block < BLOCKS - 1)"),
    Mutant("soft_gather", "block < BLOCKS)", "block <= BLOCKS)"),
    Mutant("soft_gather", "place < KEPT", "place < KEPT - 1", 1),
    Mutant("soft_gather", "place < KEPT", "place < KEPT - 1", 2),
    Mutant("soft_gather", "own < metal::min(block_count, KEPT)", "own + 1 < block_count"),
    # What nobody has written may hold anything on a GPU: here, a block with tokens to keep.
    Mutant(
        "soft_gather",
        "own < metal::min(block_count, KEPT);\nconst uint begin = (holds ? blocks[own] : 0u)",
        "own <= block_count;\nconst uint begin = blocks[own < block_count ? own : 0u]",
    ),
    *(Mutant("soft_gather", "i < PER;", "i < PER - 1;", n) for n in (1, 2)),
    *(Mutant("soft_gather", "i < PER;", "i <= PER;", n, "address") for n in (1, 2)),
    Mutant("soft_gather", "begin + i < VOCAB", "begin + i < VOCAB - 1"),
    Mutant("soft_gather", "begin + i < VOCAB", "begin + i <= VOCAB"),
    Mutant("soft_gather", "metal::min(token_level, block_level)", "token_level"),
    Mutant("soft_gather", "unit < UNITS", "unit < UNITS - 1"),
    Mutant("soft_gather", "unit < UNITS", "unit <= UNITS"),
    *(Mutant("soft_gather", "i < VALUES", "i < VALUES - 1", n) for n in (2, 3)),
    *(Mutant("soft_gather", "i < VALUES", "i <= VALUES", n, "address") for n in (2, 3)),
    Mutant("soft_gather", "k < count", "k < count - 1"),
    Mutant("soft_gather", "k < count", "k <= count"),
]
ALL = [*STATS, *PICK, *COMMIT, *GATHER]


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


def reads(vocab: int, seed: int = 0) -> Sequence[Run]:
    """Draws at random, at halves, and with uniforms that no running sum exceeds."""
    raw = rows(vocab, seed)
    uniforms = np.random.default_rng(seed + 1).random((10, 2), np.float32)
    return [
        partial(read, raw, mx.array(uniforms)),
        partial(read, raw, mx.full((10, 2), 0.5)),
        partial(read, raw, mx.ones((10, 2))),
    ]


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


def gathers(vocab: int, bits: int) -> Sequence[Run]:
    """From flat to certain, and as many equal tokens as can be kept, a few less, a few more."""
    random = np.random.default_rng(vocab)
    raw = [step * random.exponential(1, vocab) for step in (0.3, 0.6, 1.0, 2.0, 4.0)]
    for count in (1, 2, 63, 64, 65, 90):
        raw.append(np.where(np.isin(np.arange(vocab), random.choice(vocab, count)), 9.0, -60.0))
    for places in (range(-64, 0), range(0, vocab, vocab // 64), range(31, 2048, 32)):
        row = np.full(vocab, -60.0)
        row[list(places)[:64]] = 9.0
        raw.append(row)
    array = mx.array(np.array(raw, np.float32)).astype(mx.bfloat16)
    return [partial(gather, array, Sizes(0, vocab, 128, mx.bfloat16, bits, 32))]


def gather(raw: mx.array, sizes: Sizes) -> Iterable[mx.array]:
    logits = Logits(raw, 30.0, 0.6)
    return gather_in_kernel(logits, stats(logits), random_table(sizes, embedding))


RUNS: dict[str, Callable[[], Sequence[Run]]] = {
    "denoise_stats": cache(lambda: [*reads(4230), *reads(5003, 1)]),
    "denoise_pick": cache(lambda: [*reads(4230), *reads(5003, 1)]),
    "denoise_commit": cache(commits),
    "soft_gather": cache(lambda: [*gathers(5003, 8), *gathers(40_003, 0)]),
}


if __name__ == "__main__":
    try_all(ALL, RUNS, sys.argv[1])
