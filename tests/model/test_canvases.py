"""Canvases in one pass behind one prefix: each as if it had been decoded alone."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from adapting import write_adapter
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from compare import assert_close
from facts import raises

import mlx_diffgemma as dg
from mlx_diffgemma.model import scores
from mlx_diffgemma.model.attention import Apart

SIZES = Sizes("ssfsf", sliding_window=6, hidden_size=32)
SAME = 1e-5  # float32, the same sums in another order
IN_16_BITS = 2.0**-6  # two roundings of a hidden number below 4, in bfloat16
PROMPT = np.random.default_rng(1).integers(0, 131, 23).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"), SIZES)


@pytest.fixture(scope="module")
def model(folder: Path) -> dg.Model:
    return dg.load_model(folder)


def canvases(count: int, width: int) -> list[list[int]]:
    return np.random.default_rng(count).integers(0, 131, (count, width)).tolist()  # type: ignore[no-any-return]


def soft_of(model: dg.Model, count: int, width: int) -> mx.array:
    numbers = np.random.default_rng(7).normal(size=(count, width, SIZES.hidden_size))
    return mx.array(numbers.astype(np.float32)).astype(model.dtype)


def assert_as_alone(
    model: dg.Model, prompt: list[int], count: int, width: int, within: float
) -> None:
    given, soft = canvases(count, width), soft_of(model, count, width)
    prefix = model.encode(prompt)
    for softs in (None, soft):
        together = model.decode_many(given, prefix, softs)
        alone = [
            model.decode(canvas, prefix, None if softs is None else softs[number])
            for number, canvas in enumerate(given)
        ]
        assert together.shape == (count, width, SIZES.hidden_size)
        both = (np.array(x.astype(mx.float32)) for x in (together, mx.concatenate(alone)))
        assert_close(*both, within, f"{count} canvases of {width}")


@pytest.mark.parametrize("length", [1, 5, 23])
@pytest.mark.parametrize(("count", "width"), [(2, 16), (5, 16), (3, 7)])
def test_each_is_as_if_alone(model: dg.Model, length: int, count: int, width: int) -> None:
    """Behind prefixes that are shorter than the window, and longer."""
    assert_as_alone(model, PROMPT[:length], count, width, SAME)


def test_in_16_bits(folder: Path) -> None:
    assert_as_alone(dg.load_model(folder, mx.bfloat16), PROMPT, 4, 16, IN_16_BITS)


def test_packed_with_an_adapter(tmp_path: Path, folder: Path) -> None:
    packed = quantise_folder(
        folder, tmp_path / "packed", Packing("affine", 4, 32), published(Packing("affine", 4, 32))
    )
    write_adapter(tmp_path / "adapter", packed)
    model = dg.load_model(packed, mx.float32, adapter=tmp_path / "adapter")
    assert_as_alone(model, PROMPT, 4, 16, SAME)


def test_scores_in_blocks(model: dg.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of rows cut canvases in two, and take one head at a time."""
    monkeypatch.setattr(scores, "MOST_SCORES", 10 * 87)
    assert_as_alone(model, PROMPT, 4, 16, SAME)


def test_one_alone_is_bit_for_bit_what_decode_makes(model: dg.Model) -> None:
    prefix, (canvas,), soft = model.encode(PROMPT), canvases(1, 16), soft_of(model, 1, 16)
    for softs in (None, soft):
        assert mx.array_equal(
            model.decode_many([canvas], prefix, softs), model.decode(canvas, prefix, softs)
        )


def test_neighbours_are_not_seen(model: dg.Model) -> None:
    prefix, given = model.encode(PROMPT), canvases(3, 16)
    before = np.array(model.decode_many(given, prefix))
    after = np.array(model.decode_many([given[0], given[2][::-1], given[1]], prefix))
    assert_close(after[0], before[0], SAME, "the first canvas")
    assert np.abs(after[1:] - before[1:]).max() > 100 * SAME


def test_the_prefix_stays_as_it_was(model: dg.Model) -> None:
    prefix = model.encode(PROMPT)
    before = [np.array(a) for a in (*prefix.keys, *prefix.values)]
    mx.eval(model.decode_many(canvases(5, 16), prefix))
    after = [np.array(a) for a in (*prefix.keys, *prefix.values)]
    assert prefix.length == len(PROMPT)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_mask_of_canvases_apart() -> None:
    """Three keys of a prefix, and two canvases of two; also of a block of the rows."""
    whole = [[1, 1, 1, 1, 1, 0, 0]] * 2 + [[1, 1, 1, 0, 0, 1, 1]] * 2
    apart = Apart(2)
    assert apart.mask(range(4), range(7), 3).astype(mx.int32).tolist() == whole
    assert apart.mask(range(1, 3), range(7), 3).astype(mx.int32).tolist() == whole[1:3]


def test_what_are_no_canvases(model: dg.Model) -> None:
    prefix = model.encode(PROMPT)
    with raises(dg.SettingsError, "3, 2 ... one width"):
        model.decode_many([[1, 2, 3], [4, 5]], prefix)
    with raises(dg.SettingsError, "there are none ... one width"):
        model.decode_many([], prefix)
    with raises(dg.SettingsError, "131 ... 0 to 130"):
        model.decode_many([[1, 2], [3, 131]], prefix)
    with raises(dg.SettingsError, "soft embeddings ... [2, 2, 32]"):
        model.decode_many([[1, 2], [3, 4]], prefix, mx.zeros((2, 3, 32)))
