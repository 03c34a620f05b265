"""Conversions of every layout, held bit for bit against packing each matrix by itself."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import (
    Packing,
    dequantised_folder,
    load_tensors,
    published,
    quantise_folder,
    save_tensors,
    write_checkpoint,
)
from converting import SIZES, SMALL_FILES, SMALL_SHARD, contents, converted, plan_of

import mlx_diffgemma as dg
from mlx_diffgemma.convert import transfer
from mlx_diffgemma.convert.run import Reports

RECIPES = {
    "4bit": Packing("affine", 4, 64),
    "5bit": Packing("affine", 5, 64),
    "6bit": Packing("affine", 6, 64),
    "8bit": Packing("affine", 8, 64),
    "mxfp4": Packing("mxfp4", 4, 32),
    "mxfp8": Packing("mxfp8", 8, 32),
    "nvfp4": Packing("nvfp4", 4, 16),
}


def assert_same_tensors(a: Path, b: Path) -> None:
    """Names, dtypes and every bit."""
    first, second = load_tensors(a), load_tensors(b)
    assert sorted(first) == sorted(second)
    for name, array in first.items():
        assert array.dtype == second[name].dtype, name
        assert bool(mx.array_equal(array, second[name])), name


@pytest.mark.parametrize("quantize", RECIPES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_every_recipe_and_dtype(tmp_path: Path, quantize: str, dtype: str) -> None:
    source = write_checkpoint(tmp_path / "source", SIZES, dtype=dtype)
    packing = RECIPES[quantize]
    quantise_folder(source, tmp_path / "expected", packing, published(packing))
    converted(source, tmp_path / "out", quantize)
    assert_same_tensors(tmp_path / "out", tmp_path / "expected")


@pytest.mark.parametrize("block_bytes", [1, 1000, 3000])
def test_blocks_of_any_size(
    tmp_path: Path, source: Path, monkeypatch: Any, block_bytes: int
) -> None:
    """A block may end in the middle of a tensor, of an expert, and of a stack of them."""
    apart = write_checkpoint(tmp_path / "apart", SIZES, dtype="bfloat16", per_expert=True)
    converted(source, tmp_path / "whole")
    monkeypatch.setattr(transfer, "BLOCK_BYTES", block_bytes)
    converted(source, tmp_path / "blocks")
    converted(apart, tmp_path / "stacked")
    assert_same_tensors(tmp_path / "blocks", tmp_path / "whole")
    assert_same_tensors(tmp_path / "stacked", tmp_path / "whole")


@pytest.mark.parametrize(
    "options",
    [{"per_expert": True}, {"shards": 3}, {"strays": True}, {"per_expert": True, "shards": 4}],
)
def test_every_layout_gives_the_same(tmp_path: Path, source: Path, options: dict[str, Any]) -> None:
    other = write_checkpoint(tmp_path / "other", SIZES, dtype="bfloat16", **options)
    converted(source, tmp_path / "a")
    converted(other, tmp_path / "b")
    assert_same_tensors(tmp_path / "a", tmp_path / "b")


def test_shards_and_index(tmp_path: Path, source: Path) -> None:
    result = converted(source, tmp_path / "out", max_shard_bytes=SMALL_SHARD)
    converted(source, tmp_path / "one")
    assert_same_tensors(tmp_path / "out", tmp_path / "one")
    files = sorted(file.name for file in (tmp_path / "out").glob("*.safetensors"))
    assert result.shards == len(files) > 3
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == result.tensor_bytes
    for name, file in index["weight_map"].items():
        assert name in mx.load(str(tmp_path / "out" / file))
    assert len(index["weight_map"]) == result.tensor_count


def test_nothing_packed_is_the_source_bit_for_bit(tmp_path: Path, source: Path) -> None:
    """A dense MLX folder: only fused experts change their name."""
    converted(source, tmp_path / "out", "none")
    arrays = load_tensors(tmp_path / "out")
    for name, array in load_tensors(source).items():
        target = (
            f"{name}.weight"
            if name.endswith(("experts.gate_up_proj", "experts.down_proj"))
            else name
        )
        assert bool(mx.array_equal(arrays[target], array))
    assert "quantization" not in json.loads((tmp_path / "out/config.json").read_text())


def test_a_dense_mlx_folder_converts_as_its_source_does(tmp_path: Path, source: Path) -> None:
    converted(source, tmp_path / "dense", "none")
    converted(source, tmp_path / "a")
    converted(tmp_path / "dense", tmp_path / "b")
    assert_same_tensors(tmp_path / "a", tmp_path / "b")


# --- packed sources


@pytest.mark.parametrize("quantize", ["8bit", "mxfp8", "nvfp4"])
def test_requantised_from_unpacked_numbers(tmp_path: Path, quantize: str) -> None:
    """As if the packed source had been saved unpacked, in its own dtype, and converted."""
    source = write_checkpoint(tmp_path / "source", SIZES, dtype="float32")
    converted(source, tmp_path / "packed", quantize)
    dequantised_folder(tmp_path / "packed", tmp_path / "dense")
    converted(tmp_path / "dense", tmp_path / "expected", experts_bits=3)
    converted(tmp_path / "packed", tmp_path / "out", requantize=True, experts_bits=3)
    ours, expected = load_tensors(tmp_path / "out"), load_tensors(tmp_path / "expected")
    for name in (n for n in expected if ".experts." in n):
        assert bool(mx.array_equal(ours[name], expected[name])), name


def test_what_is_packed_alike_is_copied(tmp_path: Path, source: Path) -> None:
    """Unpacking and packing again need not give the same bits; a copy does."""
    converted(source, tmp_path / "a")
    converted(tmp_path / "a", tmp_path / "b", requantize=True)
    assert_same_tensors(tmp_path / "a", tmp_path / "b")


def test_unpacked_again(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", SIZES, dtype="float32")
    converted(source, tmp_path / "packed", "5bit")
    converted(tmp_path / "packed", tmp_path / "out", "none", requantize=True)
    dequantised_folder(tmp_path / "packed", tmp_path / "dense")
    ours = load_tensors(tmp_path / "out")
    for name, array in load_tensors(tmp_path / "dense").items():
        target = (
            f"{name}.weight"
            if name.endswith(("experts.gate_up_proj", "experts.down_proj"))
            else name
        )
        assert float(mx.abs(ours[target] - array).max().item()) < 1e-6, name  # type: ignore[arg-type]


# --- the folder


def test_small_files_and_manifest(tmp_path: Path, source: Path) -> None:
    converted(source, tmp_path / "out")
    out = tmp_path / "out"
    for name, content in SMALL_FILES.items():
        assert (out / name).read_text() == content
    assert not (out / "README.md").exists()
    manifest = json.loads((out / "conversion.json").read_text())
    hashes = contents(out)
    del hashes["conversion.json"]
    assert {file["name"]: file["sha256"] for file in manifest["files"]} == hashes
    (read,) = manifest["source"]["files"]
    assert read["sha256"] == contents(source)["model.safetensors"]
    assert (manifest["source"]["id"], manifest["source"]["revision"]) == ("source", None)
    assert set(manifest["made_by"]) == {"mlx-diffgemma", "mlx"}


def test_config_says_what_others_need(tmp_path: Path) -> None:
    from checkpoints import Sizes

    sizes = Sizes("ssf", hidden_size=64, spelling="per_layer", final_logit_softcapping=None)
    source = write_checkpoint(tmp_path / "source", sizes, generation={"eos_token_id": [7, 9]})
    converted(source, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    text = config["text_config"]
    assert (text["global_head_dim"], text["num_global_key_value_heads"]) == (16, 1)
    assert "per_layer_config" not in text
    assert text["final_logit_softcapping"] == 30.0
    assert config["eos_token_id"] == [7, 9]
    assert config["generation_config"] == {"eos_token_id": [7, 9]}
    assert config["quantization"] == config["quantization_config"]


def test_what_is_converted_loads_and_computes_the_same(tmp_path: Path) -> None:
    """The packed network equals the network of its unpacked numbers; float32 sums apart."""
    source = write_checkpoint(tmp_path / "source", SIZES)
    converted(source, tmp_path / "out")
    dequantised_folder(tmp_path / "out", tmp_path / "dense")
    logits = []
    for folder in (tmp_path / "out", tmp_path / "dense"):
        model = dg.load_model(folder, mx.float32)
        prefix = model.encode([2, 5, 9])
        logits.append(np.array(model.logits(model.decode(mx.array([3, 4, 5, 6]), prefix))))
    assert np.abs(logits[0] - logits[1]).max() < 1e-4


def test_what_the_source_lacks_is_said(tmp_path: Path, source: Path) -> None:
    """Only a tokenizer and a vision tower may be missing, and never without a word."""
    notes: list[str] = []
    converted(source, tmp_path / "whole", reports=Reports(note=notes.append))
    assert notes == []
    (source / "tokenizer.json").unlink()
    arrays = load_tensors(source)
    mx.eval(arrays)
    save_tensors(
        source / "model.safetensors", {n: a for n, a in arrays.items() if "vision" not in n}
    )
    converted(source, tmp_path / "out", reports=Reports(note=notes.append))
    assert ["no tokenizer.json" in note for note in notes] == [True, False]
    assert ["no vision tensors" in note for note in notes] == [False, True]


def test_progress_counts_source_bytes(tmp_path: Path, source: Path) -> None:
    seen: list[tuple[int, int]] = []
    converted(
        source, tmp_path / "out", reports=Reports(lambda done, total: seen.append((done, total)))
    )
    dones = [done for done, _ in seen]
    assert dones == sorted(dones)
    assert seen[-1][0] == seen[-1][1] == plan_of(source).source_bytes


def test_the_cache_limit_is_put_back(tmp_path: Path, source: Path) -> None:
    before = mx.set_cache_limit(123_456_789)
    try:
        converted(source, tmp_path / "out")
        assert mx.set_cache_limit(before) == 123_456_789
    finally:
        mx.set_cache_limit(before)


def test_a_hub_snapshot_of_links(tmp_path: Path, source: Path) -> None:
    """The local cache of the Hub holds links to blobs: what is written holds files."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for file in source.iterdir():
        (snapshot / file.name).symlink_to(file)
    converted(snapshot, tmp_path / "out")
    assert not any(file.is_symlink() for file in (tmp_path / "out").iterdir())
