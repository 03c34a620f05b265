#!/usr/bin/env python3
"""Make the embedded checkpoint from a trained one: scripts/make_tiny_sudoku.py SOURCE OUT

SOURCE is a float32 Hugging Face folder with one model.safetensors. OUT, which must not exist yet,
gets the same tensors stored in float16, config.json with the task that the checkpoint was trained
for, and the other four files byte for byte. config.json keeps saying float32, the dtype of
computation.
MODEL.md is written by hand. One SOURCE always gives the same bytes.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from mlx_diffgemma.checkpoint.config import OWN_KEY
from mlx_diffgemma.checkpoint.files import read_object
from mlx_diffgemma.errors import CheckpointError, DiffGemmaError

COPIED = (
    "generation_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
NEEDED = ("model.safetensors", "config.json", *COPIED)
PURPOSE = {"task": "sudoku", "modes": ["diffusion"]}
HALF_ULP = 2.0**-11  # of a normal number: the most that rounding to float16 moves it


def to_half(name: str, tensor: NDArray[np.float32]) -> tuple[NDArray[np.float16], float]:
    """`tensor` in float16 and the largest difference made; CheckpointError if beyond rounding.

    The difference is held against the tensor's largest magnitude: a few values near zero may turn
    subnormal and lose bits that do not matter, a whole tensor that small may not.
    """
    if tensor.dtype != np.float32:
        raise CheckpointError(
            f"{name}: dtype {tensor.dtype}, expected float32; take the folder as trained."
        )
    with np.errstate(over="ignore"):
        half = tensor.astype(np.float16)
    largest = float(np.abs(tensor).max())
    if not np.isfinite(half).all():
        raise CheckpointError(
            f"{name}: magnitude {largest:.4g}, float16 ends at 65504; keep it in float32."
        )
    error = float(np.abs(half.astype(np.float32) - tensor).max())
    if error > HALF_ULP * largest:
        raise CheckpointError(
            f"{name}: float16 moves it by {error:.3g}, expected at most {HALF_ULP * largest:.3g}; "
            "rescale it."
        )
    return half, error


def write_half(source: Path, folder: Path) -> str:
    """Write the float16 copy of `source` into the empty `folder`; one line about it."""
    halves = {
        name: to_half(name, tensor)
        for name, tensor in load_file(source / "model.safetensors").items()
    }
    weights = folder / "model.safetensors"
    # save_file would leave a file that only its owner can read, and this one goes into a package
    weights.write_bytes(save({name: half for name, (half, _) in halves.items()}, {"format": "pt"}))
    for name in COPIED:
        (folder / name).write_bytes((source / name).read_bytes())
    config = read_object(source / "config.json") | {OWN_KEY: PURPOSE}
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    worst = max(halves, key=lambda name: halves[name][1])
    parameters = sum(half.size for half, _ in halves.values())
    return (
        f"{len(halves)} tensors, {parameters:,} numbers, {weights.stat().st_size:,} bytes; "
        f"float16 moved a weight by {halves[worst][1]:.2e} at most ({worst})"
    )


def make(source: Path, out: Path) -> str:
    """Make `out` from `source`, whole or not at all; one line about it."""
    if out.exists():
        raise CheckpointError(f"{out}: there already; name a new folder or delete this one.")
    for name in NEEDED:
        if not (source / name).is_file():
            raise CheckpointError(
                f"{source / name}: no such file; SOURCE must be a whole checkpoint folder."
            )
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        folder = Path(scratch) / out.name  # inside: the scratch folder is private to its owner
        folder.mkdir()
        summary = write_half(source, folder)
        folder.rename(out)
    return f"{out}: {summary}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Copy a small float32 checkpoint folder with float16 weights."
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="float32 Hugging Face folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make; must not exist")
    arguments = parser.parse_args()
    try:
        print(make(arguments.source, arguments.out))
    except (DiffGemmaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
