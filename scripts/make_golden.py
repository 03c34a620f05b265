#!/usr/bin/env python3
"""Write tests/golden: results of transformers' own DiffusionGemma on small random checkpoints.

    .venv/bin/python scripts/make_golden.py             write all files
    .venv/bin/python scripts/make_golden.py --check     compute again, compare, write nothing

Needs the reference extra. A checkpoint is not stored: tests/checkpoints.py builds it again from its
seed, and the sha256 of its weights is stored instead. A case is `<name>.safetensors`:

    prompt [L], canvas [C]        token ids
    keys.N, values.N              of encoder layer N, [1, heads, n, D]; sliding layers: the last n
    logits, conditioned [C, V]    of the canvas; conditioned on logits / `temperature`
    starts, renoised, drawn       the noise of a generation of three canvases, [N, ...]
    best, accepted, entropies     of each of its steps, [S, C]; counts [N] is steps a canvas
    tokens                        the committed ones

and its entry in cases.json: sizes, settings, tolerances, and `margin`: the smallest change of any
logit or entropy that would have changed a token. Seeds of the noise are tried until the margin is
large enough for any machine's rounding.

`tower_<name>.safetensors` is a vision tower, its entry in towers.json:

    before.N [n, W], after.N [n, H]   the soft tokens of image N, before and after the projection

`shown_<name>.safetensors` is a prompt with images, its entry in shown.json:

    prompt [L], canvas [C]        token ids; width and height of the images stand in the entry
    keys.N, values.N              as above
    logits, conditioned [C, V]    as above
    causal [C, V]                 logits where `use_bidirectional_attention` is null

`written_<name>.safetensors` is what mode ar computes, its entry in written.json:

    prompt [L]                    token ids
    logits [N, V]                 of the token behind each of the last N: encoder, norm and head

tests/assets/data/seen.npz is what tiny-sudoku sees in pictures [N, h, w, 3]: features [N, 90, H],
and logits and causal [N, C, V] of canvases [N, C] behind the prompt [L]. Only results are written.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

TESTS = Path(__file__).resolve().parents[1] / "tests"
GOLDEN = TESTS / "golden"
SEEN = TESTS / "assets" / "data" / "seen.npz"
TINY_SUDOKU = TESTS.parent / "mlx_diffgemma" / "assets" / "tiny-sudoku"
sys.path[:0] = [str(TESTS), str(TESTS / "reference")]
checkpoints, injected, oracle = map(import_module, ("checkpoints", "injected", "oracle"))

Arrays = dict[str, NDArray[Any]]
Entries = Mapping[str, Any]

ROUNDED = {"margin", "router_gap", "rms_from_float32"}  # of an entry: not the same on every machine
LEAST_MARGIN = 2e-4  # ten times what rounding moves an entropy by
TEMPERATURE = 0.8
TOLERANCES = {"keys_and_values": 2e-5, "logits": 5e-5, "entropies": 5e-5}
SAMPLER = {
    "max_denoising_steps": 10,
    "entropy_bound": 3.0,
    "t_min": 0.4,
    "t_max": 0.8,
    "stability_threshold": 1,
    "confidence_threshold": 0.3,
}
BASE = {"std": 0.03, "residual": 0.3, "sharpness": 8.0}
# Differences from BASE, and from SAMPLER under "sampler".
CASES: dict[str, dict[str, Any]] = {
    "base": {},
    "window": {"sliding_window": 5, "canvas_length": 12, "prompt": 30},
    "roomy": {"sliding_window": 64, "layers": "sfsf", "prompt": 9},
    "one_expert": {"num_experts": 1, "top_k_experts": 1, "final_logit_softcapping": None},
    "edge": {"sliding_window": 20, "prompt": 21, "generates": False},
    "experts": {
        "num_experts": 8,
        "top_k_experts": 3,
        "rotary_fraction": 0.5,
        "residual": 0.2,
        "sampler": {
            "stability_threshold": 2,
            "confidence_threshold": 1.0,
            "max_denoising_steps": 16,
        },
    },
    "heads": {
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
        "num_global_key_value_heads": 1,
        "global_head_dim": 12,
    },
    "per_layer": {"spelling": "per_layer", "layers": "ssssfssssfsf", "query_norm": 0.2},
    "stored_bfloat16": {"dtype": "bfloat16", "hidden_size": 40, "vision": True},
    "two_slices": {"vocab_size": 4500, "canvas_length": 6, "layers": "sf", "sharpness": 14.0},
    "stops": {"stop_at": 11, "sampler": {"max_tokens": 21}},
    "lively": {"std": None, "residual": 1.0, "sharpness": 1.0, "generates": False},
    "sixteen_bits": {
        "std": None,
        "residual": 1.0,
        "sharpness": 1.0,
        "hidden_size": 64,
        "top_k_experts": 4,
        "dtype": "bfloat16",
        "generates": False,
        "rounded": True,
    },
}

TOWER_TOLERANCES = {"before": 5e-5, "after": 1e-5}  # values to 21, and to 3
# What vision_config has otherwise; the images by width and height in soft tokens.
TOWERS: dict[str, tuple[dict[str, Any], list[tuple[int, int]]]] = {
    "base": ({}, [(1, 1), (3, 2), (2, 5)]),
    "plain": (
        {"standardize": False, "hidden_size": 20, "num_attention_heads": 3, "head_dim": 4},
        [(4, 3)],
    ),
    "long": ({"head_dim": 12, "num_hidden_layers": 3}, [(32, 1), (1, 32)]),
    "one_head": (
        {
            "num_attention_heads": 1,
            "head_dim": 20,
            "rope_parameters": {"rope_type": "default", "rope_theta": 20.0},
            "rms_norm_eps": 1e-3,
        },
        [(5, 5)],
    ),
}

SHOWN_TOLERANCES = {"keys_and_values": 5e-5, "logits": 1e-4}
# What a network has otherwise, and its prompt: numbers of text tokens, and images as above.
SHOWN: dict[str, tuple[dict[str, Any], list[int | tuple[int, int]]]] = {
    "one": ({}, [6, (2, 2), 5]),
    "several": ({"layers": "sfsf"}, [4, (3, 2), 1, (1, 1), 3, (2, 4), 7]),
    "longer_than_the_window": ({"layers": "fssf", "sliding_window": 5}, [3, (4, 3), 4]),
    "extended": ({"layers": "sfsf", "sliding_window": 6}, [5, (3, 3), 9, (4, 2), 2]),
    "at_both_ends": ({"sliding_window": 3, "layers": "fsf"}, [(2, 3), 2, (5, 1)]),
    "alone": ({"layers": "sff", "head_dim": 12}, [(5, 4)]),
}

# Prompts longer than the window, whose last tokens are read one by one.
ROWS = 12
WRITTEN: dict[str, dict[str, Any]] = {
    "window": {},
    "per_layer": {
        "spelling": "per_layer",
        "layers": "sssssf",
        "num_experts": 8,
        "top_k_experts": 3,
        "sharpness": 3.0,
    },
}
LEAST_ROUTER_GAP = 1e-4  # ten times what rounding moves an expert's score by


def make_case(name: str, folder: Path) -> tuple[dict[str, Any], Arrays]:
    """One case: its entry in cases.json and its arrays."""
    given = dict(CASES[name])
    dtype, length = given.pop("dtype", "float32"), given.pop("prompt", 21)
    sampler = {**SAMPLER, **given.pop("sampler", {})}
    options = {key: given.pop(key, None) for key in ("generates", "stop_at", "rounded")}
    sizes = checkpoints.Sizes(**{**BASE, **given})
    tensors = checkpoints.random_tensors(sizes)
    checkpoints.write_checkpoint(folder, sizes, tensors=tensors, dtype=dtype)
    reference = oracle.Oracle(folder)
    arrays = encoded(reference, sizes, length)
    entry = {
        "sizes": asdict(sizes),
        "dtype": dtype,
        "sha256": checkpoints.fingerprint(tensors),
        "temperature": TEMPERATURE,
        "tolerances": TOLERANCES,
    }
    if options["rounded"]:
        entry["rms_from_float32"] = rounded(folder, arrays)
    if options["generates"] is not False:
        sampler = {"max_tokens": 3 * sizes.canvas_length, **sampler}
        stop_at, margin, seed = options["stop_at"], 0.0, -1
        while margin < LEAST_MARGIN:
            seed += 1
            generation, margin = generated(reference, arrays["prompt"], sampler, stop_at, seed)
        arrays |= generation
        stop_ids = [] if stop_at is None else [int(generation["tokens"][-1])]
        entry |= {"sampler": sampler, "stop_ids": stop_ids, "noise_seed": seed, "margin": margin}
    return entry, arrays


def encoded(
    reference: Any, sizes: Any, length: int, images: Sequence[tuple[int, NDArray[np.uint8]]] = ()
) -> Arrays:
    """Prompt, canvas, a few layers' keys and values, and the logits of the canvas.

    images: each with the index of the prompt where its run begins.
    """
    arrays = {
        name: np.floor((checkpoints.uniform((count,), key) + 1) / 2 * sizes.text_ids)
        for name, count, key in (("prompt", length, 51), ("canvas", sizes.canvas_length, 52))
    }
    arrays = {name: ids.astype(np.int32) for name, ids in arrays.items()}
    for at, image in images:
        arrays["prompt"][at : at + image.shape[0] * image.shape[1] // 48**2] = sizes.image_ids[1]
    cache = reference.encode(arrays["prompt"].tolist(), images=[image for _, image in images])
    last = len(sizes.layers) - 1
    for layer in sorted({0, last // 2, last}):
        keys, values = reference.keys_and_values(cache, layer)
        arrays |= {f"keys.{layer}": keys, f"values.{layer}": values}
    arrays["logits"] = reference.logits(arrays["canvas"], cache)
    processed = arrays["logits"] / np.float32(TEMPERATURE)
    arrays["conditioned"] = reference.logits(arrays["canvas"], cache, processed)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def rounded(folder: Path, arrays: Arrays) -> dict[str, float]:
    """Root mean square of the change that 16 bits make to the reference's own logits."""
    distance = {}
    for dtype in ("bfloat16", "float16"):
        reference = oracle.Oracle(folder, getattr(oracle.torch, dtype))
        got = reference.logits(arrays["canvas"], reference.encode(arrays["prompt"].tolist()))
        distance[dtype] = float(np.sqrt(np.square(got - arrays["logits"]).mean()))
    return distance


def generated(
    reference: Any,
    prompt: NDArray[np.int32],
    sampler: Mapping[str, Any],
    stop_at: int | None,
    seed: int,
) -> tuple[Arrays, float]:
    """A generation's noise, steps and tokens, and its margin."""
    noise = injected.injected_noise(
        seed,
        -(-sampler["max_tokens"] // reference.canvas_length),
        sampler["max_denoising_steps"],
        reference.canvas_length,
        reference.vocab_size,
    )
    trace = reference.generate(prompt.tolist(), noise, **sampler)
    if stop_at is not None:
        stop_ids = [trace.tokens[stop_at]]
        trace = reference.generate(prompt.tolist(), noise, stop_ids=stop_ids, **sampler)
    steps = trace.steps
    return {
        "starts": noise.starts,
        "renoised": noise.renoised,
        "drawn": noise.drawn,
        "best": np.stack([step.best for step in steps]).astype(np.int32),
        "accepted": np.stack([step.accepted for step in steps]),
        "entropies": np.stack([step.entropies for step in steps]),
        "counts": np.bincount([step.canvas for step in steps]).astype(np.int32),
        "tokens": np.array(trace.tokens, np.int32),
    }, min(step.margin for step in steps)


def make_tower(name: str, folder: Path) -> tuple[dict[str, Any], Arrays]:
    """One tower: its entry in towers.json and its arrays."""
    tower, images = TOWERS[name]
    sizes = checkpoints.Sizes("f", vision=True, tower=tower)
    tensors = checkpoints.random_tensors(sizes)
    checkpoints.write_checkpoint(folder, sizes, tensors=tensors)
    pixels = [checkpoints.random_image(*size, key) for key, size in enumerate(images)]
    arrays: Arrays = {}
    for number, (before, after) in enumerate(oracle.Oracle(folder).soft_tokens(pixels)):
        arrays |= {f"before.{number}": before.copy(), f"after.{number}": after.copy()}
    entry = {
        "sizes": asdict(sizes),
        "images": images,
        "sha256": checkpoints.fingerprint(tensors),
        "tolerances": TOWER_TOLERANCES,
    }
    return entry, arrays


def make_shown(name: str, folder: Path) -> tuple[dict[str, Any], Arrays]:
    """One prompt with images: its entry in shown.json and its arrays."""
    given, parts = SHOWN[name]
    sizes = checkpoints.Sizes(vision=True, **given)
    tensors = checkpoints.random_tensors(sizes)
    checkpoints.write_checkpoint(folder, sizes, tensors=tensors)
    images: list[tuple[int, NDArray[np.uint8]]] = []
    length = 0
    for part in parts:
        if isinstance(part, int):
            length += part
        else:
            images.append((length, checkpoints.random_image(*part, len(images))))
            length += part[0] * part[1]
    arrays = encoded(oracle.Oracle(folder), sizes, length, images)
    unsay = {"use_bidirectional_attention": None}
    checkpoints.edit_config(folder, lambda config: config["text_config"].update(unsay))
    arrays["causal"] = encoded(oracle.Oracle(folder), sizes, length, images)["logits"]
    entry = {
        "sizes": asdict(sizes),
        "images": [part for part in parts if not isinstance(part, int)],
        "sha256": checkpoints.fingerprint(tensors),
        "temperature": TEMPERATURE,
        "tolerances": SHOWN_TOLERANCES,
    }
    return entry, arrays


def make_written(name: str, folder: Path) -> tuple[dict[str, Any], Arrays]:
    """One prompt of mode ar: its entry in written.json and its arrays."""
    sizes = checkpoints.Sizes(**WRITTEN[name])
    tensors = checkpoints.random_tensors(sizes)
    checkpoints.write_checkpoint(folder, sizes, tensors=tensors)
    reference, gap, key = oracle.Oracle(folder), 0.0, 60
    while gap < LEAST_ROUTER_GAP:
        key += 1
        words = checkpoints.uniform((3 * sizes.sliding_window,), key)
        prompt = np.floor((words + 1) / 2 * sizes.vocab_size).astype(np.int32)
        gap = reference.router_gap(prompt.tolist())
    entry = {
        "sizes": asdict(sizes),
        "sha256": checkpoints.fingerprint(tensors),
        "tolerances": {"logits": TOLERANCES["logits"]},
        "router_gap": gap,
    }
    logits = reference.next_logits(prompt.tolist())[-ROWS:]
    return entry, {"prompt": prompt, "logits": np.ascontiguousarray(logits)}


def seen() -> Arrays:
    """What the reference makes of the pictures in seen.npz, and those pictures."""
    arrays = dict(np.load(SEEN))
    reference = oracle.Oracle(TINY_SUDOKU)
    pictures, prompt = list(arrays["pictures"]), arrays["prompt"].tolist()
    arrays["features"] = np.stack([after for _, after in reference.soft_tokens(pictures)])
    for name, attention in (("logits", "vision"), ("causal", None)):
        reference.model.config.text_config.use_bidirectional_attention = attention
        arrays[name] = np.stack(
            [
                reference.logits(canvas, reference.encode(prompt, images=[picture]))
                for canvas, picture in zip(arrays["canvas"], pictures, strict=True)
            ]
        )
    return arrays


# A kind of case by the file of its entries: how the names of its arrays begin, and how it is made.
KINDS: dict[
    str, tuple[str, Iterable[str], Callable[[str, Path], tuple[dict[str, Any], Arrays]]]
] = {
    "cases.json": ("", CASES, make_case),
    "towers.json": ("tower_", TOWERS, make_tower),
    "shown.json": ("shown_", SHOWN, make_shown),
    "written.json": ("written_", WRITTEN, make_written),
}


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "numpy")}


def write(lists: Mapping[str, Entries], files: Mapping[str, Arrays]) -> None:
    from safetensors.numpy import save_file

    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*.safetensors"):
        old.unlink()
    for name, arrays in files.items():
        save_file(arrays, GOLDEN / f"{name}.safetensors")
    np.savez_compressed(SEEN, **seen())  # type: ignore[arg-type]
    for file, value in {**lists, "versions.json": versions()}.items():
        (GOLDEN / file).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in GOLDEN.iterdir())
    print(f"wrote {len(files)} cases, {size:,} bytes, to {GOLDEN}")


def compare(lists: Mapping[str, Entries], files: Mapping[str, Arrays]) -> list[str]:
    """Differences from the files, a line each."""
    from safetensors.numpy import load_file

    stored = {file.stem for file in GOLDEN.glob("*.safetensors")}
    lines = [f"{name}: only in one of both" for name in stored ^ set(files)]
    lines += compared_arrays("seen", dict(np.load(SEEN)), seen())
    for file, entries in lists.items():
        lines += compared_entries(file, entries)
    for name in sorted(stored & set(files)):
        lines += compared_arrays(name, load_file(GOLDEN / f"{name}.safetensors"), files[name])
    return lines


def compared_arrays(name: str, stored: Arrays, computed: Arrays) -> list[str]:
    lines = [f"{name}: {key} only in one of both" for key in set(stored) ^ set(computed)]
    for key in sorted(set(stored) & set(computed)):
        lines += differences(f"{name}: {key}", stored[key], computed[key])
    return lines


def compared_entries(file: str, computed: Entries) -> list[str]:
    """Entries that differ, in more than what rounding may change."""
    stored = json.loads((GOLDEN / file).read_text(encoding="utf-8"))
    lines = [f"{file}: {name} is only in one of both" for name in set(stored) ^ set(computed)]
    for name in sorted(set(stored) & set(computed)):
        entry = json.loads(json.dumps(computed[name]))  # so that a tuple is a list on both sides
        for key in sorted((set(stored[name]) | set(entry)) - ROUNDED):
            if stored[name].get(key) != entry.get(key):
                lines.append(f"{file}: {key} of {name} differs")
    return lines


def differences(what: str, stored: NDArray[Any], computed: NDArray[Any]) -> list[str]:
    if stored.shape != computed.shape:
        return [f"{what}: shape {computed.shape}, stored {stored.shape}"]
    largest = np.abs(stored.astype(np.float64) - computed).max(initial=0.0)
    allowed = max(TOLERANCES.values()) if stored.dtype == np.float32 else 0.0
    return [f"{what}: differs by {largest:.3g}, at most {allowed:g}"] if largest > allowed else []


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    lists: dict[str, dict[str, Any]] = {}
    files: dict[str, Arrays] = {}
    for file, (first, names, make) in KINDS.items():
        lists[file] = {}
        for name in names:
            with TemporaryDirectory() as folder:
                entry, arrays = make(name, Path(folder))
            lists[file][name], files[first + name] = entry, arrays
            if not check and (margin := entry.get("margin")):
                print(f"{name}: margin {margin:.1e}, steps {arrays['counts'].tolist()}")
    if not check:
        write(lists, files)
        return 0
    stored = json.loads((GOLDEN / "versions.json").read_text(encoding="utf-8"))
    if stored != versions():
        print(f"made with {stored}, checked with {versions()}")
    lines = compare(lists, files)
    print("\n".join(lines) or f"{len(files)} cases are what the reference computes")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
