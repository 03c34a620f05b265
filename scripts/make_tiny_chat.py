#!/usr/bin/env python3
"""Make the embedded tiny-chat from a trained one: scripts/make_tiny_chat.py SOURCE OUT

SOURCE is a Hugging Face folder with 16-bit or 32-bit weights. OUT, which must not exist yet, gets
the weights as `convert --quantize 8bit` packs them, config.json with that packing and with the
modes that the checkpoint was trained for, and the other four files byte for byte. config.json
keeps saying float32, the dtype of computation. MODEL.md is written by hand. One SOURCE always
gives the same bytes.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from mlx_diffgemma.checkpoint.config import OWN_KEY
from mlx_diffgemma.checkpoint.files import read_object
from mlx_diffgemma.convert.plan import make_plan
from mlx_diffgemma.convert.quantize import RecipeOptions, make_recipe
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.convert.run import convert
from mlx_diffgemma.errors import CheckpointError, DiffGemmaError

COPIED = (
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
ADDED = {
    "quantization": {"group_size": 64, "bits": 8, "mode": "affine"},
    OWN_KEY: {"modes": ["diffusion", "ar"]},
}


def make(source: Path, out: Path) -> str:
    """Make `out` from `source`, whole or not at all; one line about it."""
    if out.exists():
        raise CheckpointError(f"{out}: there already; name a new folder or delete this one.")
    for name in ("config.json", *COPIED):
        if not (source / name).is_file():
            raise CheckpointError(
                f"{source / name}: no such file; SOURCE must be a whole checkpoint folder."
            )
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        packed, folder = Path(scratch) / "packed", Path(scratch) / out.name
        folder.mkdir()
        made = convert(
            make_plan(open_checkpoint(source), make_recipe(RecipeOptions("8bit"))), packed
        )
        (packed / "model.safetensors").rename(folder / "model.safetensors")
        for name in COPIED:
            (folder / name).write_bytes((source / name).read_bytes())
        config = read_object(source / "config.json") | ADDED
        (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        folder.rename(out)
    size = (out / "model.safetensors").stat().st_size
    return f"{out}: {made.tensor_count} tensors, {size:,} bytes"


def main() -> int:
    parser = argparse.ArgumentParser(description="Pack a small checkpoint folder in 8 bits.")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="Hugging Face folder")
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
