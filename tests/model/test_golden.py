"""The network and the loop against tests/golden: the reference's numbers, without the reference.

scripts/make_golden.py says what a file holds and where its tolerances come from.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import (
    DTYPES,
    Sizes,
    edit_config,
    fingerprint,
    random_tensors,
    write_checkpoint,
)
from compare import assert_close
from injected import InjectedNoise
from random_images import random_pixels
from safetensors.numpy import load_file

import mlx_diffgemma as dg
from mlx_diffgemma.images.pixels import Pixels

GOLDEN = Path(__file__).parents[1] / "golden"
CASES: dict[str, Any] = json.loads((GOLDEN / "cases.json").read_text(encoding="utf-8"))
SHOWN: dict[str, Any] = json.loads((GOLDEN / "shown.json").read_text(encoding="utf-8"))
GENERATED = [name for name, entry in CASES.items() if "sampler" in entry]
WRITTEN: dict[str, Any] = json.loads((GOLDEN / "written.json").read_text(encoding="utf-8"))
ENTRIES = CASES | {
    f"{kind}_{name}": entry
    for kind, entries in (("shown", SHOWN), ("written", WRITTEN))
    for name, entry in entries.items()
}
ROUNDED = [name for name, entry in CASES.items() if "rms_from_float32" in entry]
GPU_FACTOR = 10  # a GPU's exponentials and order of summation; a token still cannot change


@dataclass(frozen=True)
class Golden:
    """One case: its entry, its arrays and the folder of its checkpoint, built again."""

    entry: dict[str, Any]
    arrays: dict[str, np.ndarray]
    folder: Path

    def ids(self, name: str) -> list[int]:
        return self.arrays[name].tolist()


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Any:
    def build(name: str) -> Golden:
        if name not in built:
            entry = ENTRIES[name]
            sizes, tensors = sizes_of(entry), random_tensors(sizes_of(entry))
            assert fingerprint(tensors) == entry["sha256"], (
                "other weights than the file was made of"
            )
            folder = tmp_path_factory.mktemp(name)
            write_checkpoint(folder, sizes, tensors=tensors, dtype=entry.get("dtype", "float32"))
            built[name] = Golden(entry, load_file(GOLDEN / f"{name}.safetensors"), folder)
        return built[name]

    built: dict[str, Golden] = {}
    return build


def sizes_of(entry: dict[str, Any]) -> Sizes:
    return Sizes(**entry["sizes"])


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.metal)])
def factor(request: pytest.FixtureRequest) -> Any:
    """What tolerances are multiplied by on a device; what is marked metal runs on the GPU."""
    return 1 if request.param == "cpu" else GPU_FACTOR


@pytest.mark.parametrize("name", CASES)
def test_prefix_and_logits(name: str, golden: Any, factor: float) -> None:
    case: Golden = golden(name)
    model = dg.load_model(case.folder, dtype=mx.float32)
    assert_golden(case, model, model.encode(case.ids("prompt")), factor)


def assert_golden(case: Golden, model: dg.Model, prefix: dg.Prefix, factor: float) -> None:
    """Keys and values of a prefix, and logits of a canvas behind it, also conditioned on them."""
    tolerances, arrays = case.entry["tolerances"], case.arrays
    for key in [key for key in arrays if key.startswith(("keys.", "values."))]:
        what, layer = key.split(".")
        ours, theirs = np.array(getattr(prefix, what)[int(layer)]), arrays[key]
        last = min(ours.shape[2], theirs.shape[2])
        assert last >= min(prefix.length, model.config.text.sliding_window - 1)
        tolerance = tolerances["keys_and_values"] * factor
        assert_close(ours[:, :, -last:], theirs[:, :, -last:], tolerance, key)
    soft = None
    for key in ("logits", "conditioned"):
        got = model.logits(model.decode(mx.array(arrays["canvas"]), prefix, soft=soft))[0]
        assert_close(got, arrays[key], tolerances["logits"] * factor, key)
        processed = mx.array(arrays["logits"])[None] / case.entry["temperature"]
        soft = model.soft_embedding(processed)


@pytest.mark.parametrize("name", WRITTEN)
def test_next_tokens(name: str, golden: Any, factor: float) -> None:
    """In one pass, and token by token behind a prefix that the window has left in part."""
    case: Golden = golden(f"written_{name}")
    model, tokens = dg.load_model(case.folder), case.ids("prompt")
    want, tolerance = case.arrays["logits"], case.entry["tolerances"]["logits"] * factor
    hidden = model.encode_hidden(tokens, model.new_prefix())
    assert_close(model.logits(hidden)[0, -len(want) :], want, tolerance, "one pass")
    prefix = model.encode(tokens[: -len(want)])
    steps = [model.step(token, prefix) for token in tokens[-len(want) :]]
    assert_close(mx.concatenate(steps), want, tolerance, "steps")


# --- with images


def images_of(case: Golden) -> list[Pixels]:
    return [random_pixels(*size, key) for key, size in enumerate(case.entry["images"])]


@pytest.mark.parametrize("name", SHOWN)
def test_prefix_and_logits_with_images(name: str, golden: Any, factor: float) -> None:
    """In one pass, in small chunks, and in two calls, the second with all images but the first."""
    case: Golden = golden(f"shown_{name}")
    model, images = dg.load_model(case.folder, dtype=mx.float32), images_of(case)
    prompt = case.ids("prompt")
    assert_golden(case, model, model.encode(prompt, images=images), factor)
    assert_golden(case, model, model.encode(prompt, images=images, chunk=2), factor)
    behind = prompt.index(model.config.image_token_id) + images[0].soft_tokens
    prefix = model.encode(prompt[:behind], images=images[:1])
    mx.eval(model.decode(mx.array(case.arrays["canvas"]), prefix))
    prefix = model.encode(prompt[behind:], prefix, images=images[1:])
    assert_golden(case, model, prefix, factor)


@pytest.mark.parametrize("name", SHOWN)
def test_causal_images(name: str, golden: Any, factor: float, tmp_path: Path) -> None:
    """With use_bidirectional_attention null; one mask's logits are far from the other's."""
    case: Golden = golden(f"shown_{name}")
    copytree(case.folder, tmp_path, dirs_exist_ok=True)
    unsay = {"use_bidirectional_attention": None}
    edit_config(tmp_path, lambda config: config["text_config"].update(unsay))
    model, tolerance = dg.load_model(tmp_path), case.entry["tolerances"]["logits"] * factor
    prefix = model.encode(case.ids("prompt"), images=images_of(case), chunk=3)
    got = np.array(model.logits(model.decode(mx.array(case.arrays["canvas"]), prefix))[0])
    assert_close(got, case.arrays["causal"], tolerance, "causal")
    assert np.abs(got - case.arrays["logits"]).max() > 100 * tolerance


@pytest.mark.parametrize("name", GENERATED)
def test_generation(name: str, golden: Any, factor: float) -> None:
    """Every step of up to three canvases, token for token."""
    case: Golden = golden(name)
    model = dg.load_model(case.folder, dtype=mx.float32)
    model.config = replace(model.config, stop_ids=tuple(case.entry["stop_ids"]))
    noise = InjectedNoise(*(case.arrays[key] for key in ("starts", "renoised", "drawn")))
    settings = dg.Settings(**case.entry["sampler"])
    frames = list(dg.denoise(model, case.ids("prompt"), settings, noise))
    steps = [frame for frame in frames if not frame.committed]
    for step, frame in enumerate(steps):
        where = f"canvas {frame.canvas}, step {frame.step}"
        entropies = case.arrays["entropies"][step]
        assert_close(
            frame.entropies, entropies, case.entry["tolerances"]["entropies"] * factor, where
        )
        assert frame.tokens.tolist() == case.arrays["best"][step].tolist(), where
        assert frame.accepted.tolist() == case.arrays["accepted"][step].tolist(), where
    committed = [frame for frame in frames if frame.committed]
    assert [frame.step + 1 for frame in committed] == case.ids("counts")
    assert np.concatenate([frame.tokens for frame in committed]).tolist() == case.ids("tokens")
    assert frames[-1].finish_reason == ("stop" if case.entry["stop_ids"] else "length")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_in_sixteen_bits(name: str, dtype: str, golden: Any, factor: float) -> None:
    """No further from the reference's float32 logits than 1.5 times its own 16-bit run is."""
    case: Golden = golden(name)
    model = dg.load_model(case.folder, dtype=DTYPES[dtype])
    prefix = model.encode(case.ids("prompt"))
    got = np.array(model.logits(model.decode(mx.array(case.arrays["canvas"]), prefix)))[0]
    distance = np.sqrt(np.square(got - case.arrays["logits"]).mean())
    theirs = case.entry["rms_from_float32"][dtype]
    assert distance <= 1.5 * theirs, f"RMS {distance:.3g}, the reference's own {theirs:.3g}"
    assert distance > 0.1 * theirs, "computed in float32 after all?"


def test_files_and_entries_belong_together() -> None:
    towers = json.loads((GOLDEN / "towers.json").read_text(encoding="utf-8"))
    names = {*ENTRIES, *(f"tower_{name}" for name in towers)}
    assert {file.stem for file in GOLDEN.glob("*.safetensors")} == names
    assert set(json.loads((GOLDEN / "versions.json").read_text())) == {
        "torch",
        "transformers",
        "numpy",
    }
    assert sum(file.stat().st_size for file in GOLDEN.iterdir()) < 3_000_000
