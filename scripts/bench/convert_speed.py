#!/usr/bin/env python3
"""Convert a checkpoint of the real width, and compare with mx.quantize alone on the same tensors.

    python scripts/bench/convert_speed.py --json scripts/bench/results/NAME.json

A checkpoint of two layers (one sliding, one full), bfloat16, is made on the spot in a temporary
folder: 5 GB, so that --folder must have 7 GB free. `mlx-diffgemma convert` runs in a process of its
own, in turn with mx.quantize alone: each matrix is loaded and evaluated, then quantised on the
clock. The peak is the converting process's resident memory (VmHWM).
"""

import argparse
import json
import math
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
from report import environment

from mlx_diffgemma.checkpoint.config import FULL, SLIDING, read_config
from mlx_diffgemma.checkpoint.layout import text_shapes
from mlx_diffgemma.convert.pack import to_bytes
from mlx_diffgemma.convert.plan import make_plan
from mlx_diffgemma.convert.quantize import RecipeOptions, make_recipe
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.convert.table import Output
from mlx_diffgemma.convert.write import ShardWriter

WIDTHS = {
    "vocab_size": 262_144,
    "hidden_size": 2816,
    "intermediate_size": 2112,
    "moe_intermediate_size": 704,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "num_global_key_value_heads": 2,
    "head_dim": 256,
    "global_head_dim": 512,
    "num_experts": 128,
    "top_k_experts": 8,
    "sliding_window": 1024,
    "max_position_embeddings": 262_144,
}
ROWS_AT_ONCE = 8192
EXTRA_BYTES = 1_000_000_000  # that the bound allows over the largest tensor, before and after


def write_checkpoint(folder: Path, small: bool) -> None:
    """Write config.json and two shards of normal numbers in bfloat16."""
    sizes = WIDTHS | ({"vocab_size": 4096, "num_experts": 8} if small else {})
    text = {**sizes, "num_hidden_layers": 2, "layer_types": [SLIDING, FULL]}
    config = {
        "model_type": "diffusion_gemma",
        "canvas_length": 256,
        "dtype": "bfloat16",
        "text_config": text,
        "vision_config": None,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    shapes = text_shapes(read_config(folder).text)
    outputs = [Output(name, "BF16", shape, 16) for name, shape in shapes.items()]
    half = len(outputs) // 2
    for number, part in enumerate((outputs[:half], outputs[half:])):
        with closing(ShardWriter(folder / f"model-{number}.safetensors", part)) as writer:
            for output in part:
                _write_normal(writer, output)
            writer.finish()


def _write_normal(writer: ShardWriter, output: Output) -> None:
    rows, width = math.prod(output.shape[:-1]), output.shape[-1]
    for first in range(0, rows, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, rows - first)
        numbers = (mx.random.normal((count, width)) * width**-0.5).astype(mx.bfloat16)
        mx.eval(numbers)
        writer.write(to_bytes(numbers))


def convert(source: Path, out: Path, recipe: str) -> dict[str, Any]:
    """The output of `convert --json` in a process of its own, with the seconds seen from here."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "mlx_diffgemma", "convert", str(source), str(out)]
    began, used = time.perf_counter(), _children_seconds()
    ran = subprocess.run(
        [*command, "--quantize", recipe, "--json"], stdout=subprocess.PIPE, check=True
    )
    result: dict[str, Any] = json.loads(ran.stdout)
    seconds = time.perf_counter() - began
    return result | {"process_seconds": seconds, "cpu_seconds": _children_seconds() - used}


def _children_seconds() -> float:
    """Processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def quantize_alone(source: Path, recipe: str) -> tuple[float, float]:
    """Seconds and processor seconds of mx.quantize over all matrices that are packed."""
    plan = make_plan(open_checkpoint(source), make_recipe(RecipeOptions(recipe)))
    seconds = used = 0.0
    for entry in plan.entries:
        if entry.packing is None:
            continue
        info = plan.source.info(entry.sources[0])
        tensors: dict[str, mx.array] = mx.load(str(info.file))  # type: ignore[assignment]
        weight = tensors[info.name]
        mx.eval(weight)
        packing = entry.packing
        began, busy = time.perf_counter(), time.process_time()
        mx.eval(mx.quantize(weight, packing.group_size, packing.bits, packing.mode))
        seconds += time.perf_counter() - began
        used += time.process_time() - busy
        del weight, tensors
        mx.clear_cache()
    return seconds, used


def measure(folder: Path, recipe: str, repeats: int, small: bool) -> dict[str, Any]:
    """Time conversions and mx.quantize alone, in turn."""
    source = folder / "source"
    source.mkdir()
    write_checkpoint(source, small)
    plan = make_plan(open_checkpoint(source), make_recipe(RecipeOptions(recipe)))
    largest = max(plan.entries, key=lambda entry: entry.num_bytes)
    working_set = largest.num_bytes + sum(output.num_bytes for output in largest.outputs)
    runs, alone = [], []
    for _ in range(repeats):
        runs.append(convert(source, folder / "out", recipe))
        alone.append(quantize_alone(source, recipe))
    seconds = [run["seconds"] for run in runs]
    return {
        "recipe": recipe,
        "source_bytes": plan.source_bytes,
        "tensor_bytes": plan.tensor_bytes,
        "convert_seconds": seconds,
        "process_seconds": [run["process_seconds"] for run in runs],
        "convert_cpu_seconds": [run["cpu_seconds"] for run in runs],
        "quantize_alone_seconds": [wall for wall, _ in alone],
        "quantize_alone_cpu_seconds": [cpu for _, cpu in alone],
        "speed_ratio": median(wall / run for (wall, _), run in zip(alone, seconds, strict=True)),
        "load_average": os.getloadavg(),
        "niceness": os.nice(0),
        "peak_memory_bytes": max(run["peak_memory_bytes"] for run in runs),
        "planned_peak_bytes": plan.peak_bytes,
        "bound_bytes": working_set + EXTRA_BYTES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="where to make the checkpoint; default: temporary"
    )
    parser.add_argument("--recipe", default="4bit")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--small", action="store_true", help="a small vocabulary and few experts: a try"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        figures = measure(Path(folder), arguments.recipe, arguments.repeats, arguments.small)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        about = {"command": shlex.join(sys.argv), **environment("mlx", "numpy")}
        arguments.json.write_text(json.dumps(about | figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
