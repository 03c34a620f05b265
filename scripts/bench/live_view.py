#!/usr/bin/env python3
"""The cost of drawing: 60 steps of 5 ms, or as many tokens, with the live view and without it.

    python scripts/bench/live_view.py --json scripts/bench/results/NAME.json
    python scripts/bench/live_view.py --mode ar --steps 512 --json scripts/bench/results/NAME.json

The model is a pause, so all else that is measured is the view: taking every frame, and drawing at
most 12 a second to a pseudo-terminal that a second process reads. The canvas of 256 random words
changes at a tenth of its positions a step; in mode ar a segment of 256 grows by a word a token,
behind those before it. Runs with and without the view take turns. On a machine
that others use, wall time says little, but the processor time of drawing still counts.
"""

import argparse
import json
import os
import pty
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from report import environment

from mlx_diffgemma.cli.terminal.colours import Theme
from mlx_diffgemma.cli.terminal.live import Live
from mlx_diffgemma.cli.terminal.scene import Scene
from mlx_diffgemma.cli.terminal.screen import Screen
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.text.pieces import ANSWER, Parts

CANVAS, VOCABULARY, CHANGED = 256, 20_000, 0.1
LIMIT = 0.03
KINDS = ("shown", "hidden")
READER = "import os\ntry:\n while os.read(0, 65536): pass\nexcept OSError: pass"


def main() -> None:
    args = _arguments()
    frames = _frames(args.steps) if args.mode == "diffusion" else _tokens(args.steps)
    taken: dict[str, list[float]] = {f"{k} {v}": [] for k in KINDS for v in ("wall", "cpu")}
    with _terminal(args.columns, args.rows):
        run(frames, args.step_ms / 1e3, shown=True)  # imports and caches
        for _ in range(args.repeat):
            for kind in KINDS:
                wall, cpu = run(frames, args.step_ms / 1e3, shown=kind == "shown")
                taken[f"{kind} wall"].append(wall)
                taken[f"{kind} cpu"].append(cpu)
    median = {name: statistics.median(values) for name, values in taken.items()}
    slower = median["shown wall"] / median["hidden wall"] - 1
    busier = (median["shown cpu"] - median["hidden cpu"]) / median["hidden wall"]
    result = {
        "command": shlex.join(["scripts/bench/live_view.py", *sys.argv[1:]]),
        **environment("rich", "numpy", "mlx-diffgemma"),
        **{f"{name} seconds": values for name, values in taken.items()},
        "slower": slower,
        "cpu": busier,
    }
    for name, values in taken.items():
        print(f"{name}: {_spread(values)}")
    print(f"slower by {slower:.2%}; processor time of drawing: {busier:.2%}; wanted: {LIMIT:.0%}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def run(frames: list[Frame], step_seconds: float, shown: bool) -> tuple[float, float]:
    """Seconds from the first frame's pause to the terminal given back: waited, and computed."""
    words = [f"{' ' * (i % 3 > 0)}w{i:x}" for i in range(VOCABULARY)]
    scene = Scene(lambda frame: _parts(words, frame), len(frames))
    screen = Screen(theme=Theme.DARK)  # no terminal is asked while the clock runs
    view = Live(scene, screen) if shown else None
    began, computed = time.perf_counter(), time.process_time()
    with view or nullcontext():
        for frame in frames:
            time.sleep(0 if frame.committed else step_seconds)
            if view:
                view.step(frame)
    wall, cpu = time.perf_counter() - began, time.process_time() - computed
    screen.close()
    return wall, cpu


def _parts(words: list[str], frame: Frame) -> Parts:
    tokens = frame.tokens.tolist()
    return Parts(tuple(words[token] for token in tokens), ANSWER * len(tokens))


def _frames(num_steps: int) -> list[Frame]:
    random = np.random.default_rng(0)
    tokens = random.integers(VOCABULARY, size=CANVAS, dtype=np.int32)
    frames = []
    for step in range(num_steps):
        fresh = random.integers(VOCABULARY, size=CANVAS, dtype=np.int32)
        tokens = np.where(random.random(CANVAS) < CHANGED, fresh, tokens)
        entropies = random.exponential(size=CANVAS).astype(np.float32)
        frames.append(Frame(0, step, tokens, entropies, entropies < 0.5, seconds=0.005))
    return frames


def _tokens(count: int) -> list[Frame]:
    """A frame a token, and a committed one a segment; the arrays of a segment are shared."""
    random = np.random.default_rng(0)
    frames = list[Frame]()
    for first in range(0, count, CANVAS):
        length = min(CANVAS, count - first)
        tokens = random.integers(VOCABULARY, size=length, dtype=np.int32)
        entropies = random.exponential(size=length).astype(np.float32)
        for end in range(1, length + 1):
            seen = (tokens[:end], entropies[:end], np.ones(end, np.bool_))
            frames.append(Frame(first // CANVAS, end - 1, *seen, seconds=0.005, mode="ar"))
        frames.append(replace(frames[-1], committed=True))
    return frames


@contextmanager
def _terminal(columns: int, rows: int) -> Iterator[None]:
    """Standard error as a terminal of this size, read by another process."""
    ours, theirs = pty.openpty()
    before, sys.stderr = sys.stderr, os.fdopen(theirs, "w", encoding="utf-8")
    os.environ.update(COLUMNS=str(columns), LINES=str(rows), TERM="xterm-256color")
    reader: Any = subprocess.Popen([sys.executable, "-c", READER], stdin=ours)
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before
        os.close(ours)
        reader.kill()
        reader.wait()


def _spread(taken: list[float]) -> str:
    return f"{statistics.median(taken):.4f} s ({min(taken):.4f} - {max(taken):.4f})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mode", choices=("diffusion", "ar"), default="diffusion")
    parser.add_argument("--steps", type=int, default=60, help="steps or tokens of a run [60]")
    parser.add_argument("--step-ms", type=float, default=5, help="milliseconds of each [5]")
    parser.add_argument("--columns", type=int, default=80, help="columns [80]")
    parser.add_argument("--rows", type=int, default=40, help="rows [40]")
    parser.add_argument("--repeat", type=int, default=15, help="runs of each kind [15]")
    parser.add_argument("--json", type=Path, help="file for all samples")
    return parser.parse_args()


if __name__ == "__main__":
    main()
