"""A token at a time: the logits of one pass, whatever lies before a step, and what a step costs."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, uniform, write_checkpoint
from compare import assert_close
from facts import raises

import mlx_diffgemma as dg
from mlx_diffgemma.errors import PromptError
from mlx_diffgemma.model import cache
from mlx_diffgemma.model import prefix as prefixes

SCRIPTS = str(Path(__file__).parents[2] / "scripts" / "bench")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)

import graphs  # noqa: E402

WINDOW = 6
SIZES = Sizes(
    "ssf", sliding_window=WINDOW, num_experts=8, top_k_experts=3, max_position_embeddings=24
)
SAME = 1e-5  # float32, the same sums in another order
TOKENS: list[int] = np.floor((uniform((24,), 1) + 1) / 2 * 131).astype(int).tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dg.Model:
    return dg.load_model(write_checkpoint(tmp_path_factory.mktemp("step"), SIZES))


@pytest.fixture(scope="module")
def whole(model: dg.Model) -> mx.array:
    """Logits [24, V] of one pass, the context filled to its last position."""
    return model.logits(model.encode_hidden(TOKENS, model.new_prefix()))[0]


def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers so small that a few tokens trim, move and grow them."""
    for name, value in (("ROLLBACK", 6), ("MARGIN", 3), ("STEP", 4)):
        monkeypatch.setattr(cache, name, value)


def steps(model: dg.Model, tokens: Sequence[int], prefix: dg.Prefix) -> mx.array:
    """Logits [L, V] of tokens given one by one."""
    return mx.concatenate([model.step(token, prefix) for token in tokens])


# --- the same logits


def test_one_by_one_from_nothing(model: dg.Model, whole: mx.array) -> None:
    """A prompt of one token, then every length within the window and past it, to the last."""
    prefix = model.new_prefix()
    assert_close(steps(model, TOKENS, prefix), whole, SAME, "logits")
    assert prefix.tokens == TOKENS


@pytest.mark.parametrize("length", [WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW, 23])
def test_behind_a_prompt(model: dg.Model, whole: mx.array, length: int) -> None:
    prefix = model.encode(TOKENS[:length])
    assert_close(steps(model, TOKENS[length:], prefix), whole[length:], SAME, "logits")


@pytest.mark.parametrize("rows", [2, 5, 16])
def test_several_rows_at_once(model: dg.Model, whole: mx.array, rows: int) -> None:
    prefix = model.encode(TOKENS[: 24 - rows])
    hidden = model.encode_hidden(TOKENS[24 - rows :], prefix)
    assert_close(model.logits(hidden)[0], whole[24 - rows :], SAME, "logits")


def test_growing_buffers_change_no_bit(model: dg.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = steps(model, TOKENS, model.encode(TOKENS[:3]))
    tight(monkeypatch)
    prefix = model.encode(TOKENS[:3])
    slots = [array.shape[2] for array in prefix.arrays()]
    assert mx.array_equal(steps(model, TOKENS, prefix), plain)
    assert [array.shape[2] for array in prefix.arrays()] != slots


@pytest.mark.parametrize("small", [False, True])
def test_wrong_tokens_are_taken_back(
    model: dg.Model, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    """Past the window, read or not: the right ones are written over them, bit for bit."""
    if small:
        tight(monkeypatch)
    clean = steps(model, TOKENS[9:], model.encode(TOKENS[:9]))
    prefix = model.encode(TOKENS[:9])
    steps(model, TOKENS[9:11], prefix)
    steps(model, [5, 6, 7, 8], prefix)
    assert prefix.roll_back(11) == 11
    assert mx.array_equal(steps(model, TOKENS[11:], prefix), clean[2:])
    assert prefix.tokens == TOKENS


# --- tokens that nobody has read


def test_a_token_may_be_an_id_or_an_array(model: dg.Model, whole: mx.array) -> None:
    given: list[Any] = [TOKENS[1], np.int64(TOKENS[1])]
    given += [mx.array([TOKENS[1]], kind) for kind in (mx.int32, mx.uint32, mx.int64)]
    given.append(mx.array(TOKENS[1]))
    for token in given:
        assert_close(model.step(token, model.encode(TOKENS[:1]))[0], whole[1], SAME, "logits")


@pytest.mark.parametrize(
    ("token", "facts"),
    [(131, "131"), (-1, "-1"), (1.0, "float"), (True, "bool"), (mx.array([1, 2]), "2 tokens")],
)
def test_what_is_no_token(model: dg.Model, token: Any, facts: str) -> None:
    prefix = model.encode(TOKENS[:3])
    with raises(PromptError, facts):
        model.step(token, prefix)
    assert prefix.tokens == TOKENS[:3]


def test_only_a_prefix_of_its_own(model: dg.Model, tmp_path: Path) -> None:
    other = dg.load_model(write_checkpoint(tmp_path, SIZES))
    with raises(PromptError, "another model's"):
        other.step(1, model.encode(TOKENS[:3]))


def test_going_back_waits_for_nothing(model: dg.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = model.encode(TOKENS[:3])
    token = mx.array([TOKENS[3]], mx.int32)
    for _ in range(4):
        token = model.step(token, prefix).argmax(axis=-1)
    with monkeypatch.context() as patch:
        patch.setattr(prefixes, "_read", lambda token: pytest.fail("a token was waited for"))
        assert prefix.roll_back(5) == prefix.length == 5
        assert prefix.roll_back(2) == prefix.length == 2
    assert prefix.tokens == TOKENS[:2]


@pytest.mark.parametrize("place", ["layer", "room"])
def test_an_interrupted_step_leaves_what_was_there(
    model: dg.Model, whole: mx.array, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Ctrl-C between two layers, or while the second of them gets a larger buffer."""
    tight(monkeypatch)
    prefix = model.encode(TOKENS[:8])
    steps(model, TOKENS[8:10], prefix)
    owner, name = {
        "layer": (model.layers[1], "encode"),
        "room": (prefix.layers[1], "make_room"),
    }[place]

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            steps(model, TOKENS[10:], prefix)
    at = prefix.length
    assert 10 <= at < 24
    assert prefix.tokens == TOKENS[:at]
    assert_close(steps(model, TOKENS[at:], prefix), whole[at:], SAME, "logits")


# --- nodes of the graph, as on a GPU

LAYER_NODES = {False: 34, True: 29}  # by MLX's operations, and with the router's kernel
ROWS_NODES = 36  # of 5 rows at once, by MLX's operations


@pytest.fixture(scope="module")
def shallow_and_deep(tmp_path_factory: pytest.TempPathFactory) -> list[dg.Model]:
    """Two models, packed as the published mix, that differ in three sliding layers."""
    root = tmp_path_factory.mktemp("nodes")
    recipe = published(four := Packing("affine", 4, 32), Packing("affine", 8, 32))
    sizes = Sizes(num_experts=8, intermediate_size=32, moe_intermediate_size=32)
    models = []
    for layers in ("sf", "ssssf"):
        folder = write_checkpoint(root / layers, replace(sizes, layers=layers), dtype="bfloat16")
        models.append(dg.load_model(quantise_folder(folder, root / f"{layers}4", four, recipe)))
    return models


def nodes(model: dg.Model, tokens: Sequence[int], kernels: bool) -> Counter[str]:
    """Primitives of a pass over tokens behind three others, compiled pieces traced before."""
    prefixes = [model.encode([1, 2, 3]) for _ in range(2)]
    with graphs.as_on_a_gpu(kernels):
        for layer in model.layers:
            layer.__post_init__()
        for prefix in prefixes:
            if len(tokens) == 1:
                output = model.step(tokens[0], prefix)
            else:
                output = model.logits(model.encode_hidden(tokens, prefix))
    return graphs.count_nodes(output)


@pytest.mark.parametrize("kernels", [False, True])
def test_nodes_of_a_token(shallow_and_deep: list[dg.Model], kernels: bool) -> None:
    """Each is a launch: of a layer not one more than there are."""
    shallow, deep = (nodes(model, [4], kernels) for model in shallow_and_deep)
    added = deep - shallow
    assert graphs.working_nodes(added) <= 3 * LAYER_NODES[kernels], added
    assert added["Arange"] == 0  # the products are told their rows
    assert added["ArgSort"] == (0 if kernels else 3)


def test_nodes_of_a_few_rows(shallow_and_deep: list[dg.Model]) -> None:
    shallow, deep = (nodes(model, [4, 5, 6, 7, 8], False) for model in shallow_and_deep)
    assert graphs.working_nodes(deep - shallow) <= 3 * ROWS_NODES, deep - shallow
