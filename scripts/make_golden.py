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
"""

import argparse
import json
import sys
from collections.abc import Mapping
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
sys.path[:0] = [str(TESTS), str(TESTS / "reference")]
checkpoints, injected, oracle = map(import_module, ("checkpoints", "injected", "oracle"))

Arrays = dict[str, NDArray[Any]]

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


def make(name: str, folder: Path) -> tuple[dict[str, Any], Arrays]:
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


def encoded(reference: Any, sizes: Any, length: int) -> Arrays:
    """Prompt, canvas, a few layers' keys and values, and the logits of the canvas."""
    arrays = {
        name: np.floor((checkpoints.uniform((count,), key) + 1) / 2 * sizes.vocab_size)
        for name, count, key in (("prompt", length, 51), ("canvas", sizes.canvas_length, 52))
    }
    arrays = {name: ids.astype(np.int32) for name, ids in arrays.items()}
    cache = reference.encode(arrays["prompt"].tolist())
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


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "numpy")}


def write(entries: Mapping[str, Any], cases: Mapping[str, Arrays]) -> None:
    from safetensors.numpy import save_file

    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*.safetensors"):
        old.unlink()
    for name, arrays in cases.items():
        save_file(arrays, GOLDEN / f"{name}.safetensors")
    for file, value in (("cases.json", entries), ("versions.json", versions())):
        (GOLDEN / file).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in GOLDEN.iterdir())
    print(f"wrote {len(cases)} cases, {size:,} bytes, to {GOLDEN}")


def compare(entries: Mapping[str, Any], cases: Mapping[str, Arrays]) -> list[str]:
    """Differences from the files, a line each."""
    from safetensors.numpy import load_file

    stored = json.loads((GOLDEN / "cases.json").read_text(encoding="utf-8"))
    lines = [f"{name}: only in one of both" for name in set(stored) ^ set(entries)]
    for name in sorted(set(stored) & set(entries)):
        for key in ("sha256", "sizes", "sampler", "stop_ids", "noise_seed", "dtype", "tolerances"):
            # Through JSON, so that a tuple is a list on both sides.
            if stored[name].get(key) != json.loads(json.dumps(entries[name].get(key))):
                lines.append(f"{name}: {key} differs")
        arrays = load_file(GOLDEN / f"{name}.safetensors")
        lines += [f"{name}: {key} only in one of both" for key in set(arrays) ^ set(cases[name])]
        for key in sorted(set(arrays) & set(cases[name])):
            lines += differences(f"{name}: {key}", arrays[key], cases[name][key])
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
    entries: dict[str, Any] = {}
    cases: dict[str, Arrays] = {}
    for name in CASES:
        with TemporaryDirectory() as folder:
            entries[name], cases[name] = make(name, Path(folder))
        if not check and (margin := entries[name].get("margin")):
            print(f"{name}: margin {margin:.1e}, steps {cases[name]['counts'].tolist()}")
    if not check:
        write(entries, cases)
        return 0
    stored = json.loads((GOLDEN / "versions.json").read_text(encoding="utf-8"))
    if stored != versions():
        print(f"made with {stored}, checked with {versions()}")
    lines = compare(entries, cases)
    print("\n".join(lines) or f"{len(cases)} cases are what the reference computes")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
