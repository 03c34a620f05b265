#!/usr/bin/env python3
"""Which tokens suffice for a soft embedding: shares of rows by tier, on synthetic rows.

    .venv/bin/python scripts/bench/soft_tiers.py --json scripts/bench/results/NAME.json

Rows are distributions over 262,144 ids whose shares fall as rank^-a, the ids in random order; an
embedding in bfloat16 is a common mean and noise, `--mean` times as long as the noise of a row. Each
row is gathered as it was with one tier of 64 tokens and no mean, and by what came since. "error" is
the largest distance of a gathered soft embedding from the float64 product, in half ulps of the
length of that product: the bound grants what is left out 1, and roundings about as much again.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from report import environment, progress, write_json

from mlx_diffgemma.checkpoint.tensors import StoredWeight
from mlx_diffgemma.kernels.soft_gather.tiers import PRODUCT
from mlx_diffgemma.model.soft_gather import HALF_ULP, Table, gather, measured

DTYPE = mx.bfloat16
EXPONENTS = np.arange(1.5, 2.76, 0.0625)
Floats = NDArray[np.float64]


def main() -> None:
    args = _arguments()
    random = np.random.default_rng(args.seed)
    tables = ways(embedding(args, random))
    found: dict[str, dict[str, Any]] = {}
    for exponent in EXPONENTS.tolist():
        progress(f"exponent {exponent}")
        found[str(exponent)] = by_tier(rows_of(exponent, args, random), tables)
    print("exponent", *tables, sep=" | ")
    for exponent, shares in found.items():
        print(exponent, *(f"{way['rows']} {way['error']}" for way in shares.values()), sep=" | ")
    if args.json:
        given = {name: value for name, value in vars(args).items() if name != "json"}
        content = {
            "command": shlex.join(["scripts/bench/soft_tiers.py", *sys.argv[1:]]),
            **environment("mlx", "numpy", "mlx-diffgemma"),
            **given,
            "rows_by_exponent": found,
        }
        write_json(args.json, content, [])


def embedding(args: argparse.Namespace, random: np.random.Generator) -> StoredWeight:
    """An embedding [V, H]: a mean of `--mean` times the length of a row's noise, and the noise."""
    mean = random.standard_normal(args.width, np.float32) * args.mean
    noise = random.standard_normal((args.vocab, args.width), np.float32)
    return StoredWeight(mx.array(mean + noise).astype(DTYPE))


def ways(stored: StoredWeight) -> dict[str, Table]:
    """The embedding with and without its mean, and with one tier and two."""
    centred = measured(stored, DTYPE, stored.shape[1] ** 0.5)
    zero = mx.zeros_like(centred.mean)
    plain = replace(centred, mean=zero, largest_distance=centred.largest_norm)
    few = centred.kept[:1]
    return {
        "64, no mean": replace(plain, kept=few),
        "64": replace(centred, kept=few),
        "64 and 1,024, no mean": plain,
        "64 and 1,024": centred,
    }


def rows_of(exponent: float, args: argparse.Namespace, random: np.random.Generator) -> mx.array:
    """Processed logits [R, V] in the dtype."""
    logits = -exponent * np.log(np.arange(1, args.vocab + 1))
    rows = [random.permutation(logits) for _ in range(args.rows)]
    return mx.array(np.array(rows, np.float32)).astype(DTYPE)


def by_tier(rows: mx.array, tables: Mapping[str, Table]) -> dict[str, Any]:
    """The rows of each tier by each way, and the largest error of a gathered one."""
    exact = product(rows, next(iter(tables.values())))
    size = np.linalg.norm(exact, axis=1)
    found = {}
    for name, table in tables.items():
        soft, _, tier = (np.array(part.astype(mx.float32)) for part in gather(rows, table))
        error = np.linalg.norm(soft - exact, axis=1) / size / HALF_ULP[DTYPE]
        counts = np.bincount(tier.astype(int), minlength=PRODUCT + 1).tolist()
        gathered = error[tier != PRODUCT]
        found[name] = {"rows": counts, "error": round(float(gathered.max(initial=0.0)), 3)}
    return found


def product(rows: mx.array, table: Table) -> Floats:
    """Soft embeddings [R, H] by the whole embedding, in float64."""
    logits = np.array(rows.astype(mx.float32), np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    weight = np.array(table.stored.weight.astype(mx.float32))
    total = np.zeros((rows.shape[0], weight.shape[1]))
    for first in range(0, len(weight), 2**14):
        part = slice(first, first + 2**14)
        total += shares[:, part] @ weight[part].astype(np.float64)
    made: Floats = total / shares.sum(axis=1, keepdims=True) * table.scale
    return made


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vocab", type=int, default=262_144)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--mean", type=float, default=1.0)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
