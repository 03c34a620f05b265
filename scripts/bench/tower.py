#!/usr/bin/env python3
"""Time and memory of the vision tower at the published width, one layer of its 27 measured.

    .venv/bin/python scripts/bench/tower.py --json scripts/bench/results/NAME.json

A random tower of one layer (hidden 1152, 16 heads of 72, MLP 4304, projection to 2816) reads noise
of 14 x 20 and of 28 x 40 soft tokens: 280 and 1,120, that is 2,520 and 10,080 patches. Measured in
turn are all of it, and the same without its layer: patches, positions, pooling, projection.
Seconds are those of the clock and of the processor. Bytes are MLX's peak over the weights, which
more layers do not raise: one is evaluated before the next begins.
"""

import argparse
import json
import os
import shlex
import sys
import time
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
import numpy as np
from report import environment, progress

from mlx_diffgemma.checkpoint.vision import VisionConfig
from mlx_diffgemma.images.pixels import PATCH_NUMBERS, SIDE, Pixels, Source
from mlx_diffgemma.machine.dtypes import mlx_dtype
from mlx_diffgemma.model.blocks import GatedMLP
from mlx_diffgemma.model.matrices import DenseMatrix
from mlx_diffgemma.model.scores import vision_bytes
from mlx_diffgemma.model.vision import VisionAttention, VisionLayer, VisionTower

HIDDEN = 2816  # of the text network
LAYERS = 27
IMAGES = {280: (14, 20), 1120: (28, 40)}  # rows and columns of soft tokens
REAL = VisionConfig(
    hidden_size=1152,
    intermediate_size=4304,
    num_hidden_layers=1,
    num_attention_heads=16,
    head_dim=72,
    position_embedding_size=10_240,
    rms_norm_eps=1e-6,
    rope_theta=100.0,
    standardize=True,
    soft_tokens=280,
)


def tower(dtype: mx.Dtype) -> VisionTower:
    """A random tower of one layer, its weights evaluated."""
    W, inner, D = REAL.hidden_size, REAL.intermediate_size, REAL.head_dim
    wide = REAL.num_attention_heads * D

    def matrix(outputs: int, inputs: int) -> DenseMatrix:
        made = DenseMatrix((mx.random.normal((outputs, inputs)) * inputs**-0.5).astype(dtype))
        mx.eval(made.right)
        return made

    def ones(size: int) -> mx.array:
        return mx.ones(size, dtype)

    layer = VisionLayer(
        attention=VisionAttention(
            qkv=matrix(3 * wide, W),
            out=matrix(W, wide),
            q_norm=ones(D),
            k_norm=ones(D),
            num_heads=REAL.num_attention_heads,
            eps=REAL.rms_norm_eps,
        ),
        mlp=GatedMLP(matrix(2 * inner, W), matrix(W, inner)),
        input_norm=ones(W),
        attention_norm=ones(W),
        feedforward_norm=ones(W),
        output_norm=ones(W),
        eps=REAL.rms_norm_eps,
    )
    table = mx.random.normal((2, REAL.position_embedding_size, W)).astype(dtype)
    made = VisionTower(
        REAL,
        matrix(W, PATCH_NUMBERS),
        table,
        [layer],
        mx.zeros(W, dtype),
        ones(W),
        matrix(HIDDEN, W),
        dtype,
    )
    mx.eval(table)
    return made


def noise(soft_tokens: int) -> Pixels:
    rows, columns = IMAGES[soft_tokens]
    shape = (SIDE * rows, SIDE * columns, 3)
    rgb = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return Pixels(rgb, shape[1], shape[0], Source(None, ""))


def measured(read: VisionTower, image: Pixels) -> dict[str, float]:
    """Seconds of the clock and of the processor, the peak over the weights, and what is left."""
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    wall, cpu = time.perf_counter(), time.process_time()
    read(image)
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak_bytes": mx.get_peak_memory() - before,
        "left_bytes": mx.get_active_memory() - before,
    }


def row(soft_tokens: int, dtype: str, rounds: int) -> dict[str, Any]:
    """One size in one dtype: samples with the layer and without it, in turn."""
    made, image = tower(mlx_dtype(dtype)), noise(soft_tokens)
    rest = replace(made, layers=[])
    samples: dict[str, list[dict[str, float]]] = {"whole": [], "rest": []}
    for _ in range(rounds):
        samples["whole"].append(measured(made, image))
        samples["rest"].append(measured(rest, image))
    return {
        "soft_tokens": soft_tokens,
        "patches": 9 * soft_tokens,
        "dtype": dtype,
        "samples": samples,
        "plan_bytes": vision_bytes(REAL, soft_tokens, made.dtype.size),
    }


def line(row: dict[str, Any]) -> str:
    """A row for people; the time of 27 layers and the rest is arithmetic."""
    whole, rest = row["samples"]["whole"], row["samples"]["rest"]
    layer = [one["cpu"] - other["cpu"] for one, other in zip(whole, rest, strict=True)]
    others = median(sample["cpu"] for sample in rest)
    peak = max(sample["peak_bytes"] for sample in whole)
    return (
        f"{row['soft_tokens']:>5} {row['dtype']:<9} layer {median(layer):.1f} s of the processor "
        f"({min(layer):.1f} - {max(layer):.1f}), rest {others:.1f}, with {LAYERS} layers "
        f"{LAYERS * median(layer) + others:.0f}; peak {peak / 1e6:.0f} MB, planned "
        f"{row['plan_bytes'] / 1e6:.0f}"
    )


def main() -> None:
    """Measure, print a line a row, and keep the samples as they come."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--soft-tokens", type=int, nargs="+", choices=IMAGES, default=[*IMAGES])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, nargs="+", default=[3], help="a count for each size")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    content: dict[str, Any] = environment("mlx-diffgemma", "mlx", "numpy")
    content |= {"command": shlex.join(sys.argv), "niceness": os.nice(0), "rows": []}
    for soft_tokens, rounds in zip(options.soft_tokens, cycle(options.rounds)):
        for dtype in options.dtypes:
            progress(f"{soft_tokens} soft tokens in {dtype}")
            content["rows"].append(row(soft_tokens, dtype, rounds))
            content["load_average"] = os.getloadavg()
            print(line(content["rows"][-1]), flush=True)
            if options.json:
                options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
