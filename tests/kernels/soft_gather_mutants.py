"""soft_gather's faults, and inputs on which each shows."""

from collections.abc import Iterable, Sequence
from functools import cache, partial

import mlx.core as mx
import numpy as np
from mutants import Kernel, Run, barriers, fault, faults, shortened

from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.kernels.denoise.launch import stats
from mlx_diffgemma.kernels.soft_gather.checks import Sizes, random_table
from mlx_diffgemma.kernels.soft_gather.launch import gather_in_kernel
from mlx_diffgemma.model import soft_gather


def gathers_of(vocab: int, bits: int) -> Sequence[Run]:
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


@cache
def gathers() -> Sequence[Run]:
    return [*gathers_of(5003, 8), *gathers_of(40_003, 0)]


def gather(raw: mx.array, sizes: Sizes) -> Iterable[mx.array]:
    logits = Logits(raw, 30.0, 0.6)
    return gather_in_kernel(logits, stats(logits), random_table(sizes, soft_gather))


KERNELS = (
    Kernel(
        "soft_gather",
        gathers,
        faults(
            barriers(6),
            shortened(
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
            fault("i < COUNT", "i < COUNT - 1", 1, 2),
            fault("i < COUNT", "i <= COUNT", 1, 2, sanitizer="address"),
            fault("g < SIMDGROUPS", "g < SIMDGROUPS - 1", 1, 2, 3),
            fault("g < SIMDGROUPS", "g <= SIMDGROUPS", 1, 2, 3, sanitizer="address"),
            fault("n < 6", "n < 5"),
            fault("n < 6", "n < 7", sanitizer="address"),
            fault("<= KEPT", "< KEPT"),
            fault("<= KEPT", "<= KEPT + 1"),
            fault("32u >> n", "31u >> n"),
            fault("g < group ?", "g <= group ?"),
            fault("lane == 31", "lane == 30", 1),
            fault("k < SLICES", "k < SLICES - 1", 1, 2, 3),
            fault("k < SLICES", "k <= SLICES", 1),
            fault("k < SLICES", "k <= SLICES", 2, 3, sanitizer="address"),
            fault("i < BLOCKS_PER", "i < BLOCKS_PER - 1", 1, 2),
            fault("i < BLOCKS_PER", "i <= BLOCKS_PER", 1, 2, sanitizer="address"),
            fault("block < BLOCKS)", "block < BLOCKS - 1)"),
            fault("block < BLOCKS)", "block <= BLOCKS)"),
            fault("place < KEPT", "place < KEPT - 1", 1),
            fault("place < KEPT", "place < KEPT - 1", 2),
            fault("own < metal::min(block_count, KEPT)", "own + 1 < block_count"),
            # What nobody has written may hold anything on a GPU: here, a block with tokens to keep.
            fault(
                "own < metal::min(block_count, KEPT);\n"
                "const uint begin = (holds ? blocks[own] : 0u)",
                "own <= block_count;\nconst uint begin = blocks[own < block_count ? own : 0u]",
            ),
            fault("i < PER;", "i < PER - 1;", 1, 2),
            fault("i < PER;", "i <= PER;", 1, 2, sanitizer="address"),
            fault("begin + i < VOCAB", "begin + i < VOCAB - 1"),
            fault("begin + i < VOCAB", "begin + i <= VOCAB"),
            fault("metal::min(token_level, block_level)", "token_level"),
            fault("unit < UNITS", "unit < UNITS - 1"),
            fault("unit < UNITS", "unit <= UNITS"),
            fault("i < VALUES", "i < VALUES - 1", 2, 3),
            fault("i < VALUES", "i <= VALUES", 2, 3, sanitizer="address"),
            fault("k < count", "k < count - 1"),
            fault("k < count", "k <= count"),
        ),
    ),
)
