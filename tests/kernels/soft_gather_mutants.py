"""soft_gather's faults, and inputs on which each shows."""

from collections.abc import Iterable, Sequence
from functools import cache, partial

import mlx.core as mx
import numpy as np
from gathering import GIVEN
from mutants import Kernel, Run, barriers, fault, faults, shortened
from numpy.typing import NDArray

from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.kernels.denoise.launch import stats
from mlx_diffgemma.kernels.soft_gather.checks import ClassGatherCase, Sizes, random_table
from mlx_diffgemma.kernels.soft_gather.launch import gather_in_kernel
from mlx_diffgemma.model import soft_gather
from mlx_diffgemma.model.soft_gather import Table

TEMPERATURE = 0.6
Floats = NDArray[np.float64]


def gathers_of(sizes: Sizes) -> Sequence[Run]:
    """From flat to certain, and as many equal tokens as a tier keeps, a few less, a few more."""
    random, vocab = np.random.default_rng(sizes.V), sizes.V
    raw = [step * random.exponential(1, vocab) for step in (0.3, 0.6, 1.0, 1.4, 2.0, 4.0)]
    for count in (1, 2, 63, 64, 65, 90, 127, 128, 129):
        raw.append(np.where(np.isin(np.arange(vocab), random.choice(vocab, count)), 9.0, -60.0))
    for kept in (64, 128):
        for places in (range(-kept, 0), range(0, vocab, vocab // kept), range(31, 32 * kept, 32)):
            raw.append(np.full(vocab, -60.0))
            raw[-1][list(places)[:kept]] = 9.0
    rows = np.array([*raw, *near_the_bound(vocab), at_level_17(vocab)], np.float32)
    return [partial(gather, mx.array(rows).astype(sizes.dtype), sizes)]


def near_the_bound(vocab: int) -> Iterable[Floats]:
    """One token of the last block, and so many light ones that it nearly, or just, suffices."""
    for count in np.geomspace(vocab // 3, vocab - 1, 30).astype(int):
        row = np.full(vocab, -60.0)
        row[:count] = 9.0 + TEMPERATURE * np.log(2.0**-9 / (vocab / 2))
        row[-1] = 9.0
        yield row


def at_level_17(vocab: int) -> Floats:
    """A heavy token, 20 others above level 17, alone in their blocks, and too many behind it."""
    row = np.full(vocab, -60.0)
    row[: 128 * 21 : 128] = 9.0 + TEMPERATURE * np.log(1.2 * 2.0**-8.5 / 0.4)
    row[200] = 9.0
    row[128 * 22 :: max(1, (vocab - 128 * 22) // 250)] = 9.0 + TEMPERATURE * np.log(2.0**-8.8 / 0.4)
    return row


@cache
def gathers() -> Sequence[Run]:
    """Wide rows in one round, so that all threads add up; narrow ones in several; rows by class."""
    sizes = Sizes(0, 5003, 1024, mx.bfloat16, 8, 32), Sizes(0, 40_003, 128, mx.bfloat16)
    runs = [run for own in sizes for run in gathers_of(own)]
    by_class = Sizes(16, 5003, 128, mx.bfloat16, classes=41)
    return [*runs, ClassGatherCase.of(by_class, GIVEN).kernel]


def gather(raw: mx.array, sizes: Sizes) -> Iterable[mx.array]:
    logits = Logits(raw, 30.0, TEMPERATURE)
    return gather_in_kernel(logits, stats(logits), table_of(sizes))


@cache
def table_of(sizes: Sizes) -> Table:
    table: Table = random_table(sizes, soft_gather)
    return table


KERNELS = (
    Kernel(
        "soft_gather",
        gathers,
        faults(
            barriers(6),
            shortened(
                masses="SLICES",
                rooms="2 * SEARCH",
                blocks="MOST",
                ids="MOST",
                shares="MOST",
                group_share="SIMDGROUPS",
                group_square="SIMDGROUPS",
            ),
            fault("j < STEPS", "j < STEPS - 1", 1, 2, 3),
            fault("j < STEPS", "j <= STEPS", 3),
            fault("j < STEPS", "j <= STEPS", 1, 2, sanitizer="address"),
            fault("step * (j + 1)", "step * (j + 2)", 2),  # the first is in a comment
            fault("i < COUNT", "i < COUNT - 1", 1, 2),
            fault("i < COUNT", "i <= COUNT", 1, 2, sanitizer="address"),
            fault("g < SIMDGROUPS", "g < SIMDGROUPS - 1", 1, 2, 3, 4),
            fault("g < SIMDGROUPS", "g <= SIMDGROUPS", 3, 4, sanitizer="address"),
            fault("g < SIMDGROUPS", "g <= SIMDGROUPS", 1, 2),
            fault("<= most", "< most"),
            fault("<= most", "<= most + 1"),
            fault("g < group ?", "g <= group ?"),
            fault("lane == 31", "lane == 30", 1),
            fault("k < SLICES", "k < SLICES - 1", 1, 2, 3),
            fault("k < SLICES", "k <= SLICES", 1),
            fault("k < SLICES", "k <= SLICES", 2, 3, sanitizer="address"),
            fault("i < BLOCKS_PER", "i < BLOCKS_PER - 1", 1, 2),
            fault("i < BLOCKS_PER", "i <= BLOCKS_PER", 1, 2, sanitizer="address"),
            fault("block < in_row)", "block < in_row - 1)"),
            fault("block < in_row)", "block <= in_row)"),
            # Tiers.
            fault("attempt < TIERS", "attempt + 1 < TIERS"),
            fault(" && reached == NONE", ""),
            fault("attempt == 0 ? KEPT : MORE", "KEPT"),
            fault("attempt == 0 ? KEPT : MORE", "MORE"),
            fault("reached = attempt", "reached = 0"),
            fault("if (reached == NONE)", "if (reached > NONE)"),
            # Levels and places.
            fault("STEPS + 1 : 1", "STEPS + 2 : 1", 1, 2),
            fault("pass < 2", "pass < 1", 1, 2, 3),
            fault("pass < 3", "pass < 2"),
            fault("turn++ % 2", "(turn++ + 1) % 2", 1, 2, 3, 4),
            fault("place < most", "place < most - 1", 1, 2),
            fault("metal::min(level, block_level)", "level"),
            # Rounds.
            fault("+ TOGETHER - 1) / TOGETHER", ") / TOGETHER"),
            fault("round < rounds", "round + 1 < rounds"),
            fault("round < rounds", "round <= rounds"),
            fault("round * TOGETHER", "round * (TOGETHER - 1)"),
            fault("pass == 0 || rounds > 1", "pass == 0"),
            fault("pass == 0 || rounds > 1", "pass == 0 || rounds > 2"),
            fault("token_count += in_round", "token_count = in_round"),
            fault("place = token_count +", "place ="),
            fault("own < all_blocks", "own + 1 < all_blocks"),
            # What nobody has written may hold anything on a GPU: here, a block with tokens to keep.
            fault(
                "own < all_blocks;\n      const uint block = holds ? blocks[own] : 0u",
                "own <= all_blocks;\n      const uint block = blocks[own < all_blocks ? own : 0u]",
            ),
            fault("i < PER;", "i < PER - 1;", 1, 2),
            fault("i < PER;", "i <= PER;", 1, 2, sanitizer="address"),
            fault("id < VOCAB", "id < VOCAB - 1"),
            fault("id < VOCAB", "id <= VOCAB"),
            # The order of the classes.
            fault("peaks_shape[1])", "peaks_shape[1] - 1)"),
            fault("largest - shifts[at]", "largest"),
            fault("largest - shifts[shift]", "largest"),
            fault("order[begin + i]", "begin + i", 1, 2),
            fault("holds && id < VOCAB", "holds"),
            # Sums.
            fault("kept = 0.0f;\n  for", "for"),
            fault("square = 0.0f;\n  for (uint g", "for (uint g"),
            fault("<= scalars[4] * scalars[5]", "<= 0.5f * scalars[4] * scalars[5]"),
            fault(" + rest", ""),
            fault("mean[at]", "mean[i]"),
            fault("unit < UNITS", "unit < UNITS - 1", 1, 2),
            fault("unit < UNITS", "unit <= UNITS", 1),
            fault("unit < UNITS", "unit <= UNITS", 2),
            fault("i < VALUES", "i < VALUES - 1", 2, 3),
            fault("i < VALUES", "i <= VALUES", 2, sanitizer="address"),
            fault("i < VALUES", "i <= VALUES", 3),
            fault("k < count", "k < count - 1"),
            fault("k < count", "k <= count"),
        ),
    ),
)
