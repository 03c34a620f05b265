"""The sampling of single tokens against its definition in plain numpy, row by row.

Axes: R rows, V vocabulary, K candidates.
"""

import math
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from warped import ROWS, SAMPLERS, kept_sets, random_rows

from mlx_diffgemma.autoregressive.sampling import BROKEN, largest, sample
from mlx_diffgemma.checkpoint.generation import TokenDefaults
from mlx_diffgemma.diffusion.sampler import first_exceeding
from mlx_diffgemma.generation.noise import CounterNoise

Floats = NDArray[np.float32]


def plain_kept(logits: Floats, sampler: TokenDefaults) -> set[int]:
    """Temperature, top_k, top_p, min_p, one after the other, on one row in float64."""
    ranked = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[: sampler.top_k or None]
    scores = logits[ranked].astype(np.float64) / sampler.temperature
    shares = np.exp(scores - scores[0])
    shares /= shares.sum()
    before = np.cumsum(shares) - shares
    kept = before < sampler.top_p if sampler.top_p < 1 else np.ones(len(ranked), bool)
    return {ranked[i] for i in np.flatnonzero(kept & (shares >= sampler.min_p * shares[0]))}


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_kept_sets_are_those_of_the_definition(sampler: TokenDefaults) -> None:
    logits = random_rows()[:: ROWS // 80]
    got = kept_sets(logits, sampler)
    assert got == [plain_kept(row, sampler) for row in logits]
    assert len({len(kept) for kept in got}) > 1 or sampler.top_p == 1


# --- the largest without a sort


SHAPES = [
    (1, (1,)),
    (2, (1, 2)),
    (15, (1, 2, 15)),
    (127, (1, 7, 8, 127)),
    (128, (1, 7, 8, 9, 128)),
    (129, (1, 2, 64)),
    (1000, (1, 7, 8, 61, 62, 63, 64, 200)),
    (4101, (1, 31, 32, 33, 64, 256, 257, 4101)),
    (20_000, (1, 64, 156, 157, 1249, 1250, 19_999)),
]


@pytest.mark.parametrize(("length", "count"), [(n, k) for n, ks in SHAPES for k in ks])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_the_largest_are_those_of_a_stable_sort(length: int, count: int, levels: int) -> None:
    """levels: different values, so that three make nearly all of them ties."""
    values = np.random.default_rng(length + count).integers(-levels, levels, (2, length))
    values = values.astype(np.float32)
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    found, indices = largest(mx.array(values), count)
    assert np.array_equal(np.array(indices), order)
    assert np.array_equal(np.array(found), np.take_along_axis(values, order, axis=1))


def test_equal_logits_go_by_the_lowest_ids() -> None:
    _, ids = largest(mx.zeros((1, 5000)), 64)
    assert ids.tolist() == [list(range(64))]


def sorted_lengths(vocab: int, sampler: TokenDefaults) -> list[int]:
    """Lengths of all that a step sorts, read in the graph that MLX would run."""
    lengths: list[int] = []

    def look(node: dict[str, Any]) -> None:
        if node["type"] == "primitive" and "Sort" in node["name"]:
            lengths.append(node["inputs"][0][1][-1])

    def tokens(logits: mx.array, uniforms: mx.array) -> mx.array:
        return sample(logits, uniforms, sampler).tokens

    mx.export_function(look, tokens, mx.zeros((1, vocab)), mx.full((1, 2), 0.5))
    return lengths


def test_a_step_sorts_nothing_as_wide_as_the_vocabulary() -> None:
    lengths = sorted_lengths(262_144, TokenDefaults())
    assert 64 in lengths, "the graph could not be read"
    assert max(lengths) <= 2048
    assert sorted_lengths(262_144, TokenDefaults(temperature=0.0)) == []


# --- the draw


def test_the_draw_is_the_first_whose_running_sum_exceeds_its_share() -> None:
    """Word by word in float32, as the definition has it."""
    logits, uniforms = random_rows()[:200], CounterNoise(3).tokens(0, 200)
    sampler = TokenDefaults(0.9, 20, 0.9, 0.01)
    got = [drawn.token for drawn in sample(mx.array(logits), uniforms, sampler).read()]
    for row, u, token in zip(logits, np.array(uniforms), got, strict=True):
        kept = sorted(plain_kept(row, sampler), key=lambda i: (-row[i], i))
        weights = np.exp((row[kept] - row.max()) / np.float32(0.9)).astype(np.float32)
        sums = np.cumsum(weights, dtype=np.float32)
        gaps = np.abs(sums - u[0] * sums[-1])
        assert token == kept[int(np.argmax(sums > u[0] * sums[-1]))] or gaps.min() < 1e-5


def test_the_first_exceeding_of_the_kept_is_the_samplers_own() -> None:
    """One rule with the draw of a canvas."""
    logits, uniforms = mx.array(random_rows()[:300]), CounterNoise(9).tokens(0, 300)
    values, ids = largest(logits, 30)
    weights = mx.exp(values - values[:, :1])
    sums = mx.cumsum(weights, axis=-1)
    kept = mx.where(sums - weights < 0.8 * sums[:, -1:], weights, 0.0)
    expected = mx.take_along_axis(ids, first_exceeding(kept, uniforms[:, :1]), axis=-1)[:, 0]
    got = sample(logits, uniforms, TokenDefaults(1.0, 30, 0.8)).tokens
    assert mx.array_equal(got, expected)


@pytest.mark.parametrize(
    "sampler",
    [
        TokenDefaults(0.7, 12, 0.9),
        pytest.param(TokenDefaults(1.3, 0, 1.0, 0.02), marks=pytest.mark.slow),
        pytest.param(TokenDefaults(1.0, 0, 0.8), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_hundred_thousand_draws_follow_the_distribution(sampler: TokenDefaults) -> None:
    """Chi-square below its mean and five standard deviations."""
    count, vocab = 100_000, 24
    row = np.random.default_rng(1).normal(0, 1.5, vocab).astype(np.float32)
    logits = mx.broadcast_to(mx.array(row), (count, vocab))
    tokens = np.array(sample(logits, CounterNoise(5).tokens(0, count), sampler).tokens)
    kept = sorted(plain_kept(row, sampler))
    shares = np.exp(row[kept].astype(np.float64) / sampler.temperature)
    expected = count * shares / shares.sum()
    seen = np.bincount(tokens, minlength=vocab)
    assert seen.sum() == seen[kept].sum()
    square = float(((seen[kept] - expected) ** 2 / expected).sum())
    freedom = len(kept) - 1
    assert freedom >= 5
    assert square < freedom + 5 * math.sqrt(2 * freedom)


def test_rows_do_not_depend_on_each_other() -> None:
    logits, uniforms = mx.array(random_rows()[:3]), CounterNoise(2).tokens(0, 3)
    for sampler in SAMPLERS[::3]:
        together = sample(logits, uniforms, sampler, watched=True).read()
        for at, drawn in enumerate(together):
            alone = sample(logits[at : at + 1], uniforms[at : at + 1], sampler, watched=True)
            assert alone.read() == [drawn]
            assert sample(logits, uniforms, sampler, watched=True).row(at).read() == [drawn]


@pytest.mark.parametrize("temperature", [0.0, 1e-45, 1e-38])
def test_temperature_0_takes_the_lowest_of_the_likeliest(temperature: float) -> None:
    logits = np.zeros((2, 300), np.float32)
    logits[0, [150, 7, 299]] = 1.5
    logits[1, 299] = 1e-3
    for sampler in (TokenDefaults(temperature, 64), TokenDefaults(temperature, 0, 1.0)):
        tokens = sample(mx.array(logits), mx.full((2, 2), 1e-6), sampler).tokens
        assert tokens.tolist() == [7, 299]


def test_the_coldest_temperature_divides_nothing_by_0() -> None:
    logits = np.linspace(-30, 30, 300, dtype=np.float32)[None]
    for top_k in (64, 0):
        sampler = TokenDefaults(2.0**-126, top_k)
        assert sample(mx.array(logits), mx.full((1, 2), 0.999), sampler).tokens.tolist() == [299]


def test_as_many_as_the_vocabulary_holds_cut_nothing() -> None:
    logits, uniforms = mx.array(random_rows()[:50]), CounterNoise(8).tokens(0, 50)
    vocab = logits.shape[1]
    every = sample(logits, uniforms, TokenDefaults(1.0, 0, 1.0)).tokens
    for top_k in (vocab, vocab + 1, 10**6):
        assert mx.array_equal(
            sample(logits, uniforms, TokenDefaults(1.0, top_k, 1.0)).tokens, every
        )


@pytest.mark.parametrize("sampler", [*SAMPLERS, TokenDefaults(temperature=0.0)], ids=str)
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_finite_is_no_token(sampler: TokenDefaults, broken: float) -> None:
    """Known when the token is read, with no second question to the device."""
    logits = random_rows()[:3].copy()
    logits[1, 200] = broken
    tokens = [
        drawn.token for drawn in sample(mx.array(logits), mx.full((3, 2), 0.3), sampler).read()
    ]
    assert [token == BROKEN for token in tokens] == [False, True, False]


def test_who_watches_sees_the_models_own_distribution() -> None:
    row = random_rows()[:1]
    shares = np.exp(row[0].astype(np.float64))
    shares /= shares.sum()
    sampler = TokenDefaults(0.3, 5, 0.5)
    (drawn,) = sample(mx.array(row), mx.full((1, 2), 0.5), sampler, watched=True).read()
    assert drawn.entropy == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-5)
    assert drawn.top_probability == pytest.approx(shares.max(), rel=1e-5)
    (unseen,) = sample(mx.array(row), mx.full((1, 2), 0.5), sampler).read()
    assert unseen.token == drawn.token
    assert math.isnan(unseen.entropy)
    assert unseen.top_probability is None


def test_the_definition_here_can_tell_samplers_apart() -> None:
    row = random_rows()[0]
    whole = plain_kept(row, TokenDefaults(1.0, 0, 1.0))
    for change in ({"top_k": 5}, {"top_p": 0.5}, {"min_p": 0.2}):
        assert len(plain_kept(row, replace(TokenDefaults(1.0, 0, 1.0), **change))) < len(whole)
