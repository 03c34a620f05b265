"""What Macs agree on before a weight is read."""

from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import Packing, Sizes, quantise_folder, write_checkpoint
from held import settled
from replayed import together

from mlx_diffgemma.conversation.agreement import (
    agreed_room,
    load_facts,
    require_parts,
    require_uncut,
)
from mlx_diffgemma.errors import FitError, ShareError
from mlx_diffgemma.share.part import WHOLE, Part
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


def test_an_adapter_is_refused_where_tensors_are_cut() -> None:
    require_uncut(WHOLE)
    require_uncut(Part(Share(0, 2), "layers"))
    with pytest.raises(ShareError, match=r"an adapter stands on whole matrices, .* by tensor"):
        require_uncut(Part(Share(0, 2), "tensor"))


def test_another_training_of_the_same_shapes_is_a_fact(tmp_path: Path) -> None:
    sizes = [replace(SIZES, seed=seed) for seed in (0, 0, 1)]
    folders = [write_checkpoint(tmp_path / str(at), each) for at, each in enumerate(sizes)]
    one, same, other = (load_facts(folder, None, None, None) for folder in folders)
    assert one == same
    assert [name for name in one if one[name] != other[name]] == ["the weights"]


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
