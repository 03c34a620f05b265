#!/usr/bin/env python3
"""The table of docs/finetuning.md: memory and time of a training step on the published weights.

    python scripts/make_training_table.py            # prints the table

Arithmetic, not a measurement: `finetune --plan`'s own sums over the published tensor table, for
the memory that macOS recommends for a GPU (make_memory_table.py), and the chips' arithmetic and
memory at the shares of both that programs reach (model/roofline.py).
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from make_memory_table import a_gpu, gpu_bytes, write_sparse

from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.convert.files import write_shapes_only
from mlx_diffgemma.convert.plan import make_plan
from mlx_diffgemma.convert.quantize import RecipeOptions, make_recipe
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.finetune import plan as plans
from mlx_diffgemma.machine.chips import Chip, find_chip

MACS = (32, 64, 128)  # GiB
CHIPS = (("M4 Pro", 20), ("M4 Max", 40), ("M3 Ultra", 80))
STEPS = (  # rank, examples a batch, tokens of each, checkpointing
    (8, 1, 512, False),
    (8, 1, 512, True),
    (8, 1, 1024, False),
    (8, 1, 1024, True),
    (8, 1, 2048, True),
    (8, 4, 512, False),
    (8, 4, 512, True),
    (8, 4, 1024, True),
    (8, 8, 1024, True),
    (64, 1, 1024, True),
    (64, 4, 1024, True),
)


def main() -> None:
    print("\n".join(table()))


def table() -> Iterator[str]:
    """Markdown lines: a row a step; where it fits, and seconds a step on some chips."""
    chips = [found for name, cores in CHIPS if (found := find_chip(name, cores))]
    fits = [f"{memory} GB ({gpu_bytes(memory) / 1e9:.1f})" for memory in MACS]
    times = [f"{chip.name}, {chip.gpu_cores} cores" for chip in chips]
    head = ("rank", "batch", "tokens", "`--grad-checkpoint`", "GB needed", *fits, *times)
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    with TemporaryDirectory() as source, TemporaryDirectory() as packed, a_gpu():
        folder = write_sparse(Path(source))
        recipe = make_recipe(RecipeOptions("4bit"))
        write_shapes_only(make_plan(open_checkpoint(folder), recipe), Path(packed))
        with patch.object(plans, "on_gpu", lambda: True):
            for step in STEPS:
                yield row(Path(packed), chips, *step)


def row(
    folder: Path, chips: list[Chip], rank: int, batch: int, length: int, checkpoint: bool
) -> str:
    load = plans.load_of(
        read_config(folder), rank=rank, batch=batch, length=length, checkpoint=checkpoint
    )
    made = [
        plans.plan(folder, load, shape_only=True, available=gpu_bytes(MACS[0]), chip=chip)
        for chip in chips
    ]
    needed = made[0].needed_bytes
    fits = ["yes" if needed <= gpu_bytes(memory) else "–" for memory in MACS]
    times = [f"{plan.seconds:.1f} s" for plan in made if plan.seconds is not None]
    checked = "yes" if checkpoint else "–"
    cells = (str(rank), str(batch), f"{length:,}", checked, f"{needed / 1e9:.1f}", *fits, *times)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
