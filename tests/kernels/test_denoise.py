"""The denoising kernels, run by the simulator, against float64 and against their written rules.

Rows of zeros and of logits far below have masses of exactly 1 and 0: what is drawn from them is
expected to the letter.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from facts import assert_says, raises
from metal_sim import simulated
from numpy.typing import NDArray
from orders import in_all_orders

from mlx_diffgemma.diffusion import sampler
from mlx_diffgemma.diffusion.predictions import Predictions, predict
from mlx_diffgemma.diffusion.sampler import SLICE, Logits
from mlx_diffgemma.errors import KernelError
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.kernels.check import as_float64, worst
from mlx_diffgemma.kernels.denoise import launch as denoise_launch
from mlx_diffgemma.kernels.denoise import trial as denoise
from mlx_diffgemma.kernels.denoise.checks import SampleCase, read_row
from mlx_diffgemma.kernels.denoise.launch import commit_in_kernel, pick, stats
from mlx_diffgemma.kernels.denoise.trial import sample_in_kernels

DTYPES = (mx.float32, mx.float16, mx.bfloat16)
VOCABS = [1, 5, 128, SLICE - 1, SLICE, SLICE + 1, 10_003]
NEVER = -1e4  # a raw logit without mass at this temperature: the softcap leaves -300
COLD = 0.1
LAST_UNIFORM = 1 - 2.0**-24

Floats = NDArray[np.float32]


def drawn(raw: Floats, uniforms: Floats, temperature: float = COLD) -> list[int]:
    """The kernels' draws from rows [R, V] with uniforms [R, 2]."""
    logits = Logits(mx.array(raw.astype(np.float32)), 30.0, temperature)
    with simulated():
        return sample_in_kernels(logits, mx.array(uniforms.astype(np.float32))).drawn.tolist()


def random_rows(shape: tuple[int, int], dtype: mx.Dtype, seed: int = 0) -> SampleCase:
    """Rows from nearly flat to certain, held against the sampler."""
    return SampleCase.of(shape, dtype, sampler, seed)


def rows_of_mass(present: NDArray[np.bool_]) -> Floats:
    """Raw logits whose masses are exactly 1 where `present` and else 0."""
    return np.where(present, 0.0, NEVER).astype(np.float32)


# --- sampling


SHAPES = [(1, 1), (1, 5), (1, 128), (6, 5), *((3, vocab) for vocab in VOCABS[3:])]
QUICK_SHAPES = [(6, 5), (3, SLICE + 1)]  # a vocabulary is a kernel to compile, a dtype


@pytest.mark.parametrize(
    ("rows", "vocab"),
    [
        pytest.param(*shape, marks=() if shape in QUICK_SHAPES else pytest.mark.slow)
        for shape in SHAPES
    ],
)
def test_sampling_is_that_of_float64(vocab: int, rows: int) -> None:
    """Kernels and reference; entropies to 2e-6, kernels sum short runs of float32."""
    for dtype in DTYPES:
        case = random_rows((rows, vocab), dtype, seed=vocab)
        best, entropy, tokens = case.exact()
        got = in_all_orders(case.kernel)
        assert np.array_equal(got[0], best)
        assert_close(got[1], entropy, 2e-6, f"entropy, V {vocab}, {dtype}")
        assert np.array_equal(got[2], tokens)
        assert worst(case.reference(), (best, entropy, tokens), TOLERANCES).allowed


TOLERANCES = denoise.sampling_tolerances(1)


@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0, 60.0])
def test_entropies_from_flat_to_certain(scale: float) -> None:
    raw = np.random.default_rng(1).normal(0, scale, (8, 5000)).astype(np.float32)
    case = SampleCase(Logits(mx.array(raw), 30.0, 0.4), mx.full((8, 2), 0.5), sampler)
    got = in_all_orders(case.kernel)
    assert_close(got[1], case.exact()[1], 4e-6, f"entropy, scale {scale}")
    assert (got[1] >= 0).all()


def test_a_certain_row_has_entropy_zero_exactly() -> None:
    raw = rows_of_mass(np.arange(5000)[None] == 4321)
    got = in_all_orders(
        lambda: sample_in_kernels(Logits(mx.array(raw), 30.0, COLD), mx.array([[0.3, 0.6]])).arrays
    )
    assert [array.tolist() for array in got] == [[4321], [0.0], [4321]]


@pytest.mark.parametrize(
    "ids", [(0, 1), (3, 4), (130, 1200), (5, 4095), (4095, 4096), (4100, 9999), (5, 4100, 9999)]
)
def test_argmax_ties_go_to_the_lowest_id(ids: Sequence[int]) -> None:
    raw = np.zeros((1, 10_000), np.float32)
    raw[0, list(ids)] = 2.5
    got = in_all_orders(
        lambda: sample_in_kernels(Logits(mx.array(raw), 30.0, 1.0), mx.array([[0.5, 0.5]])).arrays
    )
    assert got[0].tolist() == [ids[0]]


def test_a_nan_shows_in_its_row_only() -> None:
    raw = np.random.default_rng(2).normal(0, 3, (4, 9000)).astype(np.float32)
    raw[1, 5000] = np.nan
    raw[2] = np.nan
    raw[3, :4096] = np.nan
    with simulated():
        seen = sample_in_kernels(Logits(mx.array(raw), 30.0, 0.7), mx.full((4, 2), 0.5))
    assert np.isfinite(np.array(seen.entropy)).tolist() == [True, False, False, False]
    for ids in (seen.best, seen.drawn):
        assert min(ids.tolist()) >= 0
        assert max(ids.tolist()) < 9000


def test_infinite_logits_are_softcapped_like_any_others() -> None:
    raw = np.zeros((2, 300), np.float32)
    raw[0, 7], raw[1, 9] = np.inf, -np.inf
    case = SampleCase(Logits(mx.array(raw), 30.0, 0.7), mx.full((2, 2), 0.5), sampler)
    with simulated():
        best, entropy, _ = case.kernel()
    assert best.tolist() == [7, 0]
    assert_close(entropy, case.exact()[1], 2e-6, "entropy")


def test_peaks_are_the_largest_logits_of_128_ids() -> None:
    logits = random_rows((3, 5003), mx.bfloat16).logits
    with simulated():
        slices = stats(logits)
    processed = np.array(logits.processed())
    starts = np.arange(0, 5003, 128)
    # The softcap's tanh is another library's here than in numpy: two units in the last place.
    assert_close(slices.peaks, np.maximum.reduceat(processed, starts, axis=1), 1e-5, "peaks")
    assert np.array_equal(np.array(slices.records)[..., 0].max(1), np.array(slices.peaks).max(1))


# --- the draw


def plain_draw(masses: Floats, uniforms: Floats) -> list[int]:
    """The rule as it is written down: a slice of 4,096 ids first, then a token inside it."""

    def index(parts: Floats, uniform: np.float32) -> int:
        sums = np.cumsum(parts, dtype=np.float32)
        above = np.flatnonzero(sums > uniform * sums[-1])
        return int(above[0] if above.size else np.flatnonzero(parts)[-1])

    tokens = []
    for row, (first, second) in zip(masses, uniforms, strict=True):
        slices = [row[at : at + SLICE] for at in range(0, row.size, SLICE)]
        chosen = index(np.array([part.sum() for part in slices], np.float32), first)
        tokens.append(SLICE * chosen + index(slices[chosen], second))
    return tokens


@pytest.mark.parametrize("vocab", VOCABS)
def test_draw_follows_the_written_rule_token_for_token(vocab: int) -> None:
    random = np.random.default_rng(vocab)
    present = random.random((40, vocab)) < random.random((40, 1)) ** 4
    present[:, random.integers(0, vocab)] = True  # no row without mass
    uniforms = random.random((40, 2), np.float32)
    uniforms[:2] = 2.0**-24, LAST_UNIFORM
    expected = plain_draw(present.astype(np.float32), uniforms)
    assert drawn(rows_of_mass(present), uniforms) == expected


def test_if_none_exceeds_the_last_of_positive_mass_is_taken() -> None:
    """A uniform of 1 stands for rounding that lets no sum exceed its own total."""
    present = np.zeros((3, 10_000), bool)
    present[0, [3, 5000]] = present[1, [4095]] = present[2, [8500, 9999]] = True
    assert drawn(rows_of_mass(present), np.ones((3, 2), np.float32)) == [5000, 4095, 9999]


def test_a_sum_equal_to_the_threshold_does_not_exceed_it() -> None:
    present = np.zeros((4, 10_000), bool)
    present[:, [10, 20, 5000, 5001]] = True
    uniforms = np.array([[0.5, 0.5], [0.4999999, 0.5], [0.5, 0.4999999], [0.4999999, 0.4999999]])
    assert drawn(rows_of_mass(present), uniforms.astype(np.float32)) == [5001, 20, 5000, 10]


def rare_token(place: int, others: Sequence[int]) -> tuple[Floats, float]:
    """A row [1, 10,000] in which `place` has about a millionth of the mass, and its exact share."""
    raw = np.full((1, 10_000), NEVER, np.float32)
    raw[0, list(others)] = 0.0
    raw[0, place] = COLD * np.log(1e-6 * len(others))
    exact = np.tanh(raw.astype(np.float64) / 30) * 30 / np.float64(np.float32(COLD))
    masses = np.exp(exact[0])
    return raw, float(masses[place] / masses.sum())


def test_a_token_of_one_millionth_alone_in_its_slice_is_drawn_by_its_uniforms_only() -> None:
    """About eight uniforms of 2^-23 lie inside; beside each end one is left to rounding."""
    raw, share = rare_token(4113, [7, 9000])
    begin, end = (1 - share) / 2, (1 + share) / 2
    grain = 2.0**-23
    firsts = [begin - 2 * grain, begin + grain, 0.5, end - grain, end + 2 * grain]
    uniforms = np.array([[first, 0.5] for first in firsts], np.float32)
    assert 0.9e-6 < share < 1.1e-6
    assert drawn(np.repeat(raw, 5, axis=0), uniforms) == [7, 4113, 4113, 4113, 9000]


@pytest.mark.parametrize("place", [4200, 4207, 4208])  # places inside and at the ends of a thread's
def test_a_token_of_one_millionth_inside_a_slice_is_drawn_by_its_uniforms_only(place: int) -> None:
    raw, share = rare_token(place, [4100, 8000])
    begin, end = (1 - share) / 2, (1 + share) / 2
    grain = 2.0**-23
    seconds = [begin - 2 * grain, begin + grain, 0.5, end - grain, end + 2 * grain]
    uniforms = np.array([[0.9, second] for second in seconds], np.float32)
    assert drawn(np.repeat(raw, 5, axis=0), uniforms) == [4100, place, place, place, 8000]


# --- the commit


def reference_commit(
    entropy: Floats, drawn: NDArray[Any], renoise: NDArray[Any], bound: float
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """`EntropyBoundSampler`: sort, a running sum in float32, `sum - own <= bound`, renoise."""
    order = np.argsort(entropy, kind="stable")
    sums = np.add.accumulate(entropy[order], dtype=np.float32)
    accepted = np.zeros(entropy.size, bool)
    accepted[order] = sums - entropy[order] <= np.float32(bound)
    return accepted, np.where(accepted, drawn, renoise)


@pytest.mark.parametrize("positions", [1, 2, 7, 8, 31, 32, 33, 100, 256, 512])
def test_acceptance_is_the_references_on_any_length(positions: int) -> None:
    random = np.random.default_rng(positions)
    best, fresh, ids = random.integers(0, 2**18, (3, positions)).astype(np.int32)
    for bound, spread in ((0.1, 1.0), (5.0, 1.0), (1e-6, 1.0), (1e9, 1.0), (0.1, 1e-3)):
        entropy = (random.random(positions, np.float32) * spread).astype(np.float32)
        arrays = [mx.array(array) for array in (best, entropy, ids, fresh, best)]
        accepted, canvas, summary = in_all_orders(partial(decided, arrays, bound))
        expected, next_canvas = reference_commit(entropy, ids, fresh, bound)
        assert np.array_equal(accepted, expected)
        assert np.array_equal(canvas, next_canvas)
        assert summary[1] == 1.0
        assert abs(summary[0] - entropy.astype(np.float64).mean()) <= 1e-6 * entropy.mean()


def decided(arrays: Sequence[mx.array], bound: float) -> Sequence[mx.array]:
    return commit_in_kernel(tuple(arrays), bound)  # type: ignore[arg-type]


def test_equal_entropies_rank_by_position() -> None:
    random = np.random.default_rng(3)
    ids = random.integers(0, 99, 64).astype(np.int32)
    with simulated():
        for most in (1, 2, 3, 9):
            entropy = (random.integers(0, most, 64) / 64).astype(np.float32)
            arrays = [mx.array(array) for array in (ids, entropy, ids, ids + 1, ids)]
            accepted, canvas, _ = decided(arrays, 0.1)
            expected, next_canvas = reference_commit(entropy, ids, ids + 1, 0.1)
            assert np.array_equal(np.array(accepted), expected)
            assert np.array_equal(np.array(canvas), next_canvas)


@pytest.mark.parametrize("place", [0, 31, 32, 99, None])
def test_one_id_that_moved_is_a_changed_canvas(place: int | None) -> None:
    best = np.arange(100, dtype=np.int32)
    before = best.copy()
    if place is not None:
        before[place] += 1
    ids = mx.array(best)
    arrays = [ids, mx.zeros(100), ids, ids, mx.array(before)]
    assert in_all_orders(lambda: decided(arrays, 0.1))[2].tolist() == [0.0, float(place is None)]


def test_entropies_that_are_not_finite_make_the_mean_so() -> None:
    ids = mx.arange(40, dtype=mx.int32)
    for bad in (float("nan"), float("inf")):
        for places in ([3], [0, 39], range(40)):
            entropy = np.full(40, 0.5, np.float32)
            entropy[list(places)] = bad
            accepted, canvas, summary = in_all_orders(
                partial(decided, [ids, mx.array(entropy), ids, ids, ids], 0.1)
            )
            assert not np.isfinite(summary[0])
            assert np.array_equal(canvas, np.arange(40))
            assert accepted.dtype == np.bool_


# --- a whole step


@pytest.mark.slow
def test_steps_of_1000_rows_are_the_reference_samplers() -> None:
    """Four canvases of 250 rows: argmax, entropy, draw, acceptance and the next canvas.

    Some rows are copies of others: their entropies tie. Everything is compared as it comes out of
    the kernels, the reference's rules in numpy on float64 distributions.
    """
    random = np.random.default_rng(4)
    for number in range(4):
        raw = random.normal(0, 2, (250, 600)).astype(np.float32)
        raw[np.arange(250), random.integers(0, 600, 250)] += np.linspace(
            0, 26, 250, dtype=np.float32
        )
        raw[200:] = raw[random.integers(100, 200, 50)]
        uniforms = random.random((250, 2), np.float32)
        fresh = random.integers(0, 600, 250).astype(np.int32)
        logits = Logits(mx.array(raw).astype(DTYPES[number % 3]), 30.0, 0.4 + 0.1 * number)
        case = SampleCase(logits, mx.array(uniforms), sampler)
        with simulated():
            seen = sample_in_kernels(logits, mx.array(uniforms))
            inputs = (seen.best, seen.entropy, seen.drawn, mx.array(fresh), seen.best)
            done, following, _ = commit_in_kernel(inputs, 0.1)
        best, entropy, tokens = case.exact()
        assert np.array_equal(np.array(seen.best), best)
        assert_close(seen.entropy, entropy, 2e-6, "entropy")
        assert np.array_equal(np.array(seen.drawn), tokens)
        found = np.array(seen.entropy)
        assert np.unique(found).size < 240  # ties
        accepted, canvas = reference_commit(found, tokens, fresh, 0.1)
        assert 20 < accepted.sum() < 250
        assert np.array_equal(np.array(done), accepted)
        assert np.array_equal(np.array(following), canvas)
        exact, _ = reference_commit(entropy.astype(np.float32), tokens, fresh, 0.1)
        assert np.array_equal(accepted, exact)


def test_three_launches_and_nothing_as_wide_as_the_vocabulary() -> None:
    rows, vocab = 4, 40_960
    trial = random_rows((rows, vocab), mx.bfloat16)
    with simulated() as run:
        seen = sample_in_kernels(trial.logits, trial.uniforms)
        commit_in_kernel((seen.best, seen.entropy, seen.best, seen.best, seen.best), 0.1)
    assert [launch.name for launch in run.launches] == [
        *("denoise_stats", "denoise_pick", "denoise_commit")
    ]
    written = [launch.output_bytes for launch in run.launches]
    assert written[0] == rows * (10 * 20 + vocab // 128 * 4)  # records and ids; peaks
    assert written[1:] == [12 * rows, 5 * rows + 8]
    assert all(launch.copied_bytes == 0 for launch in run.launches)
    assert sum(written) < rows * vocab * 2 / 40


# --- who runs


def predicted(rows: SampleCase) -> Predictions:
    """The predictions of rows, by the kernels where they are chosen."""
    return predict(rows.logits, rows.uniforms, denoise.samples(rows.logits, sampler.sample))


def commit(seen: Any) -> Sequence[mx.array]:
    """The commit of a step that drew the argmax."""
    inputs = (seen.best, seen.entropy, seen.best, seen.best, seen.best)
    return denoise.commit(inputs, 0.1, sampler.commit)


@pytest.mark.usefixtures("kernels_on")
def test_kernels_run_where_they_are_on_and_leave_slices() -> None:
    trial = random_rows((3, 300), mx.float32)
    with simulated() as run:
        seen = predicted(trial)
        commit(seen)
    assert len(run.launches) == 3
    assert seen.slices is not None
    assert seen.statistics is None
    assert_close(seen.processed(), trial.logits.processed(), 0.0, "processed, made again")


def test_references_run_where_kernels_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "off")
    trial = random_rows((3, 300), mx.float32)
    with simulated() as run:
        seen = predicted(trial)
        commit(seen)
    assert run.launches == []
    assert seen.slices is None
    assert seen.statistics is not None


@pytest.mark.usefixtures("kernels_on")
def test_what_the_kernels_do_not_cover_is_recorded_and_left_to_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(denoise, "MAX_VOCAB", 299)
    monkeypatch.setattr(denoise, "MAX_POSITIONS", 2)
    trial = random_rows((3, 300), mx.float32)
    with simulated() as run:
        seen = predicted(trial)
        commit(seen)
        predicted(trial)
    assert run.launches == []
    sampling, committing = dispatch.unused()
    assert_says(sampling, "denoise ... not cover ... a vocabulary of 300, more than 299")
    assert_says(committing, "denoise ... not cover ... a canvas of 3, more than 2")


def test_trials_agree_and_would_not_with_another_row() -> None:
    logits = random_rows((5, 700), mx.float16).logits
    sample = denoise.sample_trial(logits, sampler.sample)
    decide = denoise.commit_trial(50, sampler.commit)
    with simulated():
        assert sample.disagreement(sample.kernel(), sample.reference()) is None
        assert decide.disagreement(decide.kernel(), decide.reference()) is None
        wrong = denoise.sample_trial(replace(logits, raw=logits.raw[:, :-1]), sampler.sample)
        message = sample.disagreement(sample.kernel(), wrong.reference())
    assert message is not None
    right = decide.reference()
    flipped = [~right[0], *right[1:]]
    assert decide.disagreement(right, flipped) == "accepted: error 50, allowed 0"


# --- bad input


@pytest.mark.parametrize(
    ("raw", "facts"),
    [
        (mx.zeros((3, 4, 5)), "[3, 4, 5] ... rows of at most 4194304"),
        (mx.zeros(5), "[5] ... rows of at most 4194304"),
        (mx.zeros((0, 5)), "[0, 5] ... rows of at most 4194304"),
        (mx.zeros((3, 5), mx.int32), "int32 ... float32 ... float16 ... bfloat16"),
    ],
)
def test_logits_of_another_kind_are_refused(raw: mx.array, facts: str) -> None:
    with simulated() as run, raises(KernelError, "denoise_stats ... logits", facts):
        stats(Logits(raw, 30.0, 1.0))
    assert run.launches == []


def test_a_pick_refuses_what_is_not_of_its_rows() -> None:
    trial = random_rows((3, 5000), mx.float32)
    with simulated() as run:
        slices = stats(trial.logits)
        for wrong, uniforms, facts in [
            (slices, mx.zeros((2, 2)), "uniforms ... [2, 2] ... [3, 2]"),
            (slices, mx.zeros((3, 2), mx.float16), "uniforms ... float16 ... float32"),
            (
                replace(slices, records=slices.records[:, :1]),
                trial.uniforms,
                "records ... [3, 1, 4] ... [3, 2, 4]",
            ),
            (
                replace(slices, best=slices.best.astype(mx.uint32)),
                trial.uniforms,
                "slice_best ... uint32 ... int32",
            ),
            (
                replace(slices, peaks=slices.peaks[:2]),
                trial.uniforms,
                "peaks ... [2, 40] ... [3, 40]",
            ),
        ]:
            with raises(KernelError, "denoise_pick", facts):
                pick(trial.logits, wrong, uniforms)
    assert len(run.launches) == 1


def test_a_commit_refuses_another_length_or_dtype() -> None:
    ids, entropy = mx.zeros(4, mx.int32), mx.zeros(4)
    long = mx.zeros(denoise_launch.MAX_POSITIONS + 1, mx.int32)
    for arrays, facts in [
        ((long, entropy, ids, ids, ids), "best ... [513] ... 1 to 512 positions"),
        ((ids, entropy[:3], ids, ids, ids), "entropy ... [3] ... [4]"),
        ((ids, ids, ids, ids, ids), "entropy ... int32 ... float32"),
        ((ids, entropy, ids, ids[:2], ids), "renoise ... [2] ... [4]"),
        ((ids, entropy, ids, ids, entropy), "previous ... float32 ... int32"),
    ]:
        with simulated() as run, raises(KernelError, "denoise_commit", facts):
            decided(arrays, 0.1)
        assert run.launches == []


def test_float64_sampling_is_that_of_a_plain_row() -> None:
    """The selftest's float64 results, on numbers one can check by hand."""
    best, entropy, token = read_row(np.log([1.0, 2.0, 1.0]), np.array([0.5, 0.25]))
    assert (best, token) == (1, 1)  # 0.25 of the mass is reached, not exceeded, by the first
    assert abs(entropy - 1.5 * np.log(2)) < 1e-12
    assert as_float64(mx.array([1.5], mx.bfloat16)).tolist() == [1.5]


def test_a_verdict_holds_for_numbers_of_rows_up_to_a_power_of_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every template leaves another number of positions free, and each trial takes its time."""
    trials: dict[str, Any] = {}

    def chosen(family: str, key: str, trial: Any, preference: str) -> bool:
        trials.setdefault(key, trial)
        return False

    monkeypatch.setattr(dispatch, "chosen", chosen)
    for rows in (5, 6, 8, 9):
        trial = random_rows((rows, 300), mx.float16)
        seen = predicted(trial)
        commit(seen)
    assert list(trials) == [
        "8 rows of 300 logits, float16",
        "commit of 8 positions",
        "16 rows of 300 logits, float16",
        "commit of 16 positions",
    ]
    sample, decide, *_ = (trial() for trial in trials.values())
    assert [array.shape for array in sample.reference()] == [(8,)] * 3
    assert decide.reference()[0].shape == (8,)
