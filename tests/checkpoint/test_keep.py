"""What is kept of a tensor, against the same numbers of the whole; nothing else is read."""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import DTYPES, Packing, Sizes, config_of, write_folder
from held import taken_by

from mlx_diffgemma.checkpoint import tensors
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.keep import EXPERTS, INPUTS, OUTPUTS, Keep
from mlx_diffgemma.checkpoint.quantization import MODES
from mlx_diffgemma.checkpoint.tensors import PromisedTensors, StoredWeight, Tensors
from mlx_diffgemma.errors import CheckpointError, ShareError
from mlx_diffgemma.model.matrices import PackedMatrix
from mlx_diffgemma.model.weights import GivenTensors

MODULE = "model.decoder.layers.0.experts.gate_up_proj"
SHAPE = (3, 8, 512)
PACKED = [
    (mode, bits, group)
    for mode, (widths, groups) in MODES.items()
    for bits in widths
    for group in groups
]
KEEPS = [
    Keep(EXPERTS, ((1, 3),)),
    Keep(OUTPUTS, ((1, 3), (5, 7))),  # gate and up
    Keep(OUTPUTS, ((2, 4), (2, 4), (4, 6))),  # a head that is held twice
    Keep(INPUTS, ((128, 384),)),
    Keep(INPUTS, ((384, 512), (0, 128))),
]


def write_module(folder: Path, packing: Packing | None, dtype: str = "bfloat16") -> Path:
    """A folder of one module, between two tensors that are none of the network's."""
    numbers = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    weight = mx.array(numbers).astype(DTYPES[dtype])
    arrays = {"a": mx.zeros(7), f"{MODULE}.weight": weight, "z": mx.zeros(7)}
    config = config_of(Sizes(), dtype)
    if packing:
        parts = packing.pack(weight)
        arrays |= {f"{MODULE}.{kind}": part for kind, part in parts.items()}
        config["quantization"] = {"mode": packing.mode, **packing.entry()}
    return write_folder(folder, config, arrays)


def of(
    kind: type[Tensors], folder: Path, keep: Keep | None, dtype: str = "bfloat16"
) -> StoredWeight:
    return kind(folder, read_config(folder), DTYPES[dtype]).weight(MODULE, *SHAPE, keep=keep)


def numbers_of(stored: StoredWeight) -> mx.array:
    """The numbers of a weight, packed or not."""
    if stored.packing is None or stored.scales is None:
        return stored.weight.astype(mx.float32)
    packed = PackedMatrix(stored.weight, stored.scales, stored.biases, stored.packing)
    return packed.unpacked(mx.float32)


def sliced(whole: mx.array, axis: int, spans: Sequence[tuple[int, int]]) -> mx.array:
    places = np.concatenate([np.arange(first, end) for first, end in spans])
    return mx.take(whole, mx.array(places), axis=axis)


def require_kept(folder: Path, dtype: str = "bfloat16") -> None:
    """All KEEPS are read as the whole has them, and promised in the same forms."""
    whole = numbers_of(of(Tensors, folder, None, dtype))
    for keep in KEEPS:
        read, promised = (of(kind, folder, keep, dtype) for kind in (Tensors, PromisedTensors))
        assert mx.array_equal(numbers_of(read), sliced(whole, keep.axis, keep.spans)), keep
        assert read.shape == promised.shape == keep.shape(SHAPE)
        for mine, theirs in zip(arrays_of(promised), arrays_of(read), strict=True):
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)


def arrays_of(stored: StoredWeight) -> list[mx.array]:
    parts = (stored.weight, stored.scales, stored.biases)
    return [part for part in parts if part is not None]


@pytest.mark.parametrize(("mode", "bits", "group"), PACKED)
def test_packed_numbers_are_kept_with_their_scales(
    tmp_path: Path, mode: str, bits: int, group: int
) -> None:
    require_kept(write_module(tmp_path, Packing(mode, bits, group)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_numbers_are_kept(tmp_path: Path, dtype: str) -> None:
    require_kept(write_module(tmp_path, None, dtype), dtype)


def test_given_tensors_are_kept_alike(tmp_path: Path) -> None:
    folder = write_module(tmp_path, None, "float32")
    whole = numbers_of(of(Tensors, folder, None, "float32"))
    given = GivenTensors(read_config(folder), {f"{MODULE}.weight": whole})
    for keep in KEEPS:
        kept = given.weight(MODULE, *SHAPE, keep=keep).weight
        assert mx.array_equal(kept, sliced(whole, keep.axis, keep.spans))
    assert given.weight(MODULE, *SHAPE).weight is whole


def test_no_other_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX is not asked for the tensor, and what is not kept may not even be in the file."""
    folder = write_module(tmp_path, Packing("affine", 4, 64))
    monkeypatch.setattr(tensors, "load_arrays", lambda file: pytest.fail("reads whole tensors"))
    read = taken_by(lambda: arrays_of(of(Tensors, folder, Keep(EXPERTS, ((2, 3),)))))
    assert read.left <= sum(part.nbytes for part in read.result) + 4096


@pytest.mark.parametrize("group", [64, 128])
@pytest.mark.parametrize("spans", [((0, 96),), ((96, 512),), ((32, 160), (480, 512))])
def test_groups_are_split_where_runs_end_in_them(
    tmp_path: Path, spans: tuple[tuple[int, int], ...], group: int
) -> None:
    folder, keep = write_module(tmp_path, Packing("affine", 4, group)), Keep(INPUTS, spans)
    kept = of(Tensors, folder, keep)
    assert kept.packing is not None
    assert kept.packing.group_size == 32
    assert mx.array_equal(
        numbers_of(kept), sliced(numbers_of(of(Tensors, folder, None)), -1, spans)
    )
    promised = of(PromisedTensors, folder, keep)
    assert [x.shape for x in arrays_of(promised)] == [x.shape for x in arrays_of(kept)]


@pytest.mark.parametrize("packing", [Packing("affine", 4, 64), Packing("mxfp8", 8, 32)])
def test_a_cut_that_no_groups_fit_is_refused(tmp_path: Path, packing: Packing) -> None:
    folder = write_module(tmp_path, packing)
    with pytest.raises(ShareError, match=r"gate_up_proj .* inputs 0, 48, .* share by layers"):
        of(Tensors, folder, Keep(INPUTS, ((0, 48),)))
    of(Tensors, folder, Keep(OUTPUTS, ((3, 5),)))  # rows have groups of their own


def test_the_files_shape_is_checked_whatever_is_kept(tmp_path: Path) -> None:
    folder = write_module(tmp_path, None)
    read = Tensors(folder, read_config(folder), mx.bfloat16)
    with pytest.raises(CheckpointError, match=r"shape \[3, 8, 512\], expected \[4, 8, 512\]"):
        read.weight(MODULE, 4, *SHAPE[1:], keep=Keep(EXPERTS, ((0, 2),)))
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors: .*download it again"):
        read.weight(MODULE, *SHAPE, keep=Keep(EXPERTS, ((0, 2),)))
