"""A network whose tensors are divided between ranks gives every rank what one process computes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from compare import assert_close
from replayed import together

from mlx_diffgemma.machine.choices import Choices
from mlx_diffgemma.model import slices, weights
from mlx_diffgemma.model.blocks import AfterAttention
from mlx_diffgemma.model.host import host_model
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.model.weights import load_network
from mlx_diffgemma.share.part import WHOLE, Part
from mlx_diffgemma.share.share import Share

# Three ranks have 6, 6 and 4 heads of the sliding layer; of the full one the second rank reads one
# head of keys with 2 queries, and one with 3. Experts, widths and slots divide as little.
SIZES = Sizes(
    "sf",
    num_attention_heads=16,
    num_key_value_heads=8,
    num_global_key_value_heads=2,
    num_experts=5,
    moe_intermediate_size=24,
    canvas_length=5,
)
WIDE = replace(
    SIZES,
    hidden_size=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    global_head_dim=32,
    intermediate_size=160,
    moe_intermediate_size=128,
)
PROMPT = list(range(3, 14))


@pytest.fixture(params=["number", "width"])
def experts_cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(slices, "experts_cut", lambda: request.param)
    return str(request.param)


def network(folder: Path, part: Part, choices: Choices | None = None) -> Model:
    return load_network(folder, mx.float32, part=part, choices=choices).model


def states_of(model: Model) -> mx.array:
    """The hidden states of a canvas with soft embeddings, behind a prompt."""
    random = np.random.default_rng(7)
    shape = (1, SIZES.canvas_length, model.config.text.hidden_size)
    soft = mx.array(random.normal(size=shape).astype(np.float32))
    canvas = list(range(40, 40 + SIZES.canvas_length))
    return model.decode(canvas, model.encode(PROMPT), soft)


def require_whole(
    folder: Path, ranks: int, change: Callable[[Model], Model] = lambda model: model
) -> None:
    """All ranks have the states of one process."""
    right = states_of(change(network(folder, WHOLE)))

    def work(share: Share) -> mx.array:
        return states_of(change(network(folder, Part(share, "tensor"))))

    for found in together(ranks, work):
        assert_close(found, right, 2e-5, "states of ranks")


@pytest.mark.parametrize("ranks", [2, 3])
def test_plain_numbers(tmp_path: Path, ranks: int, experts_cut: str) -> None:
    require_whole(write_checkpoint(tmp_path, SIZES, shards=2), ranks)


def test_experts_one_by_one(tmp_path: Path, experts_cut: str) -> None:
    require_whole(write_checkpoint(tmp_path, SIZES, per_expert=True), 2)


@pytest.mark.parametrize(
    ("packing", "ranks"), [(Packing("affine", 4, 64), 3), (Packing("mxfp8", 8, 32), 2)]
)
def test_packed_numbers(tmp_path: Path, packing: Packing, ranks: int, experts_cut: str) -> None:
    """Three ranks split groups of 64, of which an expert's width has two."""
    dense = write_checkpoint(tmp_path / "dense", WIDE, dtype="bfloat16")
    recipe = published(packing, Packing("affine", 8, 32))
    require_whole(quantise_folder(dense, tmp_path / "packed", packing, recipe), ranks)


def test_a_network_computed_by_numpy(tmp_path: Path, experts_cut: str) -> None:
    require_whole(write_checkpoint(tmp_path, SIZES), 2, host_model)


def test_what_is_summed(tmp_path: Path) -> None:
    """Two sums a layer, and none of a prompt's last one, of which keys and values will do."""
    folder = write_checkpoint(tmp_path, SIZES)
    shares: list[Share] = []

    def work(share: Share) -> None:
        mx.eval(states_of(network(folder, Part(share, "tensor"))))
        shares.append(share)

    together(2, work)
    passes = {"attention": 1 + 2, "feed-forward": 1 + 2, "self-conditioning": 1}
    assert {name: shares[-1].calls[name] for name in passes} == passes
    row = SIZES.hidden_size * 4
    rows = len(PROMPT) + 2 * SIZES.canvas_length
    sent = {"attention": rows * row, "feed-forward": 2 * rows * row}
    assert {name: shares[-1].sent[name] for name in sent} == sent  # two ranks send all once


def test_a_sum_is_no_part_of_what_a_gpu_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts each time: what is compiled is the half in front of it, and that behind."""
    compiled: list[str] = []

    def told(function: Callable[..., object]) -> Callable[..., object]:
        compiled.append(getattr(function, "__name__", type(function).__name__))
        return function

    monkeypatch.setattr("mlx_diffgemma.model.blocks.compiled_on_gpu", told)
    folder = write_checkpoint(tmp_path, replace(SIZES, layers="f"))
    network(folder, WHOLE)
    assert compiled == [AfterAttention.__name__]
    compiled.clear()
    weights.build_layer(promised(folder), 0, Part(Share(0, 2), "tensor"))
    assert compiled == ["own", "finished"]


def promised(folder: Path) -> weights.PromisedTensors:
    return weights.PromisedTensors(folder, weights.read_config(folder), mx.float32)


def test_caches_hold_own_heads(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, SIZES)
    for rank, (sliding, full) in enumerate([(3, 1), (3, 5), (2, 1)]):
        model = network(folder, Part(Share(rank, 3), "tensor"))
        prefix = model.encode(PROMPT)
        heads = [array.shape[1] for array in prefix.arrays()]
        assert heads == [sliding, sliding, full, full]
