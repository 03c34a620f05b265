#!/usr/bin/env python3
"""The README's table of Macs: the longest context that each recipe leaves room for.

    python scripts/make_memory_table.py            # prints the table

Arithmetic, not a measurement: the program's own sums over the published tensor table, the memory of
a Mac, and the share of it that macOS recommends for the GPU where nobody has set another limit.
"""

import gzip
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.cli.info.recipes import recipe_plans
from mlx_diffgemma.model import matrices, weighing
from mlx_diffgemma.model.memory import plan_memory, sized

TABLES = Path(__file__).parents[1] / "tests" / "model" / "data" / "published.json.gz"
MEMORIES = (16, 24, 32, 36, 48, 64)  # GiB
SHOWN = ("mxfp4", "4bit", "5bit", "6bit", "8bit")
ITEM_BYTES = 2  # bfloat16, as the checkpoint is published


def main() -> None:
    print("\n".join(table()))


def table() -> Iterator[str]:
    """Markdown lines: a row a Mac, a column a recipe and one for the unpacked checkpoint."""
    with TemporaryDirectory() as name, a_gpu():
        folder = write_sparse(Path(name))
        config = read_config(folder)
        plans = recipe_plans(folder, config, config.dtype)
        shown_plans = [*(plans[recipe].memory for recipe in SHOWN), plan_memory(folder)]
        header = ["Mac", "for the GPU", *(f"`{recipe}`" for recipe in SHOWN), "bfloat16"]
        yield f"| {' | '.join(header)} |"
        yield f"|{' --- |' * len(header)}"
        for memory in MEMORIES:
            gpu = gpu_bytes(memory)
            contexts = [plan.largest_context(gpu) for plan in shown_plans]
            cells = [shown(context, config.canvas_length) for context in contexts]
            yield f"| {' | '.join([f'{memory} GB', sized(gpu), *cells])} |"


@contextmanager
def a_gpu() -> Iterator[None]:
    """Plan as on a Mac's GPU, wherever this runs: nothing is computed."""
    with ExitStack() as stack:
        for module in (matrices, weighing):
            stack.enter_context(patch.object(module, "on_gpu", lambda: True))
        yield


def gpu_bytes(memory: int) -> int:
    """Bytes of `memory` GiB that Metal recommends to use: 2/3 up to 32, 3/4 from 36 on."""
    return memory * 2**30 * 2 // 3 if memory <= 32 else memory * 2**30 * 3 // 4


def shown(context: int | None, canvas_length: int) -> str:
    """A context, or a dash where it holds no canvas."""
    return f"{context:,}" if context and context >= canvas_length else "–"


def write_sparse(folder: Path) -> Path:
    """The published bfloat16 checkpoint without its numbers, in a file that takes no disk."""
    source = json.loads(gzip.decompress(TABLES.read_bytes()))["google"]
    (folder / "config.json").write_text(json.dumps(source["config"]))
    header, end = {}, 0
    for name, (dtype, shape) in source["tensors"].items():
        first, end = end, end + ITEM_BYTES * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [first, end]}
    content = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(8 + len(content) + end)
    return folder


if __name__ == "__main__":
    main()
