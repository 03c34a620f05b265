"""Rows to gather soft embeddings from, and checks of the gathered, by kernel or reference.

Axes: R rows, V vocabulary, H hidden size.
"""

import mlx.core as mx
import numpy as np
from compare import assert_close
from numpy.typing import NDArray

from mlx_diffgemma.diffusion import classes, sampler
from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.kernels.check import as_float64, unpacked_exactly
from mlx_diffgemma.kernels.soft_gather.checks import Given, Sizes
from mlx_diffgemma.kernels.soft_gather.checks import random_table as random_embedding
from mlx_diffgemma.model import soft_gather
from mlx_diffgemma.model.soft_gather import (
    FIRST,
    HALF_ULP,
    PRODUCT,
    SECOND,
    Gathered,
    Table,
    gather,
)

DTYPES = (mx.float16, mx.bfloat16)
PACKINGS = [(0, 32), (4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)]
TEMPERATURE = 0.6
GIVEN = Given(soft_gather, sampler, classes)  # the reference implementations

Floats = NDArray[np.float64]


def logits_of(raw: NDArray[np.floating], dtype: mx.Dtype) -> Logits:
    """Rows [R, V] with a softcap and a temperature, as a step gets them."""
    return Logits(mx.array(raw.astype(np.float32)).astype(dtype), 30.0, TEMPERATURE)


def random_table(sizes: Sizes) -> Table:
    table: Table = random_embedding(sizes, soft_gather)
    return table


def gathered_by_definition(logits: Logits, table: Table) -> Gathered:
    """The definition; logits are rounded first, as the reference rounds them."""
    return gather(logits.processed().astype(table.dtype), table)


def distributions(vocab: int) -> NDArray[np.float32]:
    """Raw logits [R, V] from flat to peaked, and some with as many equal tokens as it comes to."""
    random = np.random.default_rng(vocab)
    rows = [step * random.exponential(1, vocab) for step in (0.0, 0.3, 1.0, 2.0, 4.0, 8.0)]
    for count in (1, 2, 4, 10, 63, 64, 65, 128, 129, 300):
        row = np.full(vocab, -60.0)
        row[random.choice(vocab, min(count, vocab), replace=False)] = 9.0
        rows.append(row)
    close = np.full(vocab, -60.0)  # as many in one place: all in one block, or in two
    close[100:164] = 9.0
    rows.append(close)
    return np.array(rows, np.float32)


def row_at_level(level: int) -> tuple[NDArray[np.float64], float]:
    """A row [1, 5003] with a token just above a level, and the share of the tokens to be kept.

    70 tokens just below the level 20, and above 21, are too many to go further down: those and all
    after them are not reached.
    """
    weights, share, many = np.full(5003, 1e-12), 2.0 ** (-level / 2), 0.9 * 2.0**-10
    weights[:70] = many
    weights[200] = share * 1.06
    weights[300:340] = max(0.0, (1 - 70 * many - share * 1.06)) / 40
    weights /= weights.sum()
    processed = np.log(weights) + 8
    raw = 30 * np.arctanh(np.clip(processed * TEMPERATURE / 30, -0.999, 0.999))
    return raw[None], float(weights[weights >= 2.0**-10].sum())


def dense(logits: Logits, table: Table) -> Floats:
    """The whole product in float64, of logits rounded as the reference rounds them."""
    rounded = as_float64(logits.processed().astype(table.dtype))
    shares = np.exp(rounded - rounded.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares @ unpacked_exactly(table.stored, mx.arange(rounded.shape[1])) * table.scale


def assert_within_tail(gathered: Gathered, logits: Logits, table: Table) -> None:
    """Of `distributions`, and a table that keeps 64 or 128 tokens.

    Whatever falls on a level to within rounding: where the tokens of a tier suffice, the product is
    as near as the tail says, and within half an ulp and the roundings of share, sum and scaled sum.
    """
    exact, vocab, u = dense(logits, table), logits.raw.shape[1], HALF_ULP[table.dtype]
    size = np.linalg.norm(exact, axis=1)
    moved = np.linalg.norm(as_float64(gathered.soft) - exact, axis=1)
    tail, tier = as_float64(gathered.tail), np.array(gathered.tier)
    found = tier != PRODUCT
    assert (tail >= 0).all()
    assert (tail <= 1).all()
    assert (moved <= (tail + 1e-5) * table.reach + 3 * u * size)[found].all()
    assert (moved <= 4 * u * size)[found].all()
    assert (tier[6:10] == FIRST).all()  # 1, 2, 4 and 10 equal tokens
    assert not as_float64(gathered.soft)[~found].any()
    if vocab > 300:
        assert not found[[0, 14, 15]].any()  # all, 129 and 300 of them


def assert_tiers_of_equal_tokens(gathered: Gathered) -> None:
    """Of `distributions`, and a table that keeps 64 or 128 tokens.

    65 equal tokens reach the same levels; one that 64 may reach they all miss.
    """
    tier, tail = np.array(gathered.tier), np.array(gathered.tail)
    assert tier[10:16].tolist() == [FIRST, FIRST, SECOND, SECOND, PRODUCT, PRODUCT]
    assert tier[16] == FIRST
    assert (tail[[10, 11, 12, 13, 16]] < 1e-5).all()
    assert (tail[[14, 15]] == 1).all()


def assert_tail_of_level(gathered: Gathered, kept: float) -> None:
    assert_close(gathered.tail, [1 - kept], 2e-3, "tail")  # logits are rounded to float16
