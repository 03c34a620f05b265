#!/usr/bin/env python3
"""Canvases a second that training takes here: scripts/bench/training.py --json FILE

Gradients of the objective on random text with the embedded tiny-chat, for an adapter of rank 8 and
for all weights, in turn; the update of the weights is left out. Rates are of processor time, which
other processes disturb less than the clock, and of the clock. One thread multiplies.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy

import mlx.core as mx
import numpy as np
from report import environment

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.hub import find_model
from mlx_diffgemma.finetune.lora import DEFAULT_RANK, DEFAULT_SCALE, initial, select
from mlx_diffgemma.finetune.objective import Batch, Objective
from mlx_diffgemma.finetune.parameters import Trained, TrainedAdapters, TrainedWeights, Values
from mlx_diffgemma.finetune.whole import read_weights

Seconds = tuple[float, float]  # of the processor, of the clock


def random_batch(examples: int, each: int, length: int, canvas: int, vocab: int) -> Batch:
    """Examples of one length whose last canvas is denoised, `each` times."""
    rng, count = np.random.default_rng(0), examples * each
    ids = rng.integers(20, vocab, (examples, length)).astype(np.int32)
    weights = np.full((examples, length), 1 / (examples * (length - 1)), np.float32)
    weights[:, -1] = 0
    return Batch(
        ids=ids,
        next_weights=weights,
        clean=np.repeat(ids[:, -canvas:], each, axis=0),
        noisy=rng.integers(0, vocab, (count, canvas)).astype(np.int32),
        starts=np.full(count, length - canvas, np.int32),
        conditioned=np.arange(count) % 2 == 0,
        levels=np.full(count, 0.5, np.float32),
        canvas_weights=np.full((count, canvas), 1 / (count * canvas), np.float32),
    )


def gradients_of(trained: Trained, values: Values, batch: Batch) -> Callable[[], object]:
    """A function that computes the losses and all gradients once."""
    gradient = mx.value_and_grad(lambda values: Objective()(trained, values, batch).total)
    return lambda: mx.eval(gradient(dict(values)))


def timed(function: Callable[[], object]) -> Seconds:
    processor, clock = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - processor, time.perf_counter() - clock


def ways(batch: Batch) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    folder = find_model("tiny-chat").folder
    model, weights = dg.load_model(folder), read_weights(folder)
    modules = select(model.config)
    adapters = TrainedAdapters(model, modules, DEFAULT_SCALE)
    own = initial(model.config, modules, DEFAULT_RANK, 0)
    whole = TrainedWeights(model.config, tuple(weights))
    return {
        "adapters": gradients_of(adapters, own, batch),
        "all weights": gradients_of(whole, weights, batch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("examples", 4), ("each", 4), ("length", 200), ("rounds", 8)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"[{default}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures")
    args = parser.parse_args()
    canvases = args.examples * args.each
    functions = ways(random_batch(args.examples, args.each, args.length, 64, 128))
    samples: dict[str, list[Seconds]] = {name: [] for name in functions}
    for round_ in range(args.rounds + 1):
        for name, function in functions.items():
            seconds = timed(function)
            if round_:  # the first one makes tables
                samples[name].append(seconds)
    for name, taken in samples.items():
        processor, clock = ([canvases / one[at] for one in taken] for at in (0, 1))
        print(
            f"{name}: {statistics.median(processor):.1f} canvases a second of the processor "
            f"({min(processor):.1f} - {max(processor):.1f}), {statistics.median(clock):.1f} of the "
            "clock"
        )
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k != "json"}
        content = {"settings": settings, "seconds": samples, **environment("mlx", "numpy")}
        args.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
