"""The soft embedding gathered from few tokens: its definition against float64."""

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from gathering import (
    DTYPES,
    PACKINGS,
    TEMPERATURE,
    assert_tail_of_level,
    assert_tiers_of_equal_tokens,
    assert_within_tail,
    distributions,
    gathered_by_definition,
    logits_of,
    random_table,
    row_at_level,
)

from mlx_diffgemma.checkpoint.tensors import StoredWeight
from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.kernels.check import as_float64, unpacked_exactly, worst
from mlx_diffgemma.kernels.soft_gather.checks import GatherCase, Sizes
from mlx_diffgemma.kernels.soft_gather.trial import tolerances, zipf_rows
from mlx_diffgemma.model import soft_gather
from mlx_diffgemma.model.soft_gather import HALF_ULP, LEVELS, PRODUCT, gather, heaviest, measured


@pytest.mark.parametrize("vocab", [2081, 2112, 5003])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_heaviest_are_the_heaviest_of_all(vocab: int, dtype: mx.Dtype) -> None:
    logits = mx.array(np.random.default_rng(vocab).normal(0, 9, (7, vocab))).astype(dtype)
    found, values = heaviest(logits, 65)
    ids, rows = np.array(found), as_float64(logits)
    assert ids.shape == values.shape == (7, 65)
    assert all(len(set(row)) == 65 for row in ids.tolist())
    assert np.array_equal(np.take_along_axis(rows, ids, axis=-1), as_float64(values))
    expected = np.sort(rows, axis=-1)[:, ::-1][:, :65]
    assert np.array_equal(np.sort(as_float64(values), axis=-1)[:, ::-1], expected)
    assert np.array_equal(as_float64(values)[:, -1], expected[:, -1])


@pytest.mark.parametrize(("bits", "group"), PACKINGS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_gathers_what_is_defined(dtype: mx.Dtype, bits: int, group: int) -> None:
    table = random_table(Sizes(0, 5003, 256, dtype, bits, group))
    logits = Logits(zipf_rows((16, 5003), dtype), 30.0, TEMPERATURE)
    case = GatherCase(logits, None, table, soft_gather)
    right = case.exact()
    assert worst(case.reference(), right, tolerances(HALF_ULP[dtype])).allowed
    assert set(right[2].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("vocab", [2081, 4096, 10_003])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_left_out_is_within_the_measured_tail(vocab: int, dtype: mx.Dtype) -> None:
    kept = (64, 128) if vocab > 32 * 129 else (64,)
    table = random_table(Sizes(0, vocab, 64, dtype, kept=kept))
    logits = logits_of(distributions(vocab), dtype)
    assert_within_tail(gathered_by_definition(logits, table), logits, table)


def test_equal_tokens_are_kept_up_to_the_number_of_a_tier() -> None:
    logits = logits_of(distributions(5003), mx.bfloat16)
    table = random_table(Sizes(0, 5003, 64, mx.bfloat16))
    assert_tiers_of_equal_tokens(gathered_by_definition(logits, table))


@pytest.mark.parametrize("kept", [(64,), (1, 64)])
@pytest.mark.parametrize("level", [1, 2, 5, 8])
def test_levels_are_powers_of_the_root_of_a_half(level: int, kept: tuple[int, ...]) -> None:
    raw, share = row_at_level(level)
    table = random_table(Sizes(0, 5003, 64, mx.float16, kept=kept))
    assert_tail_of_level(gathered_by_definition(logits_of(raw, mx.float16), table), share)
    assert_close(LEVELS[:4], [1, 0.5**0.5, 0.5, 0.5**1.5], 1e-7, "levels")


@pytest.mark.parametrize("bits", [0, 8])
def test_mean_and_largest_lengths_are_measured_in_pieces(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft_gather, "PIECE", 999)
    table = random_table(Sizes(0, 5003, 128, mx.bfloat16, bits, 32))
    exact = unpacked_exactly(table.stored, mx.arange(5003))
    mean = as_float64(table.mean)
    assert_close(mean, exact.mean(axis=0), 2 * HALF_ULP[mx.bfloat16], "mean")
    lengths = [np.linalg.norm(part, axis=1).max() for part in (exact, exact - mean)]
    rounding = HALF_ULP[mx.bfloat16] * lengths[0]  # MLX unpacks into 16 bits
    assert_close([table.largest_norm, table.largest_distance], lengths, rounding, "norms")


def test_what_is_left_out_may_all_lie_as_far_from_the_mean_as_it_can() -> None:
    """Embeddings are m + d and m - d, and all that is left out is m + d: the bound is reached."""
    random = np.random.default_rng(0)
    mean, away = random.normal(0, 1, (2, 64))
    weight = mean + np.where(np.arange(5003) % 2 == 0, 1, -1)[:, None] * away
    dtype, u = mx.bfloat16, HALF_ULP[mx.bfloat16]
    table = measured(StoredWeight(mx.array(weight.astype(np.float32)).astype(dtype)), dtype, 8.0)
    rows = np.full((40, 5003), -60.0)
    rows[:, 5001] = 9.0
    for row, count in zip(rows, np.geomspace(400, 2500, 40).astype(int), strict=True):
        row[: 2 * count : 2] = 9.0 + np.log(u / 1000)
    processed = mx.array(rows.astype(np.float32)).astype(dtype)
    found = gather(processed, table)
    exact = as_float64(mx.softmax(processed.astype(mx.float32), axis=-1)) @ as_float64(
        table.stored.weight
    )
    exact *= table.scale
    moved = np.linalg.norm(as_float64(found.soft) - exact, axis=1) / np.linalg.norm(exact, axis=1)
    suffices = np.array(found.tier) != PRODUCT
    assert 5 < suffices.sum() < 35
    assert (moved[suffices] <= 2 * u).all()
    assert moved[suffices].max() > 0.9 * u
