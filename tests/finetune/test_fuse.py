"""Adapters fused into folders: what changes, what stays to the bit, and how far off it is."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from adapting import Values, write_adapter
from checkpoints import (
    EXPERTS,
    Packing,
    dequantised_folder,
    load_tensors,
    published,
    quantise_folder,
    write_checkpoint,
)
from compare import assert_close
from converting import SIZES as SEEING
from converting import add_small_files, contents
from facts import raises

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.adapter import open_adapter
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.convert import transfer
from mlx_diffgemma.convert.checks import fingerprint
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.convert.run import Result, convert
from mlx_diffgemma.convert.write import ShardWriter
from mlx_diffgemma.errors import CheckpointError, ConvertError, SettingsError
from mlx_diffgemma.finetune.fuse import check_fused, fuse_plan

FOUR = Packing("affine", 4, 64)
PACKINGS = {
    "4bit": FOUR,
    "8bit": Packing("affine", 8, 32),
    "mxfp4": Packing("mxfp4", 4, 32),
    "nvfp4": Packing("nvfp4", 4, 16),
}
SIZES = replace(SEEING, vision=False)
TARGETS = ["attention", "experts.down_proj", "self-conditioning"]
SCALE = 0.5


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "dense", SIZES, dtype="bfloat16")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, dense: Path) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "packed"
    return add_small_files(quantise_folder(dense, folder, FOUR, published(FOUR), shards=2))


def fused(base: Path, adapter: Path, out: Path, quantize: str = "keep", **how: Any) -> Result:
    plan = fuse_plan(open_checkpoint(base), open_adapter(adapter, base), quantize)
    return convert(plan, out, **how)


def exact(folder: Path, values: Values, scale: float, at: Path) -> dict[str, np.ndarray]:
    """The merged numbers of a folder by module, from its own numbers as they unpack."""
    unpacked = "quantization" in json.loads((folder / "config.json").read_text())
    numbers = load_tensors(dequantised_folder(folder, at) if unpacked else folder)
    made = {}
    for name in values:
        module, _, part = name.rpartition(".")
        if part == "lora_a":
            a, b = (np.array(values[f"{module}.{p}"], np.float64) for p in ("lora_a", "lora_b"))
            weight = numbers[module if EXPERTS.search(module) else f"{module}.weight"]
            whole = np.array(weight.astype(mx.float32), np.float64)
            made[module] = whole + scale * np.swapaxes(a @ b, -1, -2)
    return made


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("8bit", "nvfp4")]


@pytest.mark.parametrize("name", ["4bit", "mxfp4", *SLOW])
def test_only_modules_with_an_adapter_change(tmp_path: Path, dense: Path, name: str) -> None:
    packing = PACKINGS[name]
    base = quantise_folder(dense, tmp_path / "base", packing, published(packing))
    values = write_adapter(tmp_path / "adapter", base, TARGETS, scale=SCALE)
    fused(base, tmp_path / "adapter", tmp_path / "out")
    before, after = load_tensors(base), load_tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    for tensor, array in before.items():
        module = tensor.rpartition(".")[0]
        same = bool(mx.array_equal(array, after[tensor]))
        assert array.dtype == after[tensor].dtype
        assert same or f"{module}.lora_a" in values, tensor
        if tensor.endswith(".weight"):
            assert same is (f"{module}.lora_a" not in values), tensor
    one, other = (read_config(folder).quantization for folder in (base, tmp_path / "out"))
    assert one == other
    dg.load_model(tmp_path / "out")


@pytest.mark.parametrize("blocks", [False, True], ids=["whole", "blocks"])
def test_unpacked_numbers_are_the_exact_sum_rounded_once(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, blocks: bool
) -> None:
    """A block may end in the middle of an expert, and hold parts of several."""
    values = write_adapter(tmp_path / "adapter", packed, scale=SCALE)
    if blocks:
        monkeypatch.setattr(transfer, "BLOCK_BYTES", 64 * 2 * 37)
    fused(packed, tmp_path / "adapter", tmp_path / "out", "none")
    after = load_tensors(tmp_path / "out")
    assert not [name for name in after if name.endswith(".scales")]
    for module, numbers in exact(packed, values, SCALE, tmp_path / "dense").items():
        got = np.array(after[f"{module}.weight"].astype(mx.float32))
        assert_close(got, numbers, 2**-7 * np.abs(numbers).max(), module)  # bfloat16, twice


@pytest.mark.parametrize("per_expert", [False, True])
def test_a_dense_model_computes_as_with_the_adapter_applied(
    tmp_path: Path, per_expert: bool
) -> None:
    base = write_checkpoint(tmp_path / "base", SIZES, per_expert=per_expert, strays=True)
    write_adapter(tmp_path / "adapter", base, scale=SCALE)
    fused(base, tmp_path / "adapter", tmp_path / "out")
    checked = check_fused(*given(base, tmp_path / "adapter"), tmp_path / "out")
    logits = checked.logits
    assert max(logits.encoder, logits.decoder, logits.conditioned) < 2e-5
    assert (checked.weights.modules, logits.same_choice) == (22, logits.positions)
    assert checked.weights.lost < 1e-5


def given(base: Path, adapter: Path, quantize: str = "keep") -> tuple[Any, Any]:
    opened = open_adapter(adapter, base)
    return fuse_plan(open_checkpoint(base), opened, quantize), opened


def test_a_dense_model_may_be_packed_on_the_way(tmp_path: Path, dense: Path) -> None:
    write_adapter(tmp_path / "adapter", dense, scale=SCALE)
    fused(dense, tmp_path / "adapter", tmp_path / "out", "8bit")
    assert read_config(tmp_path / "out").quantization is not None
    checked = check_fused(*given(dense, tmp_path / "adapter", "8bit"), tmp_path / "out")
    assert 0 < checked.weights.relative_rms < checked.weights.limit


def test_packed_again_it_is_within_what_packing_explains(tmp_path: Path, packed: Path) -> None:
    write_adapter(tmp_path / "adapter", packed, scale=SCALE)
    fused(packed, tmp_path / "adapter", tmp_path / "out")
    seen: list[tuple[int, ...]] = []
    checked = check_fused(
        *given(packed, tmp_path / "adapter"), tmp_path / "out", lambda *at: seen.append(at)
    )
    assert seen == [(n, 4) for n in (1, 2, 3, 4)]
    assert 0 < checked.weights.relative_rms < checked.weights.limit
    assert 0 < checked.weights.lost < 1
    for name in ("tokenizer.json", "chat_template.jinja", "processor_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (packed / name).read_bytes()


def test_the_check_finds_a_module_that_is_not_the_sum(tmp_path: Path, packed: Path) -> None:
    """Another adapter in its weights, as a fault of packing would leave it."""
    write_adapter(tmp_path / "adapter", packed, ["mlp"], scale=SCALE)
    write_adapter(tmp_path / "other", packed, ["mlp"], scale=-2.0)
    fused(packed, tmp_path / "other", tmp_path / "out")
    with raises(ConvertError, "model.decoder.layers.0.mlp.gate_proj ... relative RMS error"):
        check_fused(*given(packed, tmp_path / "adapter"), tmp_path / "out")


def test_packing_twice_is_refused(tmp_path: Path, packed: Path) -> None:
    write_adapter(tmp_path / "adapter", packed)
    with raises(SettingsError, "quantize is 8bit ... packed already ... keep or none"):
        given(packed, tmp_path / "adapter", "8bit")


def test_a_fused_folder_is_another_model(tmp_path: Path, packed: Path) -> None:
    """The same adapter would be added twice; also when it was converted again in between."""
    adapter = tmp_path / "adapter"
    write_adapter(adapter, packed, scale=SCALE)
    fused(packed, adapter, tmp_path / "out")
    (listed,) = json.loads((tmp_path / "out/conversion.json").read_text())["adapters"]
    with raises(CheckpointError, "trained on 'packed' ... weights ... out", most=500):
        open_adapter(adapter, tmp_path / "out")
    write_adapter(tmp_path / "second", tmp_path / "out")
    fused(tmp_path / "out", tmp_path / "second", tmp_path / "twice")
    assert json.loads((tmp_path / "twice/conversion.json").read_text())["adapters"][0] == listed
    with raises(CheckpointError, "trained on 'out' ... weights", most=500):
        open_adapter(tmp_path / "second", packed)
    open_adapter(adapter, packed)


def test_shards_of_another_adapter_are_made_again(tmp_path: Path, packed: Path) -> None:
    for name, rank in (("one", 2), ("two", 3)):
        write_adapter(tmp_path / name, packed, rank=rank)
    plans = [given(packed, tmp_path / name)[0] for name in ("one", "one", "two")]
    first, again, other = map(fingerprint, plans)
    assert first == again != other


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(tmp_path / "adapter", packed, scale=SCALE)
    append = ShardWriter._append

    def full(self: ShardWriter, data: memoryview) -> None:
        if self.written > 10_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file))
        append(self, data)

    before = contents(packed)
    with monkeypatch.context() as patched:
        patched.setattr(ShardWriter, "_append", full)
        with raises(ConvertError, "No space left on device ... nothing is left ... make room"):
            fused(packed, tmp_path / "adapter", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    assert contents(packed) == before
    fused(packed, tmp_path / "adapter", tmp_path / "out")
