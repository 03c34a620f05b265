"""Batches and their noise."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import raises
from numpy.typing import NDArray

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.vision import ImageIds
from mlx_diffgemma.errors import DataError, SettingsError
from mlx_diffgemma.finetune.data.batches import LEAST_LEVEL, Batches, parse_mix
from mlx_diffgemma.finetune.data.examples import Example
from mlx_diffgemma.finetune.objective import Batch
from mlx_diffgemma.images.pixels import Pixels, Source
from mlx_diffgemma.model.images import Placed

FOLDER = embedded_folder("tiny-chat")
assert FOLDER
CANVAS, IMAGE = 8, 9
CONFIG = replace(read_config(FOLDER), canvas_length=CANVAS, image_ids=ImageIds(7, IMAGE, 8))
VOCAB = CONFIG.text.vocab_size


def example(prompt: int, canvases: int, first: int = 10, **more: Any) -> Example:
    """Ids first, first + 1, ..., none of them an image's."""
    return Example(np.arange(first, first + prompt + CANVAS * canvases), prompt, **more)


MANY = [example(3 + n % 5, 1 + n % 3, 10 + 7 * n) for n in range(12)]


def batches(examples: Sequence[Example] = MANY, size: int = 4, **more: Any) -> Batches:
    return Batches(examples, size, **{"config": CONFIG, "seed": 1, **more})


def same(one: Batch, other: Batch) -> bool:
    names = [name for name in vars(one) if name != "images"]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


# --- a function of the seed and the step


def test_a_batch_is_a_function_of_its_number() -> None:
    drawn = batches(canvases=2, grouped=True, mix=((MANY[:3], 0.25),))
    first = [drawn.batch(step) for step in range(9)]
    for step in reversed(range(9)):
        fresh = batches(canvases=2, grouped=True, mix=((MANY[:3], 0.25),))
        assert same(drawn.batch(step), first[step])
        assert same(fresh.batch(step), first[step])
    assert not same(first[0], first[3])
    assert not same(first[0], batches(seed=2, canvases=2).batch(0))


@pytest.mark.parametrize("grouped", [False, True])
def test_parts_and_processes_make_up_the_larger_batch(grouped: bool) -> None:
    """Two processes with two batches a step, and one with one of four times the size."""
    options: dict[str, Any] = {"canvases": 2, "grouped": grouped, "mix": ((MANY[:5], 0.4),)}
    whole = batches(size=12, **options)
    parts = [batches(size=3, parts=2, rank=rank, ranks=2, **options) for rank in range(2)]
    for step in (0, 1, 7):
        wanted = whole.batch(step)
        got = [parts[rank].batch(step, part) for part in range(2) for rank in range(2)]
        for name in ("clean", "noisy", "starts", "conditioned", "levels", "lengths"):
            joined = np.concatenate([getattr(each, name) for each in got])
            assert np.array_equal(joined, getattr(wanted, name))
        for name, scale in (("ids", 1), ("next_weights", 0.25)):
            length = wanted.ids.shape[1]
            rows = np.concatenate([padded(getattr(each, name), length) for each in got])
            assert np.allclose(rows * scale, getattr(wanted, name), rtol=1e-6)


def padded(rows: NDArray[Any], length: int) -> NDArray[Any]:
    return np.pad(rows, ((0, 0), (0, length - rows.shape[1])))


def test_an_epoch_has_every_example_once_over_all_processes() -> None:
    ranks = [batches(size=3, rank=rank, ranks=2) for rank in range(2)]
    assert ranks[0].epoch == 2
    rows = [tuple(row) for step in range(2) for each in ranks for row in each.batch(step).ids]
    assert len(set(rows)) == len(MANY)


def test_an_epoch_beside_a_mix_and_one_that_leaves_a_rest() -> None:
    assert batches(size=5).epoch == 3
    assert batches(size=4, mix=((MANY, 0.5),)).epoch == 6


# --- the rows of the encoder


def test_rows_are_padded_to_a_multiple() -> None:
    short, long = example(3, 1), example(10, 3)
    batch = batches([short, long], 2, multiple=16).batch(0)
    assert batch.ids.shape == batch.next_weights.shape == (2, 48)
    assert batch.lengths is not None
    assert sorted(batch.lengths) == [11, 34]
    for row, weights in zip(batch.ids, batch.next_weights, strict=True):
        one = short if row[11] == 0 else long
        assert np.array_equal(row[: len(one.ids)], one.ids)
        assert not row[len(one.ids) :].any()
        assert not weights[len(one.ids) - 1 :].any()


@pytest.mark.parametrize("mask", [False, True])
def test_the_encoder_learns_the_next_token(mask: bool) -> None:
    """Each example counts the same; the fill is learned, and so is the first of the response."""
    batch = batches(mask_prompt=mask).batch(0)
    assert batch.next_weights.dtype == np.float32
    for row, weights in zip(batch.ids, batch.next_weights, strict=True):
        one = next(each for each in MANY if np.array_equal(row[: len(each.ids)], each.ids))
        first = one.prompt - 1 if mask else 0
        learned = range(first, len(one.ids) - 1)
        assert [*np.flatnonzero(weights)] == [*learned]
        assert np.allclose(weights[learned], 1 / (4 * len(learned)))


@pytest.mark.parametrize("mask", [False, True])
def test_holes_alone_are_noised_and_the_response_is_not_learned(mask: bool) -> None:
    holes = np.zeros(2 * CANVAS, bool)
    holes[10:13] = True
    one = example(5, 2, holes=holes)
    drawn = batches([one], 1, canvases=4, mask_prompt=mask)
    changed = np.zeros(CANVAS, bool)
    for step in range(10):
        batch = drawn.batch(step)
        assert (batch.starts == 5 + CANVAS).all()  # the only canvas with a hole
        changed |= (batch.noisy != batch.clean).any(axis=0)
        assert [*np.flatnonzero(batch.next_weights)] == ([] if mask else [0, 1, 2, 3])
    assert [*np.flatnonzero(changed)] == [2, 3, 4]


def test_placeholders_of_images_are_not_learned() -> None:
    image = Pixels(np.zeros((48, 96, 3), np.uint8), 96, 48, Source(None, ""))
    ids = np.array([2, 7, IMAGE, IMAGE, 8, 30, *range(40, 48)])
    seeing = Example(ids, 6, (Placed(range(2, 4), image),))
    batch = batches([seeing], 2, config=CONFIG).batch(0)
    spans = [(row, placed.span) for row, placed in batch.images]
    assert spans == [(0, range(2, 4)), (1, range(2, 4))]
    assert [*np.flatnonzero(batch.next_weights[0])] == [0, 3, 4, 5, *range(6, 13)]


# --- the canvases and their noise


@pytest.fixture(scope="module")
def sample() -> list[Batch]:
    """5,120 canvases of 8 positions."""
    drawn = batches([example(4, 3)], 32, canvases=8)
    return [drawn.batch(step) for step in range(20)]


def of(sample: list[Batch], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(each, name) for each in sample])


def chi_square(counts: NDArray[Any], shares: NDArray[Any] | float) -> float:
    """Normed by degrees of freedom: mean 0, deviation 1, roughly."""
    expected = counts.sum() * shares * np.ones(len(counts))
    freedom = len(counts) - 1
    value = ((counts - expected) ** 2 / expected).sum()
    return float((value - freedom) / (2 * freedom) ** 0.5)


def test_a_canvas_is_one_of_the_responses(sample: list[Batch]) -> None:
    starts, clean = of(sample, "starts"), of(sample, "clean")
    counts = np.bincount((starts - 4) // CANVAS)
    assert set(starts) == {4, 12, 20}
    assert chi_square(counts, 1 / 3) < 4
    assert (clean == starts[:, None] + 10 + np.arange(CANVAS)).all()


def test_levels_are_uniform(sample: list[Batch]) -> None:
    levels = of(sample, "levels")
    assert LEAST_LEVEL <= levels.min() < 0.01
    assert 0.99 < levels.max() < 1
    counts, _ = np.histogram(levels, 40, (LEAST_LEVEL, 1))
    assert chi_square(counts, 1 / 40) < 4
    beside = np.corrcoef(levels[::2], levels[1::2])[0, 1]  # of one example
    assert abs(beside) < 4 / len(levels[::2]) ** 0.5


def test_half_of_the_canvases_are_conditioned(sample: list[Batch]) -> None:
    conditioned = of(sample, "conditioned")
    assert abs(conditioned.mean() - 0.5) < 4 * 0.5 / len(conditioned) ** 0.5
    assert abs(np.corrcoef(conditioned, of(sample, "levels"))[0, 1]) < 4 / len(conditioned) ** 0.5


def test_a_position_is_replaced_with_the_probability_of_its_level(sample: list[Batch]) -> None:
    """By an id of the whole vocabulary, its own included: 1 of 128 stays as it was."""
    levels, changed = of(sample, "levels"), of(sample, "noisy") != of(sample, "clean")
    rate = 1 - 1 / VOCAB
    for low in np.arange(0, 1, 0.125):
        here = (levels >= low) & (levels < low + 0.125)
        wanted = levels[here].mean() * rate
        deviation = (wanted * (1 - wanted) / (here.sum() * CANVAS)) ** 0.5
        assert abs(changed[here].mean() - wanted) < 4 * deviation
    assert abs(changed.mean(axis=0) - 0.5 * rate).max() < 4 * 0.6 / len(levels) ** 0.5


def test_noise_is_uniform_over_the_vocabulary(sample: list[Batch]) -> None:
    noisy, clean = of(sample, "noisy"), of(sample, "clean")
    drawn = noisy[noisy != clean]
    counts = np.bincount(drawn, minlength=VOCAB).astype(float)
    own = np.bincount(clean[noisy != clean], minlength=VOCAB)  # what could not be seen to be drawn
    expected = (len(drawn) - own) / (VOCAB - 1)
    value = ((counts - expected) ** 2 / expected).sum()
    assert abs(value - (VOCAB - 1)) < 4 * (2 * (VOCAB - 1)) ** 0.5


def test_weights_of_the_canvases_are_even(sample: list[Batch]) -> None:
    weights = sample[0].canvas_weights
    assert weights.shape == (256, CANVAS)
    assert weights.dtype == np.float32
    assert weights.sum() == pytest.approx(1)
    assert len(np.unique(weights)) == 1


def test_stratified_levels_are_evenly_apart_and_uniform() -> None:
    drawn = batches(size=8, canvases=4, stratified=True)
    levels = np.concatenate([drawn.batch(step).levels for step in range(40)]).reshape(-1, 4)
    apart = np.diff(np.sort(levels, axis=1), axis=1)
    assert np.allclose(apart, (1 - LEAST_LEVEL) / 4, atol=1e-6)
    counts, _ = np.histogram(levels, 10, (LEAST_LEVEL, 1))
    assert abs(counts - 128).max() < 40
    first, _ = np.histogram(levels[:, 0], 10, (LEAST_LEVEL, 1))
    assert chi_square(first, 0.1) < 4


# --- bad settings


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"size": 0}, "size is 0 ... at least 1"),
        ({"canvases": 0}, "canvases is 0 ... at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"mix": ((MANY, 0.0),)}, "mix ... [0.0] ... above 0"),
        ({"mix": ((MANY, 0.5), (MANY, 0.5))}, "mix ... [0.5, 0.5] ... below 1"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], facts: str) -> None:
    with raises(SettingsError, facts):
        batches(**options)


@pytest.mark.parametrize(
    ("examples", "facts"),
    [
        ([], "no example"),
        ([MANY[0], Example(np.arange(9), 3)], "example 2 has 6 tokens ... canvases of 8"),
        ([Example(np.arange(8), 8)], "example 1 has 0 tokens ... canvases of 8"),
        ([example(3, 1, holes=np.zeros(8, bool))], "example 1 ... with a hole"),
        ([example(3, 1, holes=np.ones(7, bool))], "example 1 ... 8 tokens ... 7 marks"),
    ],
)
def test_examples_that_are_not_in_whole_canvases(examples: list[Example], facts: str) -> None:
    for given in ({"examples": examples}, {"mix": ((examples, 0.5),)}):
        with raises(DataError, facts):
            batches(**given)


def test_a_mix_is_a_file_and_a_share() -> None:
    assert parse_mix("a:b/c.jsonl:0.25") == (Path("a:b/c.jsonl"), 0.25)


@pytest.mark.parametrize("text", ["a.jsonl", "a.jsonl:", ":0.5", "a:1", "a:0", "a:nan", "a:half"])
def test_a_mix_in_another_form(text: str) -> None:
    with raises(SettingsError, f"mix is {text!r}, expected FILE:SHARE"):
        parse_mix(text)
