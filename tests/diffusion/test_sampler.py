"""The sampler's definitions against float64 numpy, and the draw against its written rule.

Masses are whole numbers wherever a token is expected to the letter: their float32 sums are exact
in any order, and what is left, one product, is rounded the same everywhere.
"""

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from drawing import chi_square_quantile
from numpy.typing import NDArray

from mlx_diffgemma.diffusion.sampler import (
    SLICE,
    Logits,
    LogitStatistics,
    accept,
    commit,
    draw,
    first_exceeding,
    slice_masses,
    statistics,
    temperature,
)
from mlx_diffgemma.generation.noise import CounterNoise

Floats = NDArray[np.float32]
LAST_UNIFORM = 1 - 2.0**-24  # the largest CounterNoise gives; the smallest is 2^-24

# --- statistics of a row


def entropies(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = logits.astype(np.float64)
    shifted = exact - exact.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    total = weights.sum(axis=1)
    return np.log(total) - (weights * shifted).sum(axis=1) / total


@pytest.mark.parametrize("vocab", [2, 128, SLICE, 10_000])
@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0, 40.0])
def test_entropy_is_that_of_float64(vocab: int, scale: float) -> None:
    logits = np.random.default_rng(1).normal(0, scale, (16, vocab)).astype(np.float32)
    got = statistics(mx.array(logits)).entropy
    # A float32 sum of 10,000 terms is good to about 1e-6 of itself; entropies reach log V = 9.2.
    assert_close(got, entropies(logits), 2e-5, f"entropy, V {vocab}, scale {scale}")


@pytest.mark.parametrize("gap", [5.0, 12.0, 20.0, 40.0, 80.0])
def test_entropy_of_a_peaked_row_keeps_its_digits(gap: float) -> None:
    logits = np.full((1, 5000), -gap / 2, np.float32)
    logits[0, 4321] = gap / 2
    got, expected = statistics(mx.array(logits)).entropy.item(), entropies(logits)[0]
    # Of the two terms, both positive, only log Z = log(1 + little) loses digits: at worst all of
    # them, which is 1 / (1 + gap) of the sum. logsumexp - mean would lose up to 4e-6 here.
    slack = expected / (1 + gap) + 1e-4 * expected  # the latter for a float32 sum of 5,000 terms
    assert got >= 0
    assert abs(got - expected) <= slack, f"got {got}, expected {expected:.3g} within {slack:.1g}"


@pytest.mark.parametrize("vocab", [1, 2, 128, 5000, 262_144])
def test_entropy_of_a_flat_row_is_log_v(vocab: int) -> None:
    got = statistics(mx.full((1, vocab), -3.25)).entropy.item()
    assert abs(got - np.log(vocab)) < 2e-6  # whole-number sums are exact; log is good to an ulp


def test_a_certain_row_has_entropy_zero_exactly() -> None:
    logits = mx.where(mx.arange(5000) == 17, 75.0, -75.0)[None]  # the softcap at the lowest t
    assert statistics(logits).entropy.item() == 0.0


def test_a_row_that_is_not_finite_has_an_entropy_that_is_not() -> None:
    logits = mx.array([[0.0, float("nan"), 1.0], [0.0, 1.0, 2.0]])
    assert np.isfinite(np.array(statistics(logits).entropy)).tolist() == [False, True]


@pytest.mark.parametrize("ids", [(0, 1), (5, 4095), (4095, 4096), (4100, 9999), (0, 5, 9999)])
def test_argmax_ties_go_to_the_lowest_id(ids: tuple[int, ...]) -> None:
    logits = np.zeros((1, 10_000), np.float32)
    logits[0, list(ids)] = 2.5
    best = statistics(mx.array(logits)).best
    assert best.dtype == mx.int32
    assert best.tolist() == [ids[0]]


def test_rows_hold_weights_relative_to_the_best_and_their_sums() -> None:
    logits = np.random.default_rng(2).normal(0, 3, (5, 9000)).astype(np.float32)
    rows = statistics(mx.array(logits))
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    total = weights.sum(axis=1, keepdims=True)
    assert_close(rows.weights, weights, 1e-6, "weights")  # at most 1; float32 exp is good to 2 ulp
    assert_close(rows.total / total, np.ones((5, 1)), 1e-5, "total, relative")
    assert_close(rows.masses.sum(axis=1), rows.total[:, 0], 0.0, "sum of the slices' masses")


@pytest.mark.parametrize("vocab", [1, 100, SLICE - 1, SLICE, SLICE + 1, 2 * SLICE, 10_000])
def test_slice_masses_are_sums_over_4096_ids(vocab: int) -> None:
    weights = np.random.default_rng(3).integers(0, 9, (3, vocab)).astype(np.float32)
    expected = [[row[at : at + 4096].sum() for at in range(0, vocab, 4096)] for row in weights]
    got = slice_masses(mx.array(weights))
    assert got.shape == (3, -(-vocab // 4096))
    assert np.array_equal(np.array(got), np.array(expected, np.float32))


# --- the draw


def whole_rows(weights: NDArray[np.integer]) -> LogitStatistics:
    """Rows whose masses are these whole numbers; what a draw does not read is left empty."""
    array = mx.array(weights.astype(np.float32))
    masses, unread = slice_masses(array), mx.zeros(1)
    return LogitStatistics(
        unread, unread, unread, array, masses.sum(axis=-1, keepdims=True), masses
    )


def plain_index(masses: Floats, uniform: np.float32) -> int:
    """The first index whose cumulated mass exceeds uniform * total, else the last of any mass."""
    sums = np.cumsum(masses, dtype=np.float32)
    above = np.flatnonzero(sums > uniform * sums[-1])
    return int(above[0] if above.size else np.flatnonzero(masses)[-1])


def plain_draw(weights: Floats, uniforms: Floats) -> list[int]:
    """The rule as it is written down: a slice of 4,096 ids first, then a token inside it."""
    drawn = []
    for row, (first, second) in zip(weights, uniforms, strict=True):
        slices = [row[at : at + 4096] for at in range(0, row.size, 4096)]
        masses = np.array([part.sum(dtype=np.float32) for part in slices], np.float32)
        chosen = plain_index(masses, first)
        drawn.append(4096 * chosen + plain_index(slices[chosen], second))
    return drawn


@pytest.mark.parametrize("vocab", [1, 2, 40, 128, SLICE - 1, SLICE, SLICE + 1, 10_000, 3 * SLICE])
def test_draw_follows_the_written_rule_token_for_token(vocab: int) -> None:
    random = np.random.default_rng(vocab)
    weights = random.integers(0, 6, (300, vocab)) * random.integers(0, 2, (300, vocab))
    weights[:, random.integers(0, vocab)] += 1  # no row without mass
    uniforms = np.array(CounterNoise(vocab).uniforms(0, 0, 300))
    drawn = draw(whole_rows(weights), mx.array(uniforms))
    assert drawn.dtype == mx.int32
    assert drawn.tolist() == plain_draw(weights.astype(np.float32), uniforms)


@pytest.mark.parametrize("vocab", [40, SLICE, 10_000])
def test_draws_from_logits_lie_where_their_uniforms_point(vocab: int) -> None:
    """Sums of real weights round, and differently in each order: to n * 2^-24 of the total."""
    logits = np.random.default_rng(4).normal(0, 3, (200, vocab)).astype(np.float32)
    uniforms = np.array(CounterNoise(1).uniforms(0, 0, 200))
    rows = statistics(mx.array(logits))
    drawn = draw(rows, mx.array(uniforms)).tolist()
    weights = np.array(rows.weights, np.float64)
    for row, token, (first, second) in zip(weights, drawn, uniforms.astype(float), strict=True):
        masses = np.add.reduceat(row, np.arange(0, vocab, 4096))
        chosen, place = divmod(token, 4096)
        inside = row[4096 * chosen : 4096 * chosen + 4096]
        for parts, index, uniform in ((masses, chosen, first), (inside, place, second)):
            ends = np.concatenate([[0], np.cumsum(parts)]) / parts.sum()
            slack = parts.size * 2.0**-24
            assert ends[index] - slack <= uniform <= ends[index + 1] + slack


def test_zero_mass_is_never_drawn() -> None:
    weights = np.zeros((3, 10_000), np.int64)
    weights[:, [100, 5000, 5001, 9000]] = 1
    lowest, highest = 2.0**-24, LAST_UNIFORM
    uniforms = mx.array([[lowest, lowest], [0.5, highest], [highest, highest]])
    assert draw(whole_rows(weights), uniforms).tolist() == [100, 5001, 9000]


@pytest.mark.parametrize("vocab", [1, 128, SLICE + 1, 10_000])
def test_uniforms_at_their_ends_draw_the_first_and_the_last_token(vocab: int) -> None:
    rows = whole_rows(np.ones((2, vocab), np.int64))
    ends = mx.array([[2.0**-24, 2.0**-24], [LAST_UNIFORM, LAST_UNIFORM]])
    assert draw(rows, ends).tolist() == [0, vocab - 1]


def test_if_none_exceeds_the_last_of_positive_mass_is_taken() -> None:
    """A uniform of 1 stands for rounding that lets no sum exceed its own total."""
    masses = mx.array([[2.0, 3.0, 0.0, 1.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0, 0.0, 0.0]])
    assert first_exceeding(masses, mx.ones((2, 1))).tolist() == [[3], [1]]
    weights = np.zeros((1, 10_000), np.int64)
    weights[0, [3, 5000]] = 7
    assert draw(whole_rows(weights), mx.ones((1, 2))).tolist() == [5000]


def test_a_sum_equal_to_the_threshold_does_not_exceed_it() -> None:
    masses = mx.array([[1.0, 1.0, 2.0]] * 4)
    uniforms = mx.array([[0.2499999], [0.25], [0.4999999], [0.5]])
    assert first_exceeding(masses, uniforms).tolist() == [[0], [1], [1], [2]]


def grid(number: float) -> int:
    """The index k of the first uniform (k + 1/2) * 2^-23 that is at least `number`."""
    return int(np.ceil(number * 2**23 - 0.5))


def test_a_token_of_one_millionth_alone_in_its_slice_is_drawn_by_its_uniforms_only() -> None:
    weights = np.zeros(10_000, np.int64)
    weights[7], weights[4096 + 17], weights[9000] = 600_000, 1, 399_999
    # Eight or nine uniforms fall into [0.6, 0.600001); beside each end one is left to rounding.
    inside = [grid(0.6), grid(0.6) + 4, grid(0.600001) - 2]
    before, behind = [0, grid(0.6) - 2], [grid(0.600001) + 1, 2**23 - 1]
    firsts = (np.array([*before, *inside, *behind]) + 0.5) * 2.0**-23
    uniforms = np.stack([firsts, np.full(7, 0.5)], axis=1).astype(np.float32)
    drawn = draw(whole_rows(np.tile(weights, (7, 1))), mx.array(uniforms)).tolist()
    assert drawn == [7, 7, 4113, 4113, 4113, 9000, 9000]


def test_a_token_of_one_millionth_inside_a_slice_is_drawn_by_its_uniforms_only() -> None:
    weights = np.zeros(10_000, np.int64)
    weights[7], weights[4100], weights[4200], weights[4300] = 2_000_000, 499_999, 1, 500_000
    # Its interval in the second uniform is [0.499999, 0.5).
    inside = [grid(0.499999) + 1, grid(0.4999995), grid(0.5) - 1]
    before, behind = [0, grid(0.499999) - 2], [grid(0.5), 2**23 - 1]
    seconds = (np.array([*before, *inside, *behind]) + 0.5) * 2.0**-23
    uniforms = np.stack([np.full(7, 0.9), seconds], axis=1).astype(np.float32)
    drawn = draw(whole_rows(np.tile(weights, (7, 1))), mx.array(uniforms)).tolist()
    assert drawn == [4100, 4100, 4200, 4200, 4200, 4300, 4300]


def test_the_quantile_is_that_of_the_tables() -> None:
    assert abs(chi_square_quantile(100) - 149.45) < 0.1


def test_draws_of_10_000_tokens_follow_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chi-square over 200,000 draws at p = 0.001; tokens expected under 5 times share a cell.

    Slices of 256 ids: the same rule over 40 slices, at a sixteenth of the work.
    """
    monkeypatch.setattr("mlx_diffgemma.diffusion.sampler.SLICE", 256)
    vocab, count, part = 10_000, 200_000, 4000
    logits = np.random.default_rng(5).normal(0, 1, (1, vocab)).astype(np.float32)
    one = statistics(mx.array(logits))
    weights, masses = (mx.broadcast_to(a, (part, a.shape[1])) for a in (one.weights, one.masses))
    rows = LogitStatistics(one.processed, one.best, one.entropy, weights, one.total, masses)
    uniforms = CounterNoise(99).uniforms(0, 0, count)
    drawn = [np.array(draw(rows, uniforms[at : at + part])) for at in range(0, count, part)]
    seen = np.bincount(np.concatenate(drawn), minlength=vocab)
    weights64 = np.exp(logits[0].astype(np.float64))
    expected = count * weights64 / weights64.sum()
    rare = expected < 5
    seen = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    statistic = ((seen - expected) ** 2 / expected).sum()
    freedom = seen.size - 1
    limit = chi_square_quantile(freedom)
    assert 3000 < freedom < vocab  # most tokens stand for themselves
    assert statistic < limit, f"chi-square {statistic:.0f}, limit {limit:.0f} at {freedom} degrees"


# --- acceptance


def plain_accept(entropy: Floats, bound: float) -> list[bool]:
    """Lowest first, equal ones by position, while those before it sum to at most the bound."""
    passed = [False] * entropy.size
    before = 0.0
    for place in sorted(range(entropy.size), key=lambda i: (entropy[i], i)):
        passed[place] = before <= bound
        before += float(entropy[place])
    return passed


def test_acceptance_is_the_plain_loop_on_random_rows() -> None:
    """Entropies on a grid of 2^-10, so that float32 sums are exact and many are equal."""
    random = np.random.default_rng(6)
    for _ in range(1000):
        size, most = int(random.integers(1, 65)), int(random.integers(1, 400))
        entropy = (random.integers(0, most, size) / 1024).astype(np.float32)
        bound = int(random.integers(1, 4000)) / 1024
        assert accept(mx.array(entropy), bound).tolist() == plain_accept(entropy, bound)


def test_a_full_canvas_of_256_is_accepted_as_by_the_plain_loop() -> None:
    entropy = (np.random.default_rng(7).integers(0, 5, 256) / 1024).astype(np.float32)
    got = accept(mx.array(entropy), 0.1)
    assert got.dtype == mx.bool_
    assert got.tolist() == plain_accept(entropy, 0.1)
    assert 0 < sum(got.tolist()) < 256


def test_equal_entropies_rank_by_position() -> None:
    assert accept(mx.full((6,), 0.25), 0.5).tolist() == [True, True, True, False, False, False]


def test_the_lowest_always_passes() -> None:
    assert accept(mx.array([9.0, 7.5, 8.0]), 1e-6).tolist() == [False, True, False]
    assert accept(mx.array([12.0]), 1e-30).tolist() == [True]


def test_a_sum_equal_to_the_bound_still_passes() -> None:
    entropy = mx.array([0.25, 0.25, 0.5, 1.0])
    assert accept(entropy, 0.5).tolist() == [True, True, True, False]


def test_a_huge_bound_accepts_all() -> None:
    assert all(accept(mx.random.uniform(shape=(256,), key=mx.random.key(0)), 1e9).tolist())


def test_certain_positions_all_pass() -> None:
    assert accept(mx.array([0.0, 3.0, 0.0, 0.0]), 0.1).tolist() == [True, True, True, True]
    assert accept(mx.array([0.0, 3.0, 3.0, 0.0]), 0.1).tolist() == [True, True, False, True]


# --- what a step decides


@pytest.mark.parametrize("previous", ["none", "equal", "one differs"])
def test_a_commit_says_what_is_kept_and_whether_the_argmax_moved(previous: str) -> None:
    best, drawn, renoise = (mx.array(ids, mx.int32) for ids in ([5, 6, 7], [1, 2, 3], [9, 8, 0]))
    before = {"none": mx.full((3,), -1), "equal": best, "one differs": mx.array([5, 6, 8])}
    entropy = mx.array([0.5, 0.25, 0.25])
    got = commit(best, entropy, drawn, renoise, before[previous].astype(mx.int32), 0.25)
    assert got.accepted.tolist() == [False, True, True]
    assert got.next_canvas.tolist() == [9, 2, 3]
    mean, unchanged = got.summary.tolist()
    assert abs(mean - 1 / 3) < 1e-7
    assert unchanged == (1.0 if previous == "equal" else 0.0)


def test_an_entropy_that_is_not_finite_makes_the_mean_so() -> None:
    ids = mx.zeros(2, mx.int32)
    summary = commit(ids, mx.array([float("nan"), 0.0]), ids, ids, ids, 0.1).summary
    assert np.isnan(summary[0].item())


def test_processed_logits_are_softcapped_in_float32_then_divided() -> None:
    raw = np.array([[-1e4, -60.0, -3.0, 0.0, 0.5, 45.0, 1e4]], np.float32)
    for dtype in (mx.float32, mx.float16, mx.bfloat16):
        stored = mx.array(raw).astype(dtype)
        exact = 30 * np.tanh(np.array(stored.astype(mx.float32), np.float64) / 30) / 0.7
        logits = Logits(stored, 30.0, 0.7)
        assert logits.processed().dtype == mx.float32
        assert_close(logits.processed(), exact, 1e-5, "processed logits, to 43")
        assert logits.of_rows(mx.array([0, 0])).processed().shape == (2, 7)


# --- the schedule of temperatures


def test_temperature_falls_from_t_max_by_equal_parts() -> None:
    got = [temperature(step, 48, 0.4, 0.8) for step in range(48)]
    expected = [0.4 + 0.4 * n / 48 for n in range(48, 0, -1)]
    assert_close(got, expected, 1e-15, "temperature")  # float64, in another order
    assert got[0] == 0.8
    assert got[-1] > 0.4  # the last step is one part above t_min


def test_the_only_step_runs_at_t_max() -> None:
    assert temperature(0, 1, 0.0, 0.7) == 0.7
