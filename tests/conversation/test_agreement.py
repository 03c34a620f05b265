"""What Macs agree on before a weight is read."""

from dataclasses import replace
from pathlib import Path

import pytest
from adapting import Values, edit_tensors, write_adapter
from checkpoints import Packing, Sizes, quantise_folder, write_checkpoint
from held import settled
from replayed import together

from mlx_diffgemma.checkpoint.adapter import open_adapter
from mlx_diffgemma.conversation.agreement import (
    agreed_room,
    load_facts,
    require_parts,
)
from mlx_diffgemma.errors import FitError, ShareError
from mlx_diffgemma.share.part import Part
from mlx_diffgemma.share.share import Share

SIZES = Sizes("f", hidden_size=64, num_global_key_value_heads=2, intermediate_size=160)


def test_what_cannot_be_cut_is_refused_on_all_ranks_alike(tmp_path: Path) -> None:
    """Rank 3 alone would cut inside a group; nothing is read."""
    dense = write_checkpoint(tmp_path / "dense", SIZES)
    packing = Packing("affine", 4, 32)
    folder = quantise_folder(dense, tmp_path / "packed", packing, lambda _: packing)
    before, said = settled(), set()
    for rank in range(4):
        with pytest.raises(ShareError) as caught:
            require_parts(folder, Part(Share(rank, 4), "tensor"))
        said.add(str(caught.value))
    (line,) = said
    assert "layers.0.self_attn.o_proj would be cut at inputs 0, 16, inside groups of 32" in line
    assert settled() - before < 1000
    require_parts(folder, Part(Share(1, 2), "tensor"))
    require_parts(folder, Part(Share(0, 40), "rows"))


def test_another_training_of_the_same_shapes_is_a_fact(tmp_path: Path) -> None:
    sizes = [replace(SIZES, seed=seed) for seed in (0, 0, 1)]
    folders = [write_checkpoint(tmp_path / str(at), each) for at, each in enumerate(sizes)]
    one, same, other = (load_facts(folder, None, None, None) for folder in folders)
    assert one == same
    assert [name for name in one if one[name] != other[name]] == ["the weights"]


def test_another_adapter_of_the_same_shapes_is_a_fact(tmp_path: Path) -> None:
    """By its factor or its numbers: shapes and places in the file are alike."""
    base = write_checkpoint(tmp_path / "base", SIZES)
    names = {"one": 0.5, "same": 0.5, "stronger": 2.0, "retrained": 0.5}
    for name, scale in names.items():
        write_adapter(tmp_path / name, base, scale=scale)
        sign = -1 if name == "retrained" else 1

        def signed(arrays: Values, sign: int = sign) -> Values:
            return {key: sign * array for key, array in arrays.items()}

        edit_tensors(tmp_path / name, signed)
    one, same, stronger, retrained = (
        load_facts(base, None, None, open_adapter(tmp_path / name, base)) for name in names
    )
    assert one == same
    assert [name for name in one if one[name] != stronger[name]] == ["the adapter's scale"]
    assert [name for name in one if one[name] != retrained[name]] == ["the adapter's numbers"]
    assert load_facts(base, None, None, None)["the adapter"] is None


def test_where_one_mac_has_no_room_all_fail_alike() -> None:
    def said(share: Share) -> str:
        def check(context: int, beside: int = 0) -> None:
            if share.rank == 1 and context > 8:
                raise FitError("it does not fit.")

        room = agreed_room(share, check)
        room(8)
        with pytest.raises(FitError) as caught:
            room(9)
        return str(caught.value)

    assert together(3, said) == ["rank 1: it does not fit."] * 3
