#!/usr/bin/env python3
"""Count what a denoising step asks of host and GPU, in numbers that do not depend on the machine.

    python scripts/bench/step_counters.py --json scripts/bench/results/NAME.json

A random checkpoint in bfloat16 with the real pattern of 30 layers runs canvases of 256 tokens with
this project's kernels, simulated where there is no Metal device. Counted are the host's waits, the
products with the whole embedding, and the nodes of a decoder pass; only the host's time to build
that pass is measured. README.md in this folder says what each figure includes.
"""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import mlx.core as mx
from checkpoint import Sizes
from counted_canvas import (
    PROMPT,
    FixedNoise,
    dense_rows,
    run_canvas,
    waits,
    write_sure_checkpoint,
)
from engines import Ours
from graphs import as_on_a_gpu, build_seconds, count_nodes, working_nodes
from report import environment, progress
from simulated_gpu import macs_per_device_load, with_kernels

from mlx_diffgemma.kernels import launch
from mlx_diffgemma.machine.device import on_gpu

# Narrow, since all that is counted is the same at any width; the vocabulary is the real one.
SIZES = Sizes(
    canvas=256,
    hidden=64,
    intermediate=64,
    top_k=2,
    heads=4,
    kv_heads=2,
    full_kv_heads=1,
)
BLANKS = 20  # uncertain positions, spread over the canvas


@dataclass(frozen=True)
class Options:
    """The sizes of the checkpoint, and how much is run.

    steps: of a canvas; blanks: its uncertain positions where some rows are dense. depths: numbers
    of layers whose difference gives what a layer adds; graphs: built for one median of the host's
    time; repeats: medians of each depth, in turn.
    """

    sizes: Sizes = SIZES
    steps: int = 6
    blanks: int = BLANKS
    depths: tuple[int, int] = (6, 12)
    graphs: int = 50
    repeats: int = 5

    @property
    def canvases(self) -> dict[str, tuple[int, int]]:
        """The canvases that are run, by how many of their rows are dense: steps and blanks."""
        canvas = self.sizes.canvas
        return {"none": (self.steps, 0), "some": (self.steps, self.blanks), "all": (2, canvas)}


# --- the graph of a decoder pass


@dataclass(frozen=True)
class Graph:
    """Nodes of a decoder pass that are no views, and how often each of our kernels is launched."""

    nodes: int
    launches: Counter[str]


@dataclass(frozen=True)
class Pass:
    """An engine, and the canvas and soft embeddings from which it builds a decoder pass."""

    engine: Ours
    canvas: mx.array
    soft: mx.array

    @staticmethod
    def of(folder: Path, sizes: Sizes) -> "Pass":
        """The checkpoint loaded as on a GPU, and a prompt read with kernels."""
        with with_kernels():
            engine = Ours(folder, PROMPT, dtype=None)
            canvas = mx.arange(sizes.canvas, dtype=mx.int32)
            soft = mx.zeros((1, sizes.canvas, sizes.hidden), engine.model.dtype)
            mx.eval(canvas, soft)
            engine.decoder(canvas, soft)
        return Pass(engine, canvas, soft)

    def graph(self) -> Graph:
        """The graph, traced anew: what is compiled calls a launch only while it is traced."""
        self.engine.forget_traces()
        with _launches() as launches:
            self.engine.decoder(self.canvas, self.soft)()
        nodes = count_nodes(self.engine.decoder(self.canvas, self.soft)())
        return Graph(working_nodes(nodes), launches)

    def milliseconds(self, graphs: int) -> float:
        """Median over so many graphs of the processor time of the thread that builds one."""
        prepare = partial(self.engine.decoder, self.canvas, self.soft)
        return 1000 * statistics.median(
            build_seconds(prepare, time.thread_time) for _ in range(graphs)
        )


@contextmanager
def _launches() -> Iterator[Counter[str]]:
    """The launches of this project's kernels from here on, by name."""
    names: Counter[str] = Counter()
    launched = launch.Kernel.launch

    def run(kernel: launch.Kernel, *args: Any, **kwargs: Any) -> list[mx.array]:
        names[kernel.name] += 1
        return launched(kernel, *args, **kwargs)

    with mock.patch.object(launch.Kernel, "launch", run):
        yield names


@dataclass(frozen=True)
class Graphs:
    """Graphs and medians of the host's milliseconds, by number of layers."""

    graphs: dict[int, Graph]
    milliseconds: dict[int, list[float]]

    def a_layer(self, depths: tuple[int, int]) -> tuple[float, dict[str, float]]:
        """Nodes and launches of our kernels that a layer adds, the mean over a whole pattern."""
        few, many = (self.graphs[depth] for depth in depths)
        layers = depths[1] - depths[0]
        launches = many.launches - few.launches
        return (many.nodes - few.nodes) / layers, {k: n / layers for k, n in launches.items()}


def graphs(passes: dict[int, Pass], options: Options) -> Graphs:
    """Count the graphs of passes by number of layers; measure them in turn."""
    surroundings = with_kernels() if on_gpu() else as_on_a_gpu(kernels=True)
    taken: dict[int, list[float]] = {depth: [] for depth in passes}
    with surroundings:
        made = {depth: each.graph() for depth, each in passes.items()}
        for _ in range(options.repeats):
            for depth, each in passes.items():
                taken[depth].append(each.milliseconds(options.graphs))
    return Graphs(made, taken)


# --- the report


def counters(folder: Path, options: Options) -> dict[str, Any]:
    """All counters; the last key holds what they are made from."""
    sizes = options.sizes
    layers = sorted({*options.depths, sizes.layers})
    progress(f"making checkpoints of {layers} layers and {sizes.vocab:,} tokens")
    passes = {
        depth: Pass.of(write_sure_checkpoint(folder / str(depth), made), made)
        for depth, made in ((depth, replace(sizes, layers=depth)) for depth in layers)
    }
    counted = graphs(passes, options)
    model = passes[sizes.layers].engine.model
    runs = {
        name: run_canvas(model, steps, FixedNoise(blanks))
        for name, (steps, blanks) in options.canvases.items()
    }
    host, dense = waits(runs["none"]), {name: dense_rows(run) for name, run in runs.items()}
    nodes, launches = counted.a_layer(options.depths)
    return {
        "host_round_trips": max(host.steps),
        "dense_products_per_canvas": len(dense["some"].products),
        "graph_nodes": counted.graphs[sizes.layers].nodes,
        "build_ms": round(min(counted.milliseconds[sizes.layers]), 4),
        "launches_per_layer": nodes,
        "macs_per_device_load": macs_per_device_load(),
        "details": {
            "host_round_trips": asdict(host),
            "dense_rows": {name: asdict(rows) for name, rows in dense.items()},
            "graph_nodes": {depth: graph.nodes for depth, graph in counted.graphs.items()},
            "build_ms": counted.milliseconds,
            "kernels_per_layer": launches,
        },
    }


def main() -> None:
    args = _arguments()
    sizes = replace(SIZES, vocab=args.vocab, layers=args.layers)
    options = Options(sizes, steps=args.steps, graphs=args.graphs, repeats=args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        found = counters(Path(folder), options)
    content = {
        **found,
        "command": shlex.join(["scripts/bench/step_counters.py", *sys.argv[1:]]),
        **environment("mlx", "mlx-diffgemma", "numpy"),
        "options": asdict(options),
    }
    text = json.dumps(content, indent=1)
    if args.json and args.json != "-":
        Path(args.json).write_text(f"{text}\n")
    print(text if args.json == "-" else _lines(found))


def _lines(found: dict[str, Any]) -> str:
    """The counters, and where the host waits in a step, a line each."""
    named = {name: value for name, value in found.items() if name != "details"}
    places = found["details"]["host_round_trips"]["places"]
    return "\n".join(f"{name}: {value}" for name, value in {**named, **places}.items())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vocab", type=int, default=SIZES.vocab, help=f"[{SIZES.vocab}]")
    parser.add_argument("--layers", type=int, default=SIZES.layers, help=f"[{SIZES.layers}]")
    parser.add_argument("--steps", type=int, default=6, help="steps of a canvas [6]")
    parser.add_argument("--graphs", type=int, default=50, help="graphs a median is of [50]")
    parser.add_argument("--repeats", type=int, default=5, help="medians of each depth [5]")
    parser.add_argument(
        "--json", nargs="?", const="-", help="file for the object; - or none: standard output"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
