#!/usr/bin/env python3
"""Compare with mlx-vlm in one run, in turn, on one random float32 checkpoint.

    python scripts/bench/compare_mlx_vlm.py --json scripts/bench/results/NAME.json

Both engines run in this process, on the same weights, prompt, canvas length and number of steps,
with the entropy-bound sampler at the checkpoint's temperatures and bound. Random weights never
settle, so that neither stops early. Each engine makes its own noise in its own way, since noise is
part of its cost: their tokens differ. A check comes first: both engines have the same logits on a
checkpoint with a small vocabulary. README.md in this folder says what each figure includes.
"""

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
from checkpoint import Sizes, write_checkpoint
from engines import Engine, Ours, Theirs
from graphs import as_on_a_gpu, build_seconds, count_nodes, working_nodes
from report import Figure, environment, progress, table, write_json

from mlx_diffgemma.machine.device import on_gpu

SMALL_VOCAB = 4096
TOLERANCE = 1e-4  # of logits up to 20: the rounding of float32 after 30 layers
RAW_STD = 3.0  # of the made-up head outputs that the samplers are timed on
GRAPHS = 50  # graphs built in turn for the host time
MB = 2.0**20


@dataclass
class Bench:
    """Both engines with the same checkpoint and prompt; each method measures one part."""

    theirs: Theirs
    ours: Ours
    sizes: Sizes
    steps: int
    repeats: int
    nodes: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    @property
    def engines(self) -> tuple[Engine, Engine]:
        return self.theirs, self.ours

    def generate(self) -> list[Figure]:
        """Time prefill and one canvas."""

        def seconds(engine: Engine, seed: int) -> float:
            mx.clear_cache()
            began = time.perf_counter()
            engine.generate(self.steps, seed)
            return time.perf_counter() - began

        return [self._in_turn("generation", "s", 1.3, seconds)]

    def sampler(self) -> list[Figure]:
        """Time a step's work behind the head; measure its memory beside the head's output."""
        raw = self._head_outputs()

        def seconds(engine: Engine, seed: int) -> float:
            return float(np.median(engine.sampler_seconds(raw, 3, seed)))

        def peak(engine: Engine, seed: int) -> float:
            return _peak_bytes(lambda: engine.sampler_seconds(raw, 2, seed)) / raw[0].nbytes

        return [
            self._in_turn("sampler, a step", "s", 3.0, seconds),
            self._in_turn("sampler, peak over its input", "x the logits", 2.0, peak, repeats=1),
        ]

    def memory(self) -> list[Figure]:
        """Peak memory of a whole generation above the weights; two steps reach it."""

        def peak(engine: Engine, seed: int) -> float:
            return _peak_bytes(lambda: engine.generate(3, seed)) / MB

        return [self._in_turn("peak over the weights", "MB", 2.0, peak, repeats=1)]

    def graph(self) -> list[Figure]:
        """Nodes of one decoder pass, and the host's time to build the pass."""
        ways: dict[str, Callable[[], AbstractContextManager[None]]] = (
            {"GPU path": nullcontext}
            if on_gpu()
            else {
                "GPU path": as_on_a_gpu,
                "GPU path, Metal kernels": partial(as_on_a_gpu, kernels=True),
                "CPU path": nullcontext,
            }
        )
        figures = []
        for way, surroundings in ways.items():
            with surroundings():
                figures += self._graph(way)
        return figures

    def _graph(self, way: str) -> list[Figure]:
        canvas, soft = self._canvas_and_soft()
        counts = {}
        self.ours.forget_traces()
        for engine in self.engines:
            engine.decoder(canvas, soft)()  # compiled pieces are traced once
            counts[engine.name] = count_nodes(engine.decoder(canvas, soft)())
        self.nodes[way] = {name: dict(nodes.most_common()) for name, nodes in counts.items()}

        theirs, ours = counts[self.theirs.name], counts[self.ours.name]
        return [
            Figure(f"nodes, {way}", "all", (theirs.total(),), (ours.total(),), 1.0),
            Figure(
                f"nodes, {way}", "no views", (working_nodes(theirs),), (working_nodes(ours),), 1.5
            ),
            self._host_time(way, canvas, soft),
        ]

    def _host_time(self, way: str, canvas: mx.array, soft: mx.array) -> Figure:
        """The host's time; a sample is the median over GRAPHS graphs of each, built in turn."""
        name = f"host time of a step, {way}"
        samples = []
        for number in range(self.repeats):
            milliseconds = [
                [1000 * build_seconds(partial(e.decoder, canvas, soft)) for e in self.engines]
                for _ in range(GRAPHS)
            ]
            samples.append(np.median(milliseconds, axis=0).tolist())
            progress(f"{name} {number + 1}: {samples[-1][0]:.4g} {samples[-1][1]:.4g} ms")
        theirs, ours = zip(*samples, strict=True)
        return Figure(name, "ms", theirs, ours, 2.0)

    def _in_turn(
        self,
        name: str,
        unit: str,
        target: float,
        measure: Callable[[Engine, int], float],
        repeats: int | None = None,
    ) -> Figure:
        """Samples of both engines: theirs, ours, theirs, ours, ..."""
        theirs, ours = [], []
        for number in range(repeats or self.repeats):
            theirs.append(measure(self.theirs, number))
            ours.append(measure(self.ours, number))
            progress(f"{name} {number + 1}: {theirs[-1]:.4g} {ours[-1]:.4g} {unit}")
        return Figure(name, unit, tuple(theirs), tuple(ours), target)

    def _head_outputs(self) -> list[mx.array]:
        """Two different head outputs [C, V]: the argmax changes from step to step."""
        keys = [mx.random.key(number) for number in range(2)]
        shape = (self.sizes.canvas, self.sizes.vocab)
        raw = [mx.random.normal(shape, scale=RAW_STD, key=key) for key in keys]
        mx.eval(raw)
        return raw

    def _canvas_and_soft(self) -> tuple[mx.array, mx.array]:
        canvas = mx.arange(self.sizes.canvas, dtype=mx.int32)
        soft = mx.random.normal((1, self.sizes.canvas, self.sizes.hidden), key=mx.random.key(0))
        mx.eval(canvas, soft)
        return canvas, soft


def main() -> None:
    args = _arguments()
    sizes = Sizes(vocab=args.vocab, layers=args.layers, canvas=args.canvas)
    content = {
        "command": shlex.join(["scripts/bench/compare_mlx_vlm.py", *sys.argv[1:]]),
        **environment("mlx", "mlx-vlm", "mlx-diffgemma", "numpy"),
        "sizes": asdict(sizes),
        "prompt_tokens": args.prompt,
        "steps": args.steps,
        "largest_logit_difference": largest_difference(sizes, args.prompt),
    }
    for name, value in content.items():
        print(f"{name}: {value}")
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = load_both(Path(folder), sizes, args.prompt)
    bench = Bench(theirs, ours, sizes, args.steps, args.repeats)
    figures = [figure for part in args.only for figure in getattr(bench, part)()]
    print(table(figures))
    if args.json:
        write_json(args.json, {**content, "nodes": bench.nodes}, figures)


def load_both(folder: Path, sizes: Sizes, prompt_tokens: int) -> tuple[Theirs, Ours]:
    """Both engines with one new checkpoint and one prompt; `folder` is not read again."""
    progress(f"making a checkpoint of {sizes.layers} layers and {sizes.vocab:,} tokens")
    write_checkpoint(folder, sizes)
    prompt = np.random.default_rng(1).integers(0, sizes.vocab, prompt_tokens).tolist()
    theirs, ours = Theirs(folder, prompt), Ours(folder, prompt)
    mx.clear_cache()
    return theirs, ours


def largest_difference(sizes: Sizes, prompt_tokens: int) -> float:
    """Largest difference of the engines' logits over two steps; SystemExit if beyond rounding."""
    sizes = replace(sizes, vocab=min(sizes.vocab, SMALL_VOCAB))
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = load_both(Path(folder), sizes, prompt_tokens)
    canvas = mx.arange(sizes.canvas, dtype=mx.int32)
    engines: tuple[Engine, Engine] = (theirs, ours)
    softs: list[mx.array | None] = [None, None]
    worst = 0.0
    for _ in range(2):
        passes = [e.decoder(canvas, soft) for e, soft in zip(engines, softs, strict=True)]
        logits = [e.logits(decode()) for e, decode in zip(engines, passes, strict=True)]
        worst = max(worst, float(mx.abs(logits[0] - logits[1]).max()))
        softs = [e.soft(own / 0.8) for e, own in zip(engines, logits, strict=True)]
    if worst > TOLERANCE:
        raise SystemExit(f"the engines' logits differ by {worst:.2g}: no comparison.")
    return worst


def _peak_bytes(work: Callable[[], object]) -> float:
    """Peak of the memory allocated while `work` runs, above that allocated before."""
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    work()
    return mx.get_peak_memory() - before


PARTS = ("graph", "sampler", "memory", "generate")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--canvas", type=int, default=64, help="canvas length [64]")
    parser.add_argument("--steps", type=int, default=16, help="denoising steps [16]")
    parser.add_argument("--vocab", type=int, default=262_144, help="vocabulary [262144]")
    parser.add_argument("--layers", type=int, default=30, help="layers [30]")
    parser.add_argument("--prompt", type=int, default=100, help="prompt tokens [100]")
    parser.add_argument("--repeats", type=int, default=3, help="times each is measured [3]")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts [all]")
    parser.add_argument("--json", type=Path, help="file for all samples")
    return parser.parse_args()


if __name__ == "__main__":
    main()
