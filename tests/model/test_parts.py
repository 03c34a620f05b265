"""A network whose tensors are divided between ranks gives every rank what one process computes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from adapting import edit_tensors, write_adapter
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from compare import assert_close
from replayed import together

from mlx_diffgemma.checkpoint.adapter import open_adapter
from mlx_diffgemma.conversation.loading import with_adapter
from mlx_diffgemma.errors import CheckpointError
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


# --- adapters


def adapted(folder: Path, adapter: Path, part: Part) -> Model:
    loaded = load_network(folder, mx.float32, part=part)
    return with_adapter(loaded, open_adapter(adapter, folder))


def passes_of(model: Model) -> Iterator[mx.array]:
    """Hidden states of the encoder and of a canvas, and the logits of a token in mode ar."""
    yield model.encode_hidden(PROMPT, model.new_prefix())
    yield states_of(model)
    yield model.step(5, model.encode(PROMPT))


def require_adapted(tmp_path: Path, folder: Path, ranks: int, target: str = "all") -> None:
    """All ranks have what one process computes with an adapter, and it has a say."""
    write_adapter(tmp_path / "adapter", folder, [target], rank=3)
    right = list(passes_of(adapted(folder, tmp_path / "adapter", WHOLE)))
    plain = states_of(network(folder, WHOLE))
    assert float(mx.abs(right[1] - plain).max()) > 1e-3

    def work(share: Share) -> list[mx.array]:
        part = Part(share, "tensor")
        return list(passes_of(adapted(folder, tmp_path / "adapter", part)))

    for found in together(ranks, work):
        for each, want in zip(found, right, strict=True):
            assert_close(each, want, 5e-5, "states of ranks with an adapter")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_an_adapter_on_all_matrices(tmp_path: Path, ranks: int, experts_cut: str) -> None:
    require_adapted(tmp_path, write_checkpoint(tmp_path / "base", SIZES, shards=2), ranks)


ADAPTED = [
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    *("experts.gate_up_proj", "experts.down_proj", "router.proj"),
    *(f"self_conditioning.{name}_proj" for name in ("gate", "up", "down")),
]


@pytest.mark.slow
@pytest.mark.parametrize("target", ADAPTED)
def test_an_adapter_on_a_matrix(tmp_path: Path, target: str, experts_cut: str) -> None:
    require_adapted(tmp_path, write_checkpoint(tmp_path / "base", SIZES), 3, target)


@pytest.mark.slow
def test_an_adapter_on_experts_one_by_one(tmp_path: Path, experts_cut: str) -> None:
    require_adapted(tmp_path, write_checkpoint(tmp_path / "base", SIZES, per_expert=True), 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packing", "ranks"), [(Packing("affine", 4, 64), 3), (Packing("mxfp8", 8, 32), 2)]
)
def test_an_adapter_on_packed_numbers(
    tmp_path: Path, packing: Packing, ranks: int, experts_cut: str
) -> None:
    """Its rows and columns are those of the groups, whole or split, that a rank has."""
    dense = write_checkpoint(tmp_path / "dense", WIDE, dtype="bfloat16")
    recipe = published(packing, Packing("affine", 8, 32))
    require_adapted(tmp_path, quantise_folder(dense, tmp_path / "packed", packing, recipe), ranks)


@pytest.mark.parametrize(
    ("name", "at"), [("self_attn.q_proj.lora_b", (0, -1)), ("self_attn.o_proj.lora_a", (-1, 0))]
)
def test_own_bytes_of_an_adapter_alone_are_read(
    tmp_path: Path, name: str, at: tuple[int, int]
) -> None:
    """The rank that has a NaN among its columns, or rows, says so, and for all."""
    folder, adapter = write_checkpoint(tmp_path / "base", SIZES), tmp_path / "adapter"
    write_adapter(adapter, folder, ["attention"])
    stored = f"model.decoder.layers.0.{name}"

    def harmed(arrays: dict[str, mx.array]) -> dict[str, mx.array]:
        whole = mx.array(arrays[stored])
        whole[at] = float("nan")
        return arrays | {stored: whole}

    edit_tensors(adapter, harmed)
    parts = [load_network(folder, part=Part(Share(rank, 2), "tensor")) for rank in (0, 1)]
    own = [replace(open_adapter(adapter, folder), keeps=part.keeps) for part in parts]
    assert {name: array.shape for name, array in own[0].load().items()} == own[0].shapes
    with pytest.raises(CheckpointError, match=rf"{stored} in .* holds NaN or Inf"):
        own[1].load()

    def work(share: Share) -> str:
        with pytest.raises(CheckpointError) as caught:
            adapted(folder, adapter, Part(share, "tensor"))
        return str(caught.value)

    one, other = together(2, work)
    assert one == other
    assert one.startswith(f"rank 1: {stored} in {adapter}")
