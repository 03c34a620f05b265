"""Folders of adapters: what is read, and what is refused in one line."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from adapting import Values, edit_adapter, edit_tensors, random_values, write_adapter
from checkpoints import Packing, Sizes, edit_config, published, quantise_folder, write_checkpoint
from facts import raises

from mlx_diffgemma.checkpoint.adapter import CONFIG, TENSORS, LoraParameters, identity, open_adapter
from mlx_diffgemma.errors import CheckpointError
from mlx_diffgemma.finetune.lora import save_adapter

SIZES = Sizes("sf", vocab_size=40, hidden_size=64, intermediate_size=64, moe_intermediate_size=64)
LAYER = "model.decoder.layers.0"
Q = f"{LAYER}.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "base", SIZES, dtype="bfloat16")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    write_adapter(tmp_path / "adapter", base)
    return tmp_path / "adapter"


def test_what_was_written_is_read(tmp_path: Path, base: Path) -> None:
    values = write_adapter(tmp_path / "adapter", base, rank=3, scale=1.5)
    opened = open_adapter(tmp_path / "adapter", base)
    assert opened.parameters == LoraParameters(3, 1.5, 0.0)
    assert opened.num_parameters == sum(array.size for array in values.values())
    read = opened.load()
    assert set(read) == set(values)
    for name, array in values.items():
        assert bool(mx.array_equal(read[name], array)), name


def test_files_are_laid_out_as_those_of_mlx_lm(adapter: Path, base: Path) -> None:
    arrays = mx.load(str(adapter / TENSORS))
    shapes = {
        f"{Q}.lora_a": (64, 2),
        f"{Q}.lora_b": (2, 32),
        f"{LAYER}.experts.gate_up_proj.lora_a": (4, 2, 64),
        f"{LAYER}.experts.gate_up_proj.lora_b": (4, 128, 2),
    }
    for name, shape in shapes.items():
        assert arrays[name].shape == shape  # type: ignore[index]
    config = json.loads((adapter / CONFIG).read_text())
    assert config["fine_tune_type"] == "lora"
    assert config["num_layers"] == 2
    assert config["model"] == "base"
    assert set(config["lora_parameters"]) == {"rank", "scale", "dropout", "keys"}
    assert Q in config["lora_parameters"]["keys"]


def test_it_fits_every_packing_of_its_model(tmp_path: Path, base: Path, adapter: Path) -> None:
    packing = Packing("affine", 4, 64)
    packed = quantise_folder(base, tmp_path / "packed", packing, published(packing), shards=2)
    assert identity(packed) == identity(base)
    assert open_adapter(adapter, packed).modules == open_adapter(adapter, base).modules


def _encoder(name: str) -> str:
    return name.replace("model.decoder.layers", "model.encoder.language_model.layers")


def test_names_of_the_encoder_are_those_of_the_shared_module(adapter: Path, base: Path) -> None:
    before = open_adapter(adapter, base).load()
    edit_tensors(adapter, lambda arrays: {_encoder(name): a for name, a in arrays.items()})
    read = open_adapter(adapter, base).load()
    assert list(read) == list(before)
    assert all(bool(mx.array_equal(read[name], before[name])) for name in before)


def test_an_adapter_each_for_encoder_and_decoder_is_refused(adapter: Path, base: Path) -> None:
    """Merging would add both to one weight."""
    twice = {f"{Q}.lora_a", f"{Q}.lora_b"}
    edit_tensors(
        adapter, lambda arrays: arrays | {_encoder(n): a for n, a in arrays.items() if n in twice}
    )
    said = "model.encoder.language_model.layers.0.self_attn.q_proj.lora_a ... one module"
    with raises(CheckpointError, said, most=450):
        open_adapter(adapter, base)


Change = Callable[[dict[str, Any]], object]
CONFIGS: dict[str, tuple[Change, str]] = {
    "dora": (lambda c: c.update(fine_tune_type="dora"), "fine_tune_type ... 'dora' ... 'lora'"),
    "no parameters": (lambda c: c.pop("lora_parameters"), "lora_parameters is missing"),
    "no rank": (lambda c: c["lora_parameters"].pop("rank"), "rank is None ... whole number"),
    "rank 0": (lambda c: c["lora_parameters"].update(rank=0), "rank is 0 ... 1"),
    "no scale": (lambda c: c["lora_parameters"].pop("scale"), "lora_parameters.scale ... missing"),
    "scale": (
        lambda c: c["lora_parameters"].update(scale="2"),
        "'2', expected a number",
    ),
    "dropout": (
        lambda c: c["lora_parameters"].update(dropout=1),
        "is 1, expected 0 to below 1",
    ),
    "keys": (
        lambda c: c["lora_parameters"].update(keys="q_proj"),
        "'q_proj', expected names",
    ),
    "more keys": (
        lambda c: c["lora_parameters"]["keys"].append("mlp.side_proj"),
        "lora_parameters.keys ... 'mlp.side_proj' ... adapters.safetensors ... no",
    ),
    "fewer keys": (
        lambda c: c["lora_parameters"].update(keys=["self_attn.q_proj"]),
        "lora_parameters.keys does not name",
    ),
    "rank": (
        lambda c: c["lora_parameters"].update(rank=3),
        "shape [64, 2], expected [64, 3] ... rank",
    ),
    "other numbers": (
        lambda c: c["mlx_diffgemma"].update(base="0" * 64),
        "trained on 'base' ... weights ... base",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configs_that_are_refused(adapter: Path, base: Path, case: str) -> None:
    change, said = CONFIGS[case]
    edit_adapter(adapter, change)
    with raises(CheckpointError, said, most=500):
        open_adapter(adapter, base)


def test_keys_may_be_counted_from_a_layer(adapter: Path, base: Path) -> None:
    """As mlx-lm names modules, the same in every layer."""
    edit_tensors(adapter, lambda arrays: {n: a for n, a in arrays.items() if "q_proj" in n})
    edit_adapter(adapter, lambda c: c["lora_parameters"].update(keys=["self_attn.q_proj"]))
    assert len(open_adapter(adapter, base).modules) == 2


def _renamed(old: str, new: str) -> Callable[[Values], Values]:
    return lambda arrays: {name.replace(old, new): array for name, array in arrays.items()}


TENSOR_CHANGES: dict[str, tuple[Callable[[Values], Values], str]] = {
    "unknown": (
        _renamed("layers.0.mlp", "layers.7.mlp"),
        "is on no module",
    ),
    "no adapter's": (_renamed("q_proj.lora_a", "q_proj.weight"), f"{Q}.weight ... no module"),
    "half": (
        lambda arrays: {n: a for n, a in arrays.items() if n != f"{Q}.lora_b"},
        f"{Q}.lora_b is missing",
    ),
    "dtype": (lambda arrays: arrays | {f"{Q}.lora_a": mx.zeros((64, 2), mx.int8)}, "I8 ... F32"),
    "none": (lambda arrays: {}, "no tensor"),
}


@pytest.mark.parametrize("case", TENSOR_CHANGES)
def test_tensors_that_are_refused(adapter: Path, base: Path, case: str) -> None:
    change, said = TENSOR_CHANGES[case]
    edit_tensors(adapter, change)
    with raises(CheckpointError, said, most=450):
        open_adapter(adapter, base)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(adapter: Path, base: Path, value: float) -> None:
    edit_tensors(adapter, lambda arrays: arrays | {f"{Q}.lora_b": mx.full((2, 32), value)})
    opened = open_adapter(adapter, base)
    with raises(CheckpointError, f"{Q}.lora_b ... NaN or Inf"):
        opened.load()


def test_an_adapter_of_a_model_of_other_sizes(tmp_path: Path, base: Path) -> None:
    other = write_checkpoint(tmp_path / "other", replace(SIZES, hidden_size=32))
    write_adapter(tmp_path / "adapter", other)
    with raises(CheckpointError, "trained on 'other' ... weights"):
        open_adapter(tmp_path / "adapter", base)
    edit_adapter(tmp_path / "adapter", lambda c: c.pop("mlx_diffgemma"))
    with raises(CheckpointError, "shape ... expected ... model", most=450):
        open_adapter(tmp_path / "adapter", base)


def test_an_adapter_of_other_numbers_of_the_same_sizes(tmp_path: Path, base: Path) -> None:
    other = write_checkpoint(tmp_path / "other", replace(SIZES, seed=1))
    write_adapter(tmp_path / "adapter", other)
    with raises(CheckpointError, "trained on 'other' ... weights"):
        open_adapter(tmp_path / "adapter", base)
    edit_adapter(tmp_path / "adapter", lambda c: c.pop("mlx_diffgemma"))  # as others write it
    open_adapter(tmp_path / "adapter", base)


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_a_folder_that_lacks_a_file(adapter: Path, base: Path, name: str) -> None:
    (adapter / name).unlink()
    with raises(CheckpointError, f"no {name}, expected ... {CONFIG} and {TENSORS}"):
        open_adapter(adapter, base)


def test_no_folder(adapter: Path, base: Path) -> None:
    with raises(CheckpointError, f"a file, expected a folder with {CONFIG}"):
        open_adapter(adapter / TENSORS, base)
    with raises(CheckpointError, f"not found, expected a folder with {CONFIG}"):
        open_adapter(adapter / "other", base)


def test_a_file_that_is_cut_short(adapter: Path, base: Path) -> None:
    file = adapter / TENSORS
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with raises(CheckpointError, f"{TENSORS} ... cut short, save the adapter again"):
        open_adapter(adapter, base)
    file.write_bytes(whole[:50])
    with raises(CheckpointError, f"{TENSORS} ... not a whole safetensors file"):
        open_adapter(adapter, base)
    (adapter / CONFIG).write_text("{")
    with raises(CheckpointError, f"{CONFIG} ... JSON object"):
        open_adapter(adapter, base)


def test_a_full_disk_leaves_the_adapter_that_was_there(
    tmp_path: Path, adapter: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in adapter.iterdir()}
    values, write = random_values(base, rank=4), os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", full)
    for folder in (adapter, tmp_path / "new"):
        with pytest.raises(OSError, match="No space"):
            save_adapter(folder, values, LoraParameters(4, 2.0), base, "base")
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in adapter.iterdir()} == before
    assert not (tmp_path / "new").exists()


def test_a_config_in_the_other_spelling_is_the_same_model(
    tmp_path: Path, adapter: Path, base: Path
) -> None:
    shutil.copytree(base, tmp_path / "copy")
    edit_config(tmp_path / "copy", lambda config: config.pop("architectures"))
    open_adapter(adapter, tmp_path / "copy")
