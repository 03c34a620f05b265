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
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import mlx.core as mx
import numpy as np
from checkpoint import EMBEDDING, EMBEDDING_STD, Sizes, narrow_checkpoint, write_checkpoint
from engines import Ours
from graphs import as_on_a_gpu, build_seconds, count_nodes, working_nodes
from report import environment, progress
from round_trips import RoundTrips, counted
from simulated_gpu import SIMULATOR, with_kernels

import mlx_diffgemma as dg
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.kernels import launch
from mlx_diffgemma.machine.device import on_gpu
from mlx_diffgemma.model.embedding import AnyTable

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
PROMPT = 20  # tokens
SURE_STD = 0.4  # of the embedding: a token's own logit is far above all others
ADDED = 0.1  # of what the layers add: the network predicts the tokens that it sees
UPDATES = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
BLANK = 64  # first ids, whose embedding is 0: nothing is known of a position with one
SOME = 20  # positions with a blank token, spread over the canvas
PRODUCT_ROWS = 64  # of a product of dense rows, at most


@dataclass(frozen=True)
class Options:
    """The sizes of the checkpoint, and how much is run.

    steps: of a canvas; depths: numbers of layers, the first two of which give what a layer adds;
    graphs: built for one median of the host's time; repeats: medians of each depth, in turn.
    """

    sizes: Sizes = SIZES
    steps: int = 5
    some: int = SOME
    depths: tuple[int, int] = (6, 12)
    graphs: int = 50
    repeats: int = 5


# --- the checkpoint and its canvases


def write_sure_checkpoint(folder: Path, sizes: Sizes) -> Path:
    """A checkpoint in bfloat16 that believes what it sees, and knows nothing of blank tokens."""
    dense, narrow = folder / "float32", folder / "bfloat16"
    dense.mkdir(parents=True)
    write_checkpoint(dense, sizes)
    narrow_checkpoint(dense, narrow, _sure)
    return narrow


def _sure(name: str, array: mx.array) -> mx.array:
    if name == EMBEDDING:
        blank = mx.arange(array.shape[0])[:, None] < BLANK
        return mx.where(blank, 0.0, array * (SURE_STD / EMBEDDING_STD))
    return array * ADDED if name.endswith(UPDATES) else array


@dataclass(frozen=True)
class FixedNoise:
    """Noise with a blank token at so many positions, evenly spread, and sure ones at the others."""

    blanks: int

    def canvas(self, canvas: int, length: int, vocab: int) -> mx.array:
        return self._ids(length, vocab)

    def renoise(self, canvas: int, step: int, length: int, vocab: int) -> mx.array:
        return self._ids(length, vocab)

    def uniforms(self, canvas: int, step: int, length: int) -> mx.array:
        return CounterNoise(0).uniforms(canvas, step, length)

    def _ids(self, length: int, vocab: int) -> mx.array:
        at = np.arange(length)
        blank = at * self.blanks // length != (at + 1) * self.blanks // length
        ids = np.where(blank, at % BLANK, BLANK + at % (vocab - BLANK))
        return mx.array(ids.astype(np.int32))


# --- a canvas, step by step


@dataclass(frozen=True)
class Interval:
    """All that happened until a frame was handed out, since the one before was.

    dense_rows: of the frame; waits: of the host, by place; products: the rows of each product with
    the whole embedding.
    """

    dense_rows: int
    committed: bool
    waits: Counter[str]
    products: tuple[int, ...]


def run_canvas(model: dg.Model, steps: int, noise: dg.Noise) -> list[Interval]:
    """One canvas of exactly so many steps, counted; the last interval is the commit's."""
    settings = dg.Settings(
        max_tokens=model.config.canvas_length,
        max_denoising_steps=steps,
        seed=0,
        entropy_bound=1e-9,  # no draw at a blank position is kept: each step has as many
        t_min=0.40,
        t_max=0.41,
        stability_threshold=steps,
    )
    prompt = [BLANK + number for number in range(PROMPT)]
    with with_kernels(), _products() as products, counted([SIMULATOR]) as trips:
        frames = dg.denoise(model, prompt, settings, noise)
        intervals = [_interval(frame, trips, products) for frame in frames]
    ran = sum(not interval.committed for interval in intervals)
    if ran != steps:
        raise SystemExit(f"the canvas took {ran} steps, expected {steps}: nothing was counted.")
    return intervals


def _interval(frame: dg.Frame, trips: RoundTrips, products: list[int]) -> Interval:
    seen = Interval(frame.dense_rows, frame.committed, trips.take(), tuple(products))
    products.clear()
    progress(f"{'commit' if frame.committed else f'step {frame.step}'}: {seen.dense_rows} rows")
    return seen


@contextmanager
def _products() -> Iterator[list[int]]:
    """The rows of each product with the whole embedding from here on."""
    rows: list[int] = []

    def watched(table: type[Any]) -> Any:
        mix = table.mix

        def run(self: Any, weights: mx.array) -> mx.array:
            rows.append(weights.size // weights.shape[-1])
            mixed: mx.array = mix(self, weights)
            return mixed

        return mock.patch.object(table, "mix", run)

    first, second = get_args(AnyTable)
    with watched(first), watched(second):
        yield rows


@dataclass(frozen=True)
class Waits:
    """The host's waits in each steady step without dense rows, and where those of the worst are."""

    steps: tuple[int, ...]
    places: dict[str, int]


def waits(intervals: Sequence[Interval]) -> Waits:
    """Those between two frames without dense rows; the first frame has the prompt before it."""
    pairs = pairwise(intervals)
    steady = [
        after.waits
        for before, after in pairs
        if not (before.dense_rows or after.dense_rows or after.committed)
    ]
    if not steady:
        raise SystemExit("every step has dense rows, expected some without: nothing was counted.")
    worst = max(steady, key=Counter.total)
    return Waits(tuple(each.total() for each in steady), dict(worst.most_common()))


@dataclass(frozen=True)
class DenseRows:
    """Dense rows after each step of a canvas, the products that they took, and their bound.

    products: the rows of each. bound: of PRODUCT_ROWS rows a product; what the last step would hand
    on is needed nowhere.
    """

    rows: tuple[int, ...]
    products: tuple[int, ...]
    bound: int


def dense_rows(intervals: Sequence[Interval]) -> DenseRows:
    rows = tuple(interval.dense_rows for interval in intervals if not interval.committed)
    products = tuple(count for interval in intervals for count in interval.products)
    return DenseRows(rows, products, sum(-(-count // PRODUCT_ROWS) for count in rows[:-1]))


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
        engine = Ours(folder, range(PROMPT), dtype=None)
        canvas = mx.arange(sizes.canvas, dtype=mx.int32)
        soft = mx.zeros((1, sizes.canvas, sizes.hidden), engine.model.dtype)
        mx.eval(canvas, soft)
        return Pass(engine, canvas, soft)

    def graph(self) -> Graph:
        """The graph, traced anew: what is compiled calls a launch only while it is traced."""
        self.engine.forget_traces()
        with _launches() as launches:
            self.engine.decoder(self.canvas, self.soft)()
        nodes = count_nodes(self.engine.decoder(self.canvas, self.soft)())
        return Graph(working_nodes(nodes), launches)

    def milliseconds(self, graphs: int) -> float:
        """Median of the host's time to build so many graphs."""
        prepare = partial(self.engine.decoder, self.canvas, self.soft)
        return 1000 * statistics.median(build_seconds(prepare) for _ in range(graphs))


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
    surroundings: AbstractContextManager[None] = (
        nullcontext() if on_gpu() else as_on_a_gpu(kernels=True)
    )
    taken: dict[int, list[float]] = {depth: [] for depth in passes}
    with surroundings:
        made = {depth: each.graph() for depth, each in passes.items()}
        for _ in range(options.repeats):
            for depth, each in passes.items():
                taken[depth].append(each.milliseconds(options.graphs))
    return Graphs(made, taken)


# --- the report


def report(folder: Path, options: Options) -> dict[str, Any]:
    """All counters; the last key holds what they are made from."""
    sizes = options.sizes
    progress(f"making checkpoints of {sizes.layers} layers and {sizes.vocab:,} tokens")
    folders = {
        layers: write_sure_checkpoint(folder / str(layers), replace(sizes, layers=layers))
        for layers in sorted({*options.depths, sizes.layers})
    }
    passes = {layers: Pass.of(place, sizes) for layers, place in folders.items()}
    counts = graphs(passes, options)
    nodes, launches = counts.a_layer(options.depths)
    model = passes[sizes.layers].engine.model
    run = {
        name: run_canvas(model, steps, FixedNoise(blanks))
        for name, steps, blanks in (
            ("none", options.steps, 0),
            ("some", options.steps + 1, options.some),
            ("all", 2, sizes.canvas),
        )
    }
    host = waits(run["none"])
    dense = {name: dense_rows(intervals) for name, intervals in run.items()}
    return {
        "host_round_trips": max(host.steps),
        "dense_products_per_canvas": len(dense["some"].products),
        "graph_nodes": counts.graphs[sizes.layers].nodes,
        "build_ms": round(min(counts.milliseconds[sizes.layers]), 4),
        "launches_per_layer": nodes,
        "details": {
            "host_round_trips": asdict(host),
            "dense_rows": {name: asdict(rows) for name, rows in dense.items()},
            "graph_nodes": {layers: graph.nodes for layers, graph in counts.graphs.items()},
            "build_ms": counts.milliseconds,
            "kernels_per_layer": launches,
        },
    }


def main() -> None:
    args = _arguments()
    sizes = replace(SIZES, vocab=args.vocab, layers=args.layers)
    options = Options(sizes, steps=args.steps, graphs=args.graphs, repeats=args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        counters = report(Path(folder), options)
    content = {
        **counters,
        "command": shlex.join(["scripts/bench/step_counters.py", *sys.argv[1:]]),
        **environment("mlx", "mlx-diffgemma", "numpy"),
        "options": asdict(options),
    }
    text = json.dumps(content, indent=1)
    if args.json and args.json != "-":
        Path(args.json).write_text(f"{text}\n")
    print(text if args.json == "-" else _lines(counters))


def _lines(counters: dict[str, Any]) -> str:
    details = counters["details"]
    named = {name: value for name, value in counters.items() if name != "details"}
    places = details["host_round_trips"]["places"]
    return "\n".join(f"{name}: {value}" for name, value in {**named, **places}.items())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vocab", type=int, default=SIZES.vocab, help=f"[{SIZES.vocab}]")
    parser.add_argument("--layers", type=int, default=SIZES.layers, help=f"[{SIZES.layers}]")
    parser.add_argument("--steps", type=int, default=5, help="steps without dense rows [5]")
    parser.add_argument("--graphs", type=int, default=50, help="graphs a median is of [50]")
    parser.add_argument("--repeats", type=int, default=5, help="medians of each depth [5]")
    parser.add_argument(
        "--json", nargs="?", const="-", help="file for the object; - or none: standard output"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
