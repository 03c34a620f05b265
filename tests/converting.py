"""A small checkpoint whose every matrix can be packed, and short ways to convert it."""

import hashlib
from pathlib import Path
from typing import Any

from checkpoints import Sizes

from mlx_diffgemma.convert.plan import Plan, make_plan
from mlx_diffgemma.convert.quantize import RecipeOptions, make_recipe
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.convert.run import Reports, Result, convert

SIZES = Sizes(
    "sf",
    hidden_size=64,
    intermediate_size=64,
    moe_intermediate_size=64,
    head_dim=16,
    vision=True,
)
SMALL_SHARD = 30_000  # bytes; several shards of the checkpoint above
SMALL_FILES = {
    "tokenizer.json": '{"model": {}}',
    "tokenizer_config.json": '{"pad_token": "<pad>"}',
    "chat_template.jinja": "{{ messages }}",
    "processor_config.json": '{"processor_class": "Gemma4Processor"}',
}


def add_small_files(folder: Path) -> Path:
    for name, content in SMALL_FILES.items():
        (folder / name).write_text(content)
    (folder / "README.md").write_text("not copied")
    return folder


def plan_of(
    folder: Path,
    quantize: str = "4bit",
    *,
    requantize: bool = False,
    max_shard_bytes: int = 5_000_000_000,
    **options: Any,
) -> Plan:
    return make_plan(
        open_checkpoint(folder),
        make_recipe(RecipeOptions(quantize, **options)),
        requantize=requantize,
        max_shard_bytes=max_shard_bytes,
    )


def converted(
    folder: Path,
    out: Path,
    quantize: str = "4bit",
    *,
    overwrite: bool = False,
    reports: Reports | None = None,
    **options: Any,
) -> Result:
    return convert(plan_of(folder, quantize, **options), out, overwrite=overwrite, reports=reports)


def contents(folder: Path) -> dict[str, str]:
    """sha256 of every file in a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }
