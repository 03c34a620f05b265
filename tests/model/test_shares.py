"""The memory of Macs that share a network, against what each of them then holds."""

from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
from adapting import write_adapter
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from facts import raises

from mlx_diffgemma.checkpoint.adapter import open_adapter
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.errors import FitError, ShareError
from mlx_diffgemma.machine.dtypes import mlx_dtype
from mlx_diffgemma.model import memory as memory_module
from mlx_diffgemma.model.adapters import applied
from mlx_diffgemma.model.arrays import distinct_arrays
from mlx_diffgemma.model.memory import plan_memory
from mlx_diffgemma.model.shares import (
    SharedPlan,
    message_sizes,
    own_config,
    part_check,
    shared_plan,
)
from mlx_diffgemma.model.weights import load_network
from mlx_diffgemma.share.part import Cut, Part
from mlx_diffgemma.share.share import Share
from mlx_diffgemma.share.traffic import Sizes as MessageSizes

UNEVEN = Sizes(
    layers="ssfsf",
    canvas_length=11,
    hidden_size=64,
    intermediate_size=192,
    moe_intermediate_size=64,
    num_attention_heads=6,
    num_key_value_heads=3,
    num_experts=5,
    vocab_size=3 * 4096,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("uneven"), UNEVEN, dtype="bfloat16")


def planned(folder: Path, size: int) -> SharedPlan:
    return shared_plan(folder, plan_memory(folder), size)


def held(folder: Path, rank: int, size: int, cut: Cut) -> int:
    model = load_network(folder, part=Part(Share(rank, size), cut)).model
    parts = [model.embedding, model.self_conditioning, model.final_norm, model.layers]
    return sum(array.nbytes for array in distinct_arrays(parts))


@pytest.mark.parametrize("size", [2, 3])
def test_each_rank_holds_what_was_planned(folder: Path, size: int) -> None:
    plan = planned(folder, size)
    for cut in plan.possible:
        for rank in range(size):
            need = plan.footprint(cut, rank, 20, None)
            assert need.weight_bytes == held(folder, rank, size, cut), (cut, rank)


def test_a_packed_rank_holds_what_was_planned(folder: Path, tmp_path: Path) -> None:
    packing = Packing("affine", 4, 64)
    packed = quantise_folder(folder, tmp_path / "packed", packing, published(packing))
    plan = planned(packed, 2)
    assert (plan.refused, list(plan.tensors)) == (None, [0, 1])
    for rank in plan.tensors:
        need = plan.footprint("tensor", rank, 20, None)
        assert need.weight_bytes == held(packed, rank, 2, "tensor")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_rank_holds_its_part_of_an_adapter_as_planned(
    folder: Path, tmp_path: Path, dtype: str
) -> None:
    write_adapter(tmp_path, folder)
    files = open_adapter(tmp_path, folder)
    plan = shared_plan(folder, plan_memory(folder, dtype), 3, dtype, adapter=files)
    assert plan.possible == ("rows", "layers", "tensor")
    for rank, own in plan.tensors.items():
        loaded = load_network(folder, mlx_dtype(dtype), part=Part(Share(rank, 3), "tensor"))
        part = replace(files, keeps=loaded.keeps)
        made = applied(loaded.model, part.load(), files.parameters.scale)
        assert own.weights.held_bytes == sum(array.nbytes for array in distinct_arrays(made))
        shapes = part.shapes.values()
        assert sum(map(prod, shapes)) < 0.7 * files.num_parameters


def test_the_fullest_has_most_and_own_heads_make_its_cache(folder: Path) -> None:
    plan = planned(folder, 3)
    for cut in plan.possible:
        needs = [plan.footprint(cut, rank, 40, None).needed_bytes for rank in range(3)]
        assert plan.fullest(cut, 40).needed_bytes == max(needs)
    whole = plan.plan.layer_cache_bytes(40)
    sliding = [n for n, kind in enumerate(UNEVEN.layers) if kind == "s"]
    for own in plan.tensors.values():  # one of three heads each
        assert [3 * own.layer_cache_bytes(40)[n] for n in sliding] == [whole[n] for n in sliding]


def test_scores_are_those_of_the_layer_with_most_heads(tmp_path: Path) -> None:
    """Sliding layers are cut by pairs of heads, full ones by heads: 6, 6 and 4; 6, 5 and 5."""
    heads = {"num_key_value_heads": 8, "num_global_key_value_heads": 2}
    sizes = replace(UNEVEN, num_attention_heads=16, **heads)
    config = read_config(write_checkpoint(tmp_path, sizes))
    parts = [Part(Share(rank, 3), "tensor") for rank in range(3)]
    assert [own_config(config, part).text.num_attention_heads for part in parts] == [6, 6, 5]


def test_the_largest_context_is_the_last_that_fits_all(folder: Path) -> None:
    plan = planned(folder, 2)
    for cut in plan.possible:
        enough = plan.fullest(cut, 60).needed_bytes
        assert plan.fullest(cut, plan.largest_context(cut, enough)).needed_bytes <= enough
        assert plan.largest_context(cut, plan.fullest(cut, 1).needed_bytes - 1) == 0


def test_more_macs_than_parts_are_told(folder: Path) -> None:
    plan = planned(folder, 7)
    assert plan.possible == ("rows",)
    assert plan.refused is not None
    assert "7 Macs share by tensor" in plan.refused
    with raises(ShareError, "7 Macs share by tensor ... expected ... at most"):
        part_check(Part(Share(0, 7), "tensor"), folder)


@pytest.mark.parametrize(
    ("cut", "part"),
    [("layers", "layers 3 to 4 of it"), ("tensor", "part 2 of 2 of all its tensors")],
)
def test_a_part_that_does_not_fit_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cut: Cut, part: str
) -> None:
    monkeypatch.setattr(memory_module, "available_memory", lambda: 1000)
    check = part_check(Part(Share(1, 2), cut), folder)
    with raises(FitError, f"{folder.name} ... {part} ... needs ... 1.0 kB"):
        check(20)


def test_full_layers_send_values_alone(folder: Path) -> None:
    full = UNEVEN.full_kv_heads * UNEVEN.global_head_dim
    sliding = 2 * 3 * UNEVEN.head_dim
    numbers = tuple(full if kind == "f" else sliding for kind in UNEVEN.layers)
    assert message_sizes(read_config(folder), 2) == MessageSizes(11, 64, numbers, 3 * 4096, 2)
