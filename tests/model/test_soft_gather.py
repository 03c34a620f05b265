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

from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.kernels.check import as_float64, worst
from mlx_diffgemma.kernels.soft_gather.checks import GatherCase, Sizes
from mlx_diffgemma.kernels.soft_gather.trial import tolerances, zipf_rows
from mlx_diffgemma.model import soft_gather
from mlx_diffgemma.model.soft_gather import HALF_ULP, LEVELS, heaviest


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
