"""Token ids and arrays where they enter the network: one form inside, or one line."""

import gc
from array import array
from collections import deque
from pathlib import Path
from typing import Any, cast
from weakref import ref

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Sizes, write_checkpoint
from facts import assert_says, raises

import mlx_diffgemma as dg
from mlx_diffgemma.errors import PromptError, SettingsError
from mlx_diffgemma.model.given import Unread, canvas_ids, floats, token_ids

IDS = [3, 0, 39]
NUMPY = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
MLX = [mx.int8, mx.uint8, mx.int16, mx.uint16, mx.int32, mx.uint32, mx.int64, mx.uint64]


@pytest.mark.parametrize(
    "given",
    [
        IDS,
        tuple(IDS),
        deque(IDS),
        array("i", IDS),
        [IDS],
        [tuple(IDS)],
        [np.array(IDS)],
        [mx.array(IDS)],
        [np.int64(3), mx.array(0), np.uint8(39)],
        np.array([IDS]),
        mx.array([IDS]),
        *(np.array(IDS, dtype) for dtype in NUMPY),
        *(mx.array(IDS, dtype) for dtype in MLX),
    ],
    ids=repr,
)
def test_every_form_of_ids_becomes_a_list_of_whole_numbers(given: Any) -> None:
    ids = token_ids(given, 40)
    assert ids == IDS
    assert {type(token) for token in ids} == {int}
    assert canvas_ids(given, 40).tolist() == [IDS]


@pytest.mark.parametrize("given", [[], (), np.array([]), mx.array([]), mx.zeros((1, 0), mx.int32)])
def test_nothing_is_no_ids(given: Any) -> None:
    assert token_ids(given, 40) == []
    with raises(SettingsError, "canvas is empty ... at least one"):
        canvas_ids(given, 40)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (mx.array([1.0, 2.0]), "float32 [2]"),
        (mx.array([1, 2]).astype(mx.bfloat16), "bfloat16 [2]"),
        (np.array([1.0, 2.0]), "float64 [2]"),
        ([1, 2.0], "a float '2.0' at position 1"),
        ([np.float32(1)], "a float32 '1.0' at position 0"),
        ([mx.array(1.0)], "float32 [] ... position 0"),
        ([float("nan")], "a float 'nan' at position 0"),
        ([True, False], "a bool 'True' at position 0"),
        (np.array([True]), "bool [1]"),
        (mx.array([True]), "bool [1]"),
        ([np.True_], "position 0"),
        ("123", "a str"),
        (b"123", "a bytes"),
        (["1"], "a str '1' at position 0"),
        ([None], "a NoneType ... position 0"),
        (7, "a int"),
        ({1, 2}, "a set"),
        (None, "a NoneType"),
        (np.array(["1"]), "<U1 [1]"),
        (np.array([1], object), "object [1]"),
        (mx.array(5), "int32 []"),
        (np.ones((2, 2), int), "int64 [2, 2]"),
        (mx.ones((2, 2), mx.int32), "int32 [2, 2]"),
        (mx.ones((3, 1), mx.int32), "int32 [3, 1]"),
        (mx.ones((1, 1, 3), mx.int32), "int32 [1, 1, 3]"),
        ([[1, 2], [3, 4]], "2 rows"),
        ([[[1, 2]]], "a list at position 0"),
        ([np.ones((1, 3), int)], "int64 [1, 3]"),
        ([1, [2]], "a list at position 1"),
    ],
    ids=repr,
)
def test_what_are_no_ids_is_refused_with_what_they_are(given: Any, got: str) -> None:
    """Floats were cut to whole numbers, and numbers of other widths failed inside MLX."""
    with raises(PromptError, "the prompt has", got, "expected token ids ... [L] or [1, L]"):
        token_ids(given, 40)
    with raises(SettingsError, "the canvas has", got):
        canvas_ids(given, 40)


@pytest.mark.parametrize("wrong", [-1, 40, 2**31, 2**40, -(2**70)])
def test_ids_beyond_the_vocabulary_are_refused(wrong: int) -> None:
    facts = f"token id {wrong} ... 0 to 39 ... vocabulary of 40"
    with raises(PromptError, "the prompt", facts):
        token_ids([0, wrong], 40)
    if abs(wrong) < 2**63:
        for wide in (np.array([0, wrong]), mx.array([0, wrong], mx.int64)):
            with raises(SettingsError, "the canvas", facts):
                canvas_ids(cast(Any, wide), 40)
    with raises(SettingsError, "the canvas ... 18446744073709551615"):
        canvas_ids(np.array([2**64 - 1], np.uint64), 40)


# --- numbers of the soft paths


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_floats_keep_their_dtype_and_get_a_row_in_front(dtype: mx.Dtype) -> None:
    for shape in ((2, 3), (1, 2, 3)):
        got = floats(mx.ones(shape, dtype), (2, 3), "soft logits")
        assert (got.shape, got.dtype) == ((1, 2, 3), dtype)
    assert floats(np.ones((2, 3)), (2, 3), "soft logits").dtype == mx.float32


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (mx.ones((3, 2)), "float32 [3, 2]"),  # as many numbers, which was all that was looked at
        (mx.ones(6), "float32 [6]"),
        (mx.ones((2, 1, 3)), "float32 [2, 1, 3]"),
        (mx.ones((2, 3), mx.int32), "int32 [2, 3]"),
        (np.ones((2, 3), bool), "bool [2, 3]"),
        ([[1.0] * 3] * 2, "a list"),
    ],
    ids=repr,
)
def test_floats_are_known_by_dtype_and_shape(given: Any, got: str) -> None:
    with raises(SettingsError, "soft logits are", got, "expected ... [2, 3]"):
        floats(given, (2, 3), "soft logits")


# --- the network's own entries


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("given"), Sizes(layers="sf", sliding_window=6))


@pytest.fixture(scope="module")
def model(folder: Path) -> dg.Model:
    return dg.load_model(folder)


def test_unread_ids_are_not_looked_at() -> None:
    """They may not be computed yet; here they would be refused."""
    assert canvas_ids(Unread(mx.array(IDS) + 40), 40).tolist() == [[i + 40 for i in IDS]]


def test_the_network_takes_every_form_and_gives_the_same(model: dg.Model) -> None:
    prefix = model.encode(IDS)
    expected = model.decode(mx.array(IDS), prefix)
    for given in (IDS, np.array([IDS], np.uint16), mx.array(IDS, mx.int64)):
        assert mx.array_equal(model.decode(cast(Any, given), model.encode(given)), expected)
        hidden = model.encode_hidden(given, model.new_prefix())
        assert mx.array_equal(hidden, model.encode_hidden(IDS, model.new_prefix()))


def test_the_network_refuses_what_are_no_ids(model: dg.Model) -> None:
    prefix = model.encode(IDS)
    floating: Any = np.array([1.5, 2.0])
    for call in (model.encode, lambda ids: model.encode_hidden(ids, prefix)):
        with raises(PromptError, "the prompt has float64 [2]"):
            call(floating)
    for canvas, facts in ((floating, "float64 [2]"), (mx.array([131]), "token id 131")):
        with raises(SettingsError, "the canvas has", facts):
            model.decode(canvas, prefix)
    with raises(SettingsError, "soft embeddings are float32 [2, 8] ... [3,"):
        model.decode(IDS, prefix, soft=mx.ones((2, 8)))
    assert prefix.tokens == IDS


def test_a_pass_can_be_traced(model: dg.Model) -> None:
    """Its canvas has no numbers then, and still a form."""
    prefix, calls = model.encode(IDS), list[Any]()

    def decode(canvas: mx.array) -> mx.array:
        return model.decode(canvas, prefix)

    mx.export_function(calls.append, decode, mx.array([5, 6, 7]))
    assert calls
    with raises(SettingsError, "the canvas has float32 [3]"):
        mx.export_function(calls.append, decode, mx.ones(3))


def test_a_prefix_is_its_models_own(model: dg.Model, folder: Path) -> None:
    """Keys of other weights of the same shapes gave text without an error."""
    other = dg.load_model(folder).encode(IDS)
    facts = "the prefix is another model's ... encode the tokens with this model"
    for call in (
        lambda: model.encode([5], other),
        lambda: model.encode_hidden([5], other),
        lambda: model.decode(IDS, other),
        lambda: dg.denoise(model, [*IDS, 5], prefix=other),
    ):
        with raises(PromptError, facts):
            call()
    assert other.tokens == IDS
    with raises(PromptError, "the prefix is a list ... encode"):
        model.decode(IDS, cast(Any, IDS))


def test_a_prefix_keeps_no_model_alive(folder: Path) -> None:
    model = dg.load_model(folder)
    prefix, gone = model.encode(IDS), ref(model)
    gc.collect()
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()
    with raises(PromptError, "another model's"):
        dg.load_model(folder).encode([5], prefix)
    assert_says(repr(prefix.tokens), "[3, 0, 39]")
