#!/usr/bin/env python3
"""A token of mode ar against mlx-lm's Gemma 4 class in one run, in turn, on the same weights.

    python scripts/bench/ar_step.py --json scripts/bench/results/NAME.json

30 layers in the 26B model's pattern, 8 of 128 experts, small widths. Both engines run in this
process on one random checkpoint, which `as_gemma4` renames for mlx-lm. Packed as the published
mix, in bfloat16: nodes of a token's graph and the host's time to build it, as on a GPU. In float32,
unpacked: the whole step on this CPU, with greedy tokens that must be equal. README.md in this
folder says what each figure includes.
"""

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from as_gemma4 import write_gemma4
from checkpoint import Sizes, narrow_checkpoint, write_checkpoint
from graphs import as_on_a_gpu, build_seconds, count_nodes, working_nodes
from report import Figure, environment, progress, table, write_json

import mlx_diffgemma as dg
from mlx_diffgemma.convert.plan import make_plan
from mlx_diffgemma.convert.quantize import RecipeOptions, make_recipe
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.convert.run import convert
from mlx_diffgemma.machine.device import on_gpu

# The head's share of a token's weights is about that of the published model, a fifth.
SIZES = Sizes(vocab=16_384, experts=128, window=32)
PROMPTS = {"within the window": 8, "past the window": 40}
NODES_BAR = 900  # of a token; host and wall times: as parts of mlx-lm's
HOST_BAR, WALL_BAR = 0.6, 0.7

Step = Callable[[mx.array], mx.array]


class Engine(Protocol):
    """An engine with a checkpoint loaded."""

    name: str

    def begin(self, prompt: Sequence[int]) -> Any:
        """The evaluated cache of a prompt."""
        ...

    def step(self, cache: Any, token: mx.array) -> mx.array:
        """The likeliest token [1] behind `token` [1], lazy; the cache is extended."""
        ...


class Ours:
    """mlx-diffgemma."""

    name = "mlx-diffgemma"

    def __init__(self, folder: Path) -> None:
        self.model = dg.load_model(folder)

    def forget_traces(self) -> None:
        """Let compiled pieces be traced anew, for another form of the graph."""
        for layer in self.model.layers:
            layer.__post_init__()

    def begin(self, prompt: Sequence[int]) -> dg.Prefix:
        return self.model.encode(prompt)

    def step(self, cache: dg.Prefix, token: mx.array) -> mx.array:
        return mx.argmax(self.model.step(token, cache), axis=-1)


class Theirs:
    """mlx-lm."""

    name = "mlx-lm"

    def __init__(self, folder: Path) -> None:
        try:
            self.model: Any = import_module("mlx_lm.utils").load_model(folder)[0]
        except ModuleNotFoundError as error:
            raise SystemExit(f"{error}; install the bench extra: README.md beside this.") from None

    def begin(self, prompt: Sequence[int]) -> Any:
        cache = self.model.make_cache()
        mx.eval(self.model(mx.array([list(prompt)]), cache=cache))
        return cache

    def step(self, cache: Any, token: mx.array) -> mx.array:
        return mx.argmax(self.model(token[None], cache=cache)[:, -1], axis=-1)


# --- checkpoints


def load_both(folder: Path) -> tuple[Theirs, Ours]:
    """Both engines with the checkpoint in `folder`."""
    theirs = folder.with_name(f"{folder.name}-theirs")
    write_gemma4(open_checkpoint(folder), theirs, lambda done, total: None)
    return Theirs(theirs), Ours(folder)


def published_mix(folder: Path) -> Path:
    """The checkpoint once more, in bfloat16 and packed as the published one."""
    narrow, packed = folder.with_name("bfloat16"), folder.with_name("packed")
    narrow_checkpoint(folder, narrow)
    convert(make_plan(open_checkpoint(narrow), make_recipe(RecipeOptions("4bit"))), packed)
    return packed


def prompt_of(length: int) -> list[int]:
    """Random ids."""
    ids: list[int] = np.random.default_rng(1).integers(0, SIZES.vocab, length).tolist()
    return ids


# --- nodes and host time


def graphs(both: tuple[Theirs, Ours], samples: int) -> tuple[list[Figure], dict[str, Any]]:
    """Figures of a token's graph, and the number of its primitives by name."""
    engines: Sequence[Engine] = both
    figures, nodes = [], {}
    for place, length in PROMPTS.items():
        caches = [_settled(engine, prompt_of(length)) for engine in engines]
        for way, surroundings in _ways().items():
            with surroundings:
                both[1].forget_traces()
                counts = [_count(*pair) for pair in zip(engines, caches, strict=True)]
                name = f"{way}, {place}"
                nodes[name] = {
                    engine.name: dict(count.most_common())
                    for engine, count in zip(engines, counts, strict=True)
                }
                theirs, ours = map(working_nodes, counts)
                target = theirs / NODES_BAR
                figures.append(Figure(f"nodes, {name}", "no views", (theirs,), (ours,), target))
                figures.append(_host_time(name, engines, caches, samples))
    return figures, nodes


def _ways() -> dict[str, AbstractContextManager[Any]]:
    """The forms of a graph: on a GPU there is only one."""
    if on_gpu():
        return {"GPU": ExitStack()}
    return {"as on a GPU": as_on_a_gpu(), "with Metal kernels": as_on_a_gpu(kernels=True)}


def _settled(engine: Engine, prompt: Sequence[int]) -> Any:
    """A cache that has taken a first token: the room of a prompt is one with it."""
    cache = engine.begin(prompt)
    mx.eval(engine.step(cache, mx.array([5], mx.int32)))
    return cache


def _count(engine: Engine, cache: Any) -> Any:
    token = mx.array([7], mx.int32)
    engine.step(deepcopy(cache), token)  # compiled pieces are traced once
    return count_nodes(engine.step(deepcopy(cache), token))


def _host_time(name: str, engines: Sequence[Engine], caches: Sequence[Any], samples: int) -> Figure:
    """Processor time of the thread that builds a token's graph, in turn; nothing is evaluated."""
    token = mx.array([7], mx.int32)

    def prepare(engine: Engine, cache: Any) -> Callable[[], mx.array]:
        own = deepcopy(cache)
        return lambda: engine.step(own, token)

    taken = [
        [
            1000 * build_seconds(partial(prepare, *pair), time.thread_time)
            for pair in zip(engines, caches, strict=True)
        ]
        for _ in range(samples)
    ]
    theirs, ours = zip(*taken, strict=True)
    return Figure(f"host time, {name}", "ms", theirs, ours, 1 / HOST_BAR)


# --- whole steps


def whole_steps(engines: tuple[Theirs, Ours], tokens: int, rounds: int) -> list[Figure]:
    """Figures of a step in float32 on this machine, by the clock and by the processor, in turn.

    Each step is submitted before the last one is read. SystemExit where the tokens differ.
    """
    wall: list[list[float]] = []
    processor: list[list[float]] = []
    for number in range(rounds):
        runs = [_written(engine, tokens) for engine in engines]
        if runs[0][2] != runs[1][2]:
            raise SystemExit("the engines' greedy tokens differ: no comparison.")
        wall.append([run[0] for run in runs])
        processor.append([run[1] for run in runs])
        progress(f"step {number + 1}: {wall[-1][0]:.4g} {wall[-1][1]:.4g} ms")
    figures = []
    for name, samples in (("by the clock", wall), ("of the processor", processor)):
        theirs, ours = zip(*samples, strict=True)
        figures.append(Figure(f"step in float32, {name}", "ms", theirs, ours, 1 / WALL_BAR))
    return figures


def _written(engine: Engine, count: int) -> tuple[float, float, list[int]]:
    """Milliseconds a token by the clock and of the processor, and the greedy tokens."""
    cache = engine.begin(prompt_of(PROMPTS["past the window"]))
    token = engine.step(cache, mx.array([5], mx.int32))
    mx.eval(token)
    began, used, written = time.perf_counter(), time.process_time(), []
    for _ in range(count):
        following = engine.step(cache, token)
        mx.async_eval(following)
        written.append(int(token.item()))  # type: ignore[arg-type]
        token = following
    mx.eval(token)
    each = 1000 / count
    return each * (time.perf_counter() - began), each * (time.process_time() - used), written


def main() -> None:
    args = _arguments()
    content = {
        "command": shlex.join(["scripts/bench/ar_step.py", *sys.argv[1:]]),
        **environment("mlx", "mlx-lm", "mlx-diffgemma", "numpy"),
        "sizes": asdict(SIZES),
    }
    for name, value in content.items():
        print(f"{name}: {value}")
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / "float32"
        dense.mkdir()
        progress("making a checkpoint")
        write_checkpoint(dense, SIZES)
        figures, nodes = graphs(load_both(published_mix(dense)), args.samples)
        progress(table(figures, Theirs.name))
        figures += whole_steps(load_both(dense), args.tokens, args.rounds)
    print(table(figures, Theirs.name))
    if args.json:
        write_json(args.json, {**content, "nodes": nodes}, figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=31, help="graphs built of each [31]")
    parser.add_argument("--tokens", type=int, default=24, help="tokens a round [24]")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of whole steps [7]")
    parser.add_argument("--json", type=Path, help="file for all samples")
    return parser.parse_args()


if __name__ == "__main__":
    main()
