"""The class kernels, run by the simulator, against float64 and against their written rules.

Rows of zeros and of logits far below have masses of exactly 1 and 0: what is drawn from them is
expected to the letter. Axes: R rows, V vocabulary, N blocks, K classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from drawing import assert_chi_square
from facts import assert_says, raises
from metal_sim import simulated
from numpy.typing import NDArray
from orders import in_all_orders

from mlx_diffgemma.diffusion import classes, sampler
from mlx_diffgemma.diffusion.classes import ClassOrder, class_order
from mlx_diffgemma.diffusion.predictions import predict_biased, read_by_class
from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.errors import KernelError
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.kernels.check import worst
from mlx_diffgemma.kernels.classes import trial as kernels
from mlx_diffgemma.kernels.classes.checks import ClassCase, random_order
from mlx_diffgemma.kernels.classes.launch import Blocks, ClassSums, Picked, masses, pick, stats

DTYPES = (mx.float32, mx.float16, mx.bfloat16)
V, K = 5003, 41  # of most tests: a vocabulary is two kernels to compile, a dtype
NEVER = -1e4  # a raw logit without mass at this temperature: the softcap leaves -300
COLD = 0.1
LAST_UNIFORM = 1 - 2.0**-24

Floats = NDArray[np.float32]


def case_of(rows: int, vocab: int, num_classes: int, dtype: mx.Dtype, seed: int = 0) -> ClassCase:
    return ClassCase.of((rows, vocab), num_classes, dtype, classes, sampler, seed)


def some_order(seed: int = 0) -> ClassOrder:
    made: ClassOrder = random_order(V, K, classes, seed)
    return made


def seen_of(
    raw: Floats, order: ClassOrder, bias: Floats, uniforms: Floats, temperature: float = COLD
) -> tuple[Blocks, ClassSums, Picked]:
    """All that the kernels make of rows [R, V]."""
    logits = Logits(mx.array(raw.astype(np.float32)), 30.0, temperature)
    with simulated():
        blocks = stats(logits, order)
        made = masses(blocks, order)
        arrays = [mx.array(array.astype(np.float32)) for array in (bias, uniforms)]
        return blocks, made, pick(logits, blocks, order, *arrays)


def rows_of_mass(present: NDArray[np.bool_]) -> Floats:
    """Raw logits whose masses are exactly 1 where `present` and else 0."""
    return np.where(present, 0.0, NEVER).astype(np.float32)


def halves(rows: int) -> Floats:
    return np.full((rows, 2), 0.5, np.float32)


# --- against float64


SHAPES = [(1, 1, 1), (2, 5, 3), (5, 128, 1), (9, 5003, 300), (3, 10_003, 2), (2, 40_003, 2500)]


@pytest.mark.parametrize(
    ("rows", "vocab", "num_classes", "dtype"),
    [
        *((7, V, K, dtype) for dtype in (mx.float32, mx.bfloat16)),
        pytest.param(7, V, K, mx.float16, marks=pytest.mark.slow),
        *(
            pytest.param(*shape, dtype, marks=pytest.mark.slow)
            for shape in SHAPES
            for dtype in DTYPES
        ),
    ],
)
def test_both_halves_of_a_step_are_those_of_float64(
    rows: int, vocab: int, num_classes: int, dtype: mx.Dtype
) -> None:
    """Kernels and reference; entropies to 5e-6, which have values to 8."""
    case = case_of(rows, vocab, num_classes, dtype, seed=vocab)
    right = case.exact()
    got = in_all_orders(case.kernel)
    *others, entropy, drawn = kernels.tolerances(1)
    limits = (*others, replace(entropy, limit=5e-6), drawn)
    assert worst([mx.array(array) for array in got], right, limits).allowed
    assert worst(case.reference(), right, limits).allowed
    assert np.array_equal(got[5], right[5])


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_blocks_are_those_of_the_reference(dtype: mx.Dtype) -> None:
    """Sums to 5e-6 of themselves; those of rounded logits to what tanh's last place is worth."""
    case = case_of(7, V, K, dtype)
    order = case.order
    with simulated():
        ours = stats(case.logits, order)
    theirs = classes.read(case.logits, order)  # type: ignore[arg-type]
    assert_close(ours.peaks, theirs.peaks, 1e-5, "peaks")
    assert np.array_equal(np.array(ours.best), np.array(theirs.best))
    ratio = np.array(ours.sums) / np.where(np.array(theirs.sums) == 0, 1, np.array(theirs.sums))
    ratio = np.where(np.array(theirs.sums) == 0, 1, ratio)
    assert_close(ratio, np.ones_like(ratio), 2e-5, "sums, as parts of the reference's")


def test_a_class_far_below_has_a_mass_all_the_same() -> None:
    """150 nats below the others, where its float32 mass would be 0."""
    own = np.zeros(V, np.int32)
    own[[7, 4000]] = 1
    order = class_order(own, 3)  # class 2 has no ids
    raw = np.zeros((1, V), np.float32)
    raw[0, [7, 4000]] = 30 * np.arctanh(-75.0 * 0.2 / 30), 30 * np.arctanh(-76.0 * 0.2 / 30)
    bias = np.array([[-np.inf, 75.0, 0.0]])
    _, made, picked = seen_of(raw, order, bias, halves(1), 0.2)
    expected = np.array([0.0, -75 + np.log1p(np.exp(-1.0)) - np.log(V - 2), -np.inf])
    assert_close(np.array(made.log_mass)[0, :2], expected[:2], 2e-5, "log mass")
    assert np.array(made.log_mass)[0, 2] == np.array(made.score)[0, 2] == -np.inf
    assert np.array(made.token).tolist() == [[0, 7, -1]]
    share = np.exp(-1.0) / (1 + np.exp(-1.0))
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert (picked.best.item(), picked.drawn.item()) == (7, 7)
    assert_close(picked.entropy, [entropy], 1e-5, "entropy")


# --- argmax and entropy


@pytest.mark.parametrize("ids", [(0, 1), (130, 1200), (5, 4095), (5, 130, 4100)])
def test_ties_go_to_the_lowest_id_within_a_class_and_between_classes(ids: Sequence[int]) -> None:
    raw = np.zeros((1, V), np.float32)
    raw[0, list(ids)] = 2.5
    own = np.zeros(V, np.int32)
    together = class_order(own, 1)
    own[list(ids)] = np.arange(len(ids), 0, -1)
    apart = class_order(own, len(ids) + 1)  # the lowest id in the last class
    for order in (together, apart):
        num_classes = order.ends.size
        _, made, picked = seen_of(raw, order, np.ones((1, num_classes)), halves(1), 1.0)
        assert picked.best.item() == ids[0]
    assert np.array(made.token)[0, 1:].tolist() == list(ids)[::-1]


def test_what_is_forbidden_is_neither_best_nor_drawn_and_adds_no_entropy() -> None:
    order = some_order()
    own = np.array(order.classes)
    raw = np.random.default_rng(0).normal(0, 3, (40, V)).astype(np.float32)
    bias = np.full((40, K), -np.inf, np.float32)
    alone = np.flatnonzero(np.bincount(own, minlength=K))[np.arange(40) % np.unique(own).size]
    bias[np.arange(40), alone] = np.linspace(-200, 200, 40)
    _, _, picked = seen_of(raw, order, bias, np.random.default_rng(1).random((40, 2)), 0.7)
    assert np.array_equal(own[np.array(picked.best)], alone)
    assert np.array_equal(own[np.array(picked.drawn)], alone)
    processed = 30 * np.tanh(raw.astype(np.float64) / 30) / np.float64(np.float32(0.7))
    for row, label in enumerate(alone):
        x = processed[row, own == label]
        shares = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
        assert_close(picked.entropy[row], -(shares * np.log(shares)).sum(), 2e-5, "entropy")


def test_a_certain_row_has_entropy_zero_exactly() -> None:
    order = some_order()
    bias = np.full((1, K), -np.inf)
    bias[0, int(np.array(order.classes)[4321])] = -3.0
    _, _, picked = seen_of(rows_of_mass(np.arange(V)[None] == 4321), order, bias, halves(1))
    assert [array.tolist() for array in picked.arrays] == [[4321], [0.0], [4321]]


def test_a_nan_shows_in_its_rows_masses_and_entropy_and_nowhere_else() -> None:
    """Also in a class that is forbidden; in a block alone, in all of a class, in all of a row."""
    order = some_order()
    own = np.array(order.classes)
    raw = np.random.default_rng(2).normal(0, 3, (5, V)).astype(np.float32)
    raw[1, 4000] = np.nan
    raw[2] = np.nan
    raw[3, own == own[77]] = np.nan
    bias = np.zeros((5, K), np.float32)
    bias[:, own[77]] = -np.inf
    bias[4] = -np.inf  # where nothing is possible
    _, made, picked = seen_of(raw, order, bias, halves(5), 0.7)
    finite = ~np.isnan(np.array(made.log_mass)).all(axis=1)
    assert finite.tolist() == [True, False, False, False, True]
    assert not np.isnan(np.array(made.log_mass)[[0, 4]]).any()
    assert np.isnan(np.array(picked.entropy)).tolist() == [False, True, True, True, True]
    for ids in (picked.best, picked.drawn):
        assert min(ids.tolist()) >= 0
        assert max(ids.tolist()) < V
    logits = Logits(mx.array(raw), 30.0, 0.7)
    read = classes.read(logits, order)
    theirs = classes.class_sums(read, order).log_mass
    assert np.array_equal(np.isnan(np.array(theirs)).all(axis=1), ~finite)
    drawn = classes.sample(logits, read, order, mx.array(bias), mx.full((5, 2), 0.5))
    assert np.isnan(np.array(drawn[1])).tolist() == [False, True, True, True, True]
    assert all(0 <= token < V for ids in (drawn[0], drawn[2]) for token in ids.tolist())


# --- the draw


def plain_draw(present: NDArray[np.bool_], order: ClassOrder, uniforms: Floats) -> list[int]:
    """The rule as it is written down: a block first, then a token inside it."""

    def index(parts: Floats, uniform: np.float32) -> int:
        sums = np.cumsum(parts, dtype=np.float32)
        above = np.flatnonzero(sums > uniform * sums[-1])
        return int(above[0] if above.size else np.flatnonzero(parts)[-1])

    ids = np.array(order.ids)
    tokens = []
    for row, (first, second) in zip(present, uniforms, strict=True):
        inside = np.where(ids >= 0, row[ids], False).astype(np.float32)
        block = index(inside.sum(axis=1), first)
        tokens.append(int(ids[block, index(inside[block], second)]))
    return tokens


def test_draw_follows_the_written_rule_token_for_token() -> None:
    """Also where a uniform of 1 stands for rounding that lets no sum exceed its own total."""
    random, order = np.random.default_rng(3), some_order(3)
    present = random.random((60, V)) < random.random((60, 1)) ** 4
    present[:, random.integers(0, V)] = True  # no row without mass
    allowed = random.random((60, K)) < 0.7
    allowed[:, np.array(order.classes)[np.flatnonzero(present.all(axis=0))]] = True
    uniforms = random.random((60, 2)).astype(np.float32)
    uniforms[:3] = [[2.0**-24] * 2, [LAST_UNIFORM] * 2, [1, 1]]
    bias = np.where(allowed, 0.0, -np.inf)
    _, _, picked = seen_of(rows_of_mass(present), order, bias, uniforms)
    possible = present & allowed[:, np.array(order.classes)]
    assert np.array(picked.drawn).tolist() == plain_draw(possible, order, uniforms)


@pytest.mark.slow
def test_200_000_draws_follow_the_biased_distribution() -> None:
    count, part, order = 200_000, 4000, some_order(5)
    random = np.random.default_rng(5)
    raw = random.normal(0, 1, V).astype(np.float32)
    bias = random.normal(0, 1, K).astype(np.float32)
    bias[::4] = -np.inf
    uniforms, drawn = CounterNoise(99).uniforms(0, 0, count), []
    one = Logits(mx.array(raw[None]), 30.0, 0.8)
    with simulated():
        # The same row many times over: read once, drawn from `part` times a launch.
        wide = Blocks(*(mx.repeat(each, part, axis=0) for each in stats(one, order).arrays))
        rows = Logits(mx.repeat(one.raw, part, axis=0), 30.0, 0.8)
        biases = mx.repeat(mx.array(bias[None]), part, axis=0)
        for at in range(0, count, part):
            picked = pick(rows, wide, order, biases, uniforms[at : at + part])
            drawn.append(np.array(picked.drawn))
    x = 30 * np.tanh(raw.astype(np.float64) / 30) / np.float64(np.float32(0.8))
    shares = np.exp(x + bias[np.array(order.classes)])
    seen = np.bincount(np.concatenate(drawn), minlength=V)
    assert not seen[shares == 0].any()
    assert_chi_square(seen, count * shares / shares.sum())


# --- bytes, and who runs


def test_three_launches_and_nothing_as_wide_as_the_vocabulary() -> None:
    case = case_of(5, V, K, mx.bfloat16)
    with simulated() as run:
        case.kernel()
    blocks = case.order.block_class.size
    assert [launch.name for launch in run.launches] == [
        *("class_stats", "class_masses", "class_pick")
    ]
    assert [launch.output_bytes for launch in run.launches] == [
        *(5 * blocks * 20, 5 * K * 12, 5 * (12 + 16 + 4 * blocks))
    ]
    assert all(launch.copied_bytes == 0 for launch in run.launches)


def chosen(case: ClassCase) -> bool:
    return kernels.samples(case.logits, case.order, classes.both_halves)


@pytest.mark.usefixtures("kernels_on")
def test_kernels_run_where_they_are_on() -> None:
    case = case_of(7, V, K, mx.float32)
    assert isinstance(case.order, ClassOrder)
    with simulated() as run:
        assert chosen(case)
        read = read_by_class(case.logits, case.order, in_kernels=True)
        ours = predict_biased(read, case.bias, case.uniforms, in_kernels=True)
    assert len(run.launches) == 3
    read = read_by_class(case.logits, case.order, in_kernels=False)
    theirs = predict_biased(read, case.bias, case.uniforms, in_kernels=False)
    assert (ours.read, ours.picked) != (None, None) == (theirs.read, theirs.picked)
    for name in ("best", "drawn"):
        assert np.array_equal(np.array(getattr(ours, name)), np.array(getattr(theirs, name)))
    assert_close(ours.entropy, theirs.entropy, 5e-6, "entropy")
    assert np.array_equal(np.array(ours.logits.added()), np.array(theirs.logits.added()))


def test_a_trial_finds_them_right() -> None:
    case = case_of(7, V, K, mx.float32)
    with simulated():
        trial = kernels.trial(case.logits, case.order, classes.both_halves)
        assert trial.disagreement(trial.kernel(), trial.reference()) is None


def test_forms_of_all_sizes_share_a_verdict() -> None:
    assert kernels.named(case_of(7, V, K, mx.float32).logits) == (
        "8 rows of 5003 logits, float32, by class"
    )


@pytest.mark.usefixtures("kernels_on")
@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("MAX_VOCAB", "a vocabulary of 300, more than 2"),
        ("MAX_BLOCKS", "a form's blocks of "),
        ("MAX_CLASSES", "a form's classes of 5, more than 2"),
    ],
)
def test_what_the_kernels_do_not_cover_is_recorded(
    monkeypatch: pytest.MonkeyPatch, limit: str, reason: str
) -> None:
    monkeypatch.setattr(kernels, limit, 2)
    with simulated() as run:
        assert not chosen(case_of(3, 300, 5, mx.float32))
    assert run.launches == []
    (line,) = dispatch.unused()
    assert_says(line, f"classes ... not cover ... {reason}")


# --- bad input


def bad_parts() -> Sequence[tuple[dict[str, Any], str]]:
    """A part of a step at fault, and the facts of the error."""
    order, raw = some_order(), mx.zeros((2, V))
    blocks = order.block_class.size
    seen = Blocks(mx.zeros((2, blocks)), mx.zeros((2, blocks, 3)), mx.zeros((2, blocks), mx.int32))

    def other(**changes: mx.array) -> ClassOrder:
        return replace(order, **changes)

    none = mx.zeros(0, mx.int32)
    return [
        ({"raw": mx.zeros(V)}, f"class_stats ... [{V}]"),
        ({"raw": raw.astype(mx.int32)}, "class_stats ... logits ... int32 ... float32"),
        ({"order": other(ids=order.ids[1:])}, f"ids ... [{blocks - 1}, 128] ... [{blocks}, 128]"),
        ({"order": other(block_class=none)}, "0 blocks ... 41 classes ... 4096"),
        ({"order": other(ends=mx.zeros(4097, mx.int32))}, "4097 classes ... 4096"),
        ({"order": other(ends=mx.zeros(K))}, "ends ... float32 ... int32"),
        ({"seen": replace(seen, peaks=seen.peaks[:, 1:])}, f"peaks ... [2, {blocks - 1}]"),
        ({"seen": replace(seen, sums=seen.sums[..., :2])}, f"sums ... [2, {blocks}, 2]"),
        ({"seen": replace(seen, best=seen.peaks)}, "block_best ... float32 ... int32"),
        ({"bias": mx.zeros((2, K - 1))}, f"class_pick ... bias ... [2, {K - 1}] ... [2, {K}]"),
        ({"uniforms": mx.zeros((2, 1))}, "class_pick ... uniforms ... [2, 1] ... [2, 2]"),
    ]


def test_what_does_not_fit_is_refused_before_a_launch() -> None:
    order = some_order()
    blocks = order.block_class.size
    seen = Blocks(mx.zeros((2, blocks)), mx.zeros((2, blocks, 3)), mx.zeros((2, blocks), mx.int32))
    for part, facts in bad_parts():
        given: dict[str, Any] = {
            "raw": mx.zeros((2, V)),
            "order": order,
            "seen": seen,
            "bias": mx.zeros((2, K)),
            "uniforms": mx.zeros((2, 2)),
            **part,
        }
        logits = Logits(given["raw"], 30.0, 1.0)
        with simulated() as run, raises(KernelError, facts):
            if not {"seen", "bias", "uniforms"} & set(part):
                stats(logits, given["order"])
            pick(logits, given["seen"], given["order"], given["bias"], given["uniforms"])
        assert run.launches == []
