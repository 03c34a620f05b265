"""Sources and targets that cannot be converted: one line, by name, and OUT is never touched."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from checkpoints import (
    Packing,
    edit_config,
    load_tensors,
    published,
    quantise_folder,
    save_tensors,
    write_checkpoint,
)
from converting import SIZES, contents, converted, plan_of
from facts import assert_says, raises

from mlx_diffgemma.convert import checks
from mlx_diffgemma.convert.run import Reports, convert
from mlx_diffgemma.errors import CheckpointError, ConvertError, DiffGemmaError

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
MATRIX = "model.decoder.layers.1.mlp.up_proj.weight"
EXPERTS = "model.decoder.layers.0.experts.gate_up_proj"
NAMED = {EXPERTS: f"{EXPERTS}.weight"}  # as errors name it, where its file does not
TOWER = "model.encoder.vision_tower.encoder.layers.0.mlp.up_proj.linear.weight"


def refused(folder: Path, *words: str, **options: Any) -> None:
    """An error that says `words` and ends a sentence; nothing is left beside the source."""
    out = folder.parent / "out"
    before = sorted(folder.parent.iterdir())
    with pytest.raises(DiffGemmaError) as caught:
        converted(folder, out, **options)
    assert str(caught.value).endswith(".")
    assert_says(caught.value, *words)
    assert sorted(folder.parent.iterdir()) == before


def edit_tensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    arrays = load_tensors(folder)
    change(arrays)
    save_tensors(folder / FILE, arrays)
    return folder


# --- files


@pytest.mark.parametrize("cut", [1, 5000])
def test_a_truncated_shard(source: Path, cut: int) -> None:
    os.truncate(source / FILE, (source / FILE).stat().st_size - cut)
    refused(source, FILE, "the file is cut short")


def test_a_shard_of_shapes_alone(source: Path) -> None:
    """Good enough for --dry-run; there is nothing in it to convert."""
    with (source / FILE).open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
    os.truncate(source / FILE, 8 + length)
    refused(source, FILE, "the file is cut short")


def test_an_index_that_names_a_missing_shard(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "source", SIZES, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    refused(folder, "model-00002-of-00003.safetensors", "not found", INDEX)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickles_are_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "source", SIZES)
    (folder / FILE).rename(folder / name)
    refused(folder, name, "can run code", "expected *.safetensors")


def test_pickles_beside_safetensors_are_left_alone(tmp_path: Path, source: Path) -> None:
    (source / "pytorch_model.bin").touch()
    converted(source, tmp_path / "out")
    assert not (tmp_path / "out/pytorch_model.bin").exists()


def test_a_source_that_shrinks_while_it_is_read(source: Path) -> None:
    plan = plan_of(source)
    os.truncate(source / FILE, (source / FILE).stat().st_size - 4000)
    out = source.parent / "out"
    end = (source / FILE).stat().st_size
    with raises(CheckpointError, FILE, f"byte {end:,} ... middle of a tensor"):
        convert(plan, out)
    assert [file.name for file in source.parent.iterdir()] == ["source"]


# --- tensors


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "source", SIZES, shards=2)
    second = folder / "model-00002-of-00002.safetensors"
    first = mx.load(str(folder / "model-00001-of-00002.safetensors"))
    name = min(first)
    arrays = dict(mx.load(str(second)))
    mx.eval(arrays)
    save_tensors(second, arrays | {name: first[name]})
    refused(folder, name, "is in both", "keep one")


def test_a_tensor_twice_in_one_header(source: Path) -> None:
    content = (source / FILE).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].rstrip()
    again = header[:-1] + b"," + header[header.index(b'"model.') : -1] + b"}"
    (source / FILE).write_bytes(struct.pack("<Q", len(again)) + again + content[8 + length :])
    refused(source, "is there twice")


def test_a_tensor_under_both_of_its_names(source: Path) -> None:
    edit_tensors(source, lambda t: t.update({f"{EXPERTS}.weight": t[EXPERTS]}))
    refused(source, EXPERTS, "one tensor; keep one")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.decoder.layers.0.extra.weight", "not part of the model"),
        ("model.encoder.vision_tower.extra", "not part of the model"),
        ("model.decoder.layers.0.mlp.up_proj.weight_scale", "FP8, AWQ or NVFP4"),
    ],
)
def test_an_unknown_tensor(source: Path, name: str, words: str) -> None:
    edit_tensors(source, lambda t: t.update({name: mx.ones((4,), mx.bfloat16)}))
    refused(source, name, words)


@pytest.mark.parametrize("name", [MATRIX, EXPERTS, TOWER, "model.decoder.norm.weight"])
def test_a_missing_tensor(source: Path, name: str) -> None:
    edit_tensors(source, lambda t: t.pop(name))
    refused(source, NAMED.get(name, name), "missing")


def test_a_missing_expert(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "source", SIZES, per_expert=True)
    name = "model.decoder.layers.1.experts.3.up_proj.weight"
    edit_tensors(folder, lambda t: t.pop(name))
    refused(folder, name, "missing")


@pytest.mark.parametrize("name", [MATRIX, EXPERTS, TOWER])
def test_a_wrong_shape(source: Path, name: str) -> None:
    edit_tensors(source, lambda t: t.update({name: t[name].swapaxes(-1, -2)[..., :8]}))
    refused(source, name, "shape [", "expected [")


def test_an_expert_of_a_wrong_shape(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "source", SIZES, per_expert=True)
    name = "model.decoder.layers.1.experts.3.down_proj.weight"
    edit_tensors(folder, lambda t: t.update({name: t[name][:, :32]}))
    refused(folder, name, "shape [64, 32], expected [64, 64]")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_numbers_that_are_not_finite(tmp_path: Path, value: float, dtype: str) -> None:
    folder = write_checkpoint(tmp_path / "source", SIZES, dtype=dtype)

    def spoil(tensors: dict[str, Any]) -> None:
        tensors[EXPERTS][2, 5, 17] = value

    edit_tensors(folder, spoil)
    what = "NaN" if value != value else "Inf"
    refused(folder, EXPERTS, FILE, f"{what} at [2, 5, 17]")


def test_a_number_that_is_not_finite_in_one_of_many_experts(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "source", SIZES, per_expert=True)
    name = "model.decoder.layers.1.experts.3.up_proj.weight"

    def spoil(tensors: dict[str, Any]) -> None:
        tensors[name][7, 1] = float("nan")

    edit_tensors(folder, spoil)
    refused(folder, name, "NaN at [7, 1]")


@pytest.mark.parametrize("name", [MATRIX, EXPERTS, "model.decoder.layers.1.layer_scalar"])
def test_mixed_dtypes(source: Path, name: str) -> None:
    edit_tensors(source, lambda t: t.update({name: t[name].astype(mx.float32)}))
    refused(source, NAMED.get(name, name), "F32", "BF16", "one dtype")


@pytest.mark.parametrize("dtype", [mx.int32, mx.uint8])
def test_dtypes_that_are_no_numbers(source: Path, dtype: mx.Dtype) -> None:
    edit_tensors(source, lambda t: t.update({MATRIX: t[MATRIX].astype(dtype)}))
    refused(source, MATRIX, "dtype", "expected BF16 or F16 or F32")


# --- config


@pytest.mark.parametrize("kind", ["gemma4", None])
def test_another_model(source: Path, kind: str | None) -> None:
    edit_config(source, lambda c: c.update(model_type=kind))
    refused(source, f"model_type {kind!r}", "expected 'diffusion_gemma'")


def test_clipped_linears(source: Path) -> None:
    edit_config(source, lambda c: c["vision_config"].update(use_clipped_linears=True))
    refused(source, "vision_config.use_clipped_linears is True ... expected False")


@pytest.mark.parametrize("dtype", ["float64", "auto"])
def test_a_dtype_that_nothing_computes_in(source: Path, dtype: str) -> None:
    """Known from config.json: said by a plan, not when all is written."""
    edit_config(source, lambda c: c.update(dtype=dtype))
    with pytest.raises(CheckpointError, match="dtype is"):
        plan_of(source)
    refused(source, f"dtype is {dtype!r}")


def test_layers_that_an_mlx_folder_cannot_describe(tmp_path: Path) -> None:
    sizes = replace(SIZES, layers="ssf", spelling="per_layer")
    folder = write_checkpoint(tmp_path / "source", sizes)
    half, name = SIZES.head_dim // 2, "model.decoder.layers.0.self_attn"

    def shrink(tensors: dict[str, Any]) -> None:
        for part in "qkv":
            weight = tensors[f"{name}.{part}_proj.weight"]
            tensors[f"{name}.{part}_proj.weight"] = weight[: weight.shape[0] // 2]
        tensors[f"{name}.o_proj.weight"] = tensors[f"{name}.o_proj.weight"][:, : 4 * half]
        for part in "qk":
            tensors[f"{name}.{part}_norm.weight"] = tensors[f"{name}.{part}_norm.weight"][:half]

    edit_tensors(folder, shrink)
    edit_config(
        folder, lambda c: c["text_config"]["per_layer_config"].update({"0": {"head_dim": half}})
    )
    with pytest.raises(CheckpointError, match="sliding_attention layers differ"):
        plan_of(folder)


def test_vision_sizes_that_are_missing(source: Path) -> None:
    edit_config(source, lambda c: c["vision_config"].pop("head_dim"))
    refused(source, "vision_config.head_dim is missing")


def test_a_packed_source_is_refused_unless_asked(tmp_path: Path, source: Path) -> None:
    converted(source, tmp_path / "once")
    refused(tmp_path / "once", "quantised already", "--requantize")


def test_a_packed_source_of_another_make(source: Path) -> None:
    edit_config(source, lambda c: c.update(quantization_config={"quant_method": "awq"}))
    refused(source, "'awq'", "not MLX's")


# --- targets


@pytest.mark.parametrize("overwrite", [False, True])
def test_source_and_out_are_one(source: Path, overwrite: bool) -> None:
    link = source.parent / "link"
    link.symlink_to(source)
    before = contents(source)
    for out in (source, source / ".", link, source / "inside", source.parent):
        with pytest.raises(ConvertError):
            converted(source, out, overwrite=overwrite)
    assert contents(source) == before


def test_out_exists(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out").mkdir()
    refused(source, "out exists", "--overwrite")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("out", [Path("/"), Path("/."), Path.home()])
def test_out_is_a_root_or_the_home_folder(source: Path, out: Path, overwrite: bool) -> None:
    """Bug: the root ended in a traceback."""
    with raises(ConvertError, out, "root or the home folder ... folder inside"):
        checks.check_target(source, out, overwrite)


def test_out_is_a_file(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out").touch()
    refused(source, "is a file", overwrite=True)


def test_out_in_a_file(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConvertError, match="file is a file, expected a folder"):
        converted(source, tmp_path / "file/deep/out")


def test_a_parent_that_may_not_be_written_to(source: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(checks.os, "access", lambda *_: False)
    refused(source, "may not be written to ... OUT elsewhere")


def test_links_in_a_circle(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(DiffGemmaError, match="out"):
        converted(source, tmp_path / "out")


def test_out_appears_in_the_meantime(tmp_path: Path, source: Path) -> None:
    """What another program has made there is not replaced without --overwrite."""
    out = tmp_path / "out"

    def appear(done: int, total: int) -> None:
        out.mkdir(exist_ok=True)
        (out / "thesis.txt").write_text("ten years of work")

    with pytest.raises(ConvertError, match="out exists"):
        converted(source, out, reports=Reports(appear))
    assert [file.name for file in out.iterdir()] == ["thesis.txt"]
    (out / "thesis.txt").unlink()
    out.rmdir()
    assert converted(source, out).resumed_shards == 1


def test_source_is_where_out_grows(tmp_path: Path, source: Path) -> None:
    """It would be cleared for the new conversion, and read afterwards."""
    dense = tmp_path / "out.partial"
    converted(source, dense, "none")
    before = contents(dense)
    with pytest.raises(ConvertError, match="is where a conversion into out grows"):
        converted(dense, tmp_path / "out")
    assert contents(dense) == before


def test_source_by_another_name(tmp_path: Path, source: Path, monkeypatch: Any) -> None:
    """A Mac's disk takes SOURCE and source for one folder, and says so only when asked."""
    dense = tmp_path / "dense"
    converted(source, dense, "none")
    other, same = tmp_path / "DENSE", Path.samefile
    shutil.copytree(dense, other)
    monkeypatch.setattr(
        Path,
        "samefile",
        lambda a, b: same(Path(str(a).lower()), Path(str(b).lower())),
    )
    for out, facts in ((other, "SOURCE and OUT"), (other / "inside", "inside the other")):
        with raises(ConvertError, facts):
            converted(dense, out, overwrite=True)


def test_only_a_checkpoint_is_replaced(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("ten years of work")
    refused(source, "no folder that a conversion wrote", overwrite=True)
    (tmp_path / "out/config.json").write_text(json.dumps({"model_type": "llama"}))
    shutil.copy(source / FILE, tmp_path / "out")
    refused(source, "no folder that a conversion wrote", overwrite=True)
    assert (tmp_path / "out/thesis.txt").read_text() == "ten years of work"


def test_an_original_is_never_replaced(tmp_path: Path, source: Path) -> None:
    write_checkpoint(tmp_path / "out", SIZES)
    refused(source, "no folder that a conversion wrote", overwrite=True)


def test_a_folder_of_other_makers_is_replaced(tmp_path: Path, source: Path) -> None:
    four = Packing("affine", 4, 64)
    quantise_folder(source, tmp_path / "out", four, published(four), shards=3)
    converted(source, tmp_path / "out", overwrite=True)
    assert not list((tmp_path / "out").glob("model-0*"))


def test_a_foreign_folder_in_the_way(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/thesis.txt").write_text("ten years of work")
    refused(source, "out.partial", "move it away")
    assert (tmp_path / "out.partial/thesis.txt").exists()


def test_a_disk_that_is_too_small_is_found_first(source: Path, monkeypatch: Any) -> None:
    usage = shutil.disk_usage(source)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage._replace(free=50_000_000))
    refused(source, "out needs 64.", "the disk has 50.0 MB free")
