"""Memory of attention behind long prompts, and what its blocks change.

    python scripts/bench/attention_memory.py --json scripts/bench/results/NAME.json

A random checkpoint with the real model's heads (16 of 256 numbers on sliding layers, of 512 on full
ones, window 1,024) and little else: what is held beyond keys and values is attention's. Every third
of six layers is full, or prefill, which needs only keys and values of the last, would run none.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
import numpy as np
from checkpoint import Sizes, write_checkpoint
from report import environment

import mlx_diffgemma as dg
from mlx_diffgemma.model import scores
from mlx_diffgemma.model.cache import ROLLBACK, Span
from mlx_diffgemma.model.scores import attention_bytes
from mlx_diffgemma.model.text import PREFILL_CHUNK

BYTES = (
    "plan_bytes",
    "prefill_bytes",
    "one_call_prefill_bytes",
    "step_bytes",
    "one_call_step_bytes",
)
POSITIONS = (2048, 4096, 8192, 16384)
DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}


class LongSizes(Sizes):
    """Every third layer is full, and the last."""

    def is_full(self, layer: int) -> bool:
        return layer % 3 == 2 or layer == self.layers - 1


SIZES = LongSizes(
    vocab=1024,
    layers=6,
    canvas=256,
    hidden=64,
    intermediate=32,
    experts=4,
    top_k=2,
    moe_intermediate=16,
    heads=16,
    kv_heads=8,
    full_kv_heads=2,
    head_dim=256,
    full_head_dim=512,
    window=1024,
)


@dataclass(frozen=True)
class Pass:
    """Bytes at most above what was there before, seconds, and what the pass left."""

    peak_bytes: int
    seconds: float  # of the processor: other processes disturb it less than the clock
    result: Any


def measured(run: Callable[[], Any]) -> Pass:
    """`run`, evaluated by itself, with MLX's peak memory over what was active."""
    mx.synchronize()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    began = time.process_time()
    result = run()
    mx.synchronize()
    return Pass(mx.get_peak_memory() - before, time.process_time() - began, result)


@contextmanager
def one_call() -> Iterator[None]:
    """Attention in a single call, whatever its size."""
    bound = scores.MOST_SCORES
    scores.MOST_SCORES = 2**62
    try:
        yield
    finally:
        scores.MOST_SCORES = bound


class Bench:
    """Passes of a model over random ids; a step is the decoder pass over one canvas."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.model = dg.load_model(folder, dtype=DTYPES[dtype])

    def ids(self, count: int) -> list[int]:
        ids: list[int] = np.random.default_rng(0).integers(0, SIZES.vocab, count).tolist()
        return ids

    def prefix(self, positions: int) -> dg.Prefix:
        """Random keys and values of as many positions, in the room that a prefill makes."""
        random, prefix, text = (
            mx.random.key(positions),
            self.model.new_prefix(),
            self.model.config.text,
        )
        prefix.known = [0] * positions
        prefix.reserve(positions + PREFILL_CHUNK + SIZES.canvas)
        for cache, layer in zip(prefix.layers, text.layers, strict=True):
            first = max(0, cache.first_visible(positions) - ROLLBACK) if layer.sliding else 0
            slots = (positions if layer.sliding else prefix.reserved) - first
            shape = (1, layer.num_key_value_heads, slots, layer.head_dim)
            keys, values = mx.random.normal((2, *shape), self.model.dtype, key=random)
            cache.span = Span(first, mx.contiguous(keys), mx.contiguous(values))
        mx.eval(prefix.arrays())
        return prefix

    def prefill(self, positions: int) -> Pass:
        """The last chunk of a prefill; keys and values that it adds are not in its peak."""
        behind = max(0, positions - PREFILL_CHUNK)
        prefix = self.prefix(behind) if behind else self.model.new_prefix()
        prefix.reserve(positions + SIZES.canvas)
        before = held(prefix)
        done = measured(lambda: self.model.encode(self.ids(positions - behind), prefix))
        return Pass(done.peak_bytes - held(prefix) + before, done.seconds, prefix)

    def step(self, canvas: mx.array, prefix: dg.Prefix) -> Pass:
        def run() -> mx.array:
            logits = self.model.logits(self.model.decode(canvas, prefix))
            mx.eval(logits)
            return logits

        return measured(run)

    def plan(self, positions: int) -> int:
        context, item = positions + SIZES.canvas, self.model.dtype.size
        return attention_bytes(self.model.config, context, PREFILL_CHUNK, item)

    def row(self, positions: int, rounds: int) -> dict[str, Any]:
        """Both passes at one length, in blocks and in one call, `rounds` times in turn.

        Without rounds: once, in blocks alone.
        """
        canvas = mx.array(self.ids(SIZES.canvas))
        samples: dict[str, list[float]] = {"blocks": [], "one_call": []}
        for _ in range(max(1, rounds)):
            prefill = self.prefill(positions)
            step = self.step(canvas, prefill.result)
            samples["blocks"].append(prefill.seconds)
            if rounds:
                with one_call():
                    whole = self.prefill(positions)
                    whole_step = self.step(canvas, whole.result)
                samples["one_call"].append(whole.seconds)
        row = {
            "positions": positions,
            "plan_bytes": self.plan(positions),
            "prefill_bytes": prefill.peak_bytes,
            "step_bytes": step.peak_bytes,
            "prefill_seconds": samples,
        }
        if rounds:
            row |= {
                "one_call_prefill_bytes": whole.peak_bytes,
                "one_call_step_bytes": whole_step.peak_bytes,
                "difference_of_keys_and_values": distance(prefill.result, whole.result),
                "difference_of_logits": largest(step.result, whole_step.result),
            }
        return row


def held(prefix: dg.Prefix) -> int:
    """Bytes of keys and values."""
    return sum(array.nbytes for array in prefix.arrays())


def distance(a: dg.Prefix, b: dg.Prefix) -> float:
    """The largest difference between keys or values of two prefixes; 0.0 if equal to the bit."""
    pairs = [*zip(a.keys, b.keys, strict=True), *zip(a.values, b.values, strict=True)]
    return max(largest(x, y) for x, y in pairs)


def largest(x: mx.array, y: mx.array) -> float:
    if bool(mx.array_equal(x, y).item()):
        return 0.0
    return float(np.array(mx.abs(x.astype(mx.float32) - y.astype(mx.float32)).max()))


def line(row: dict[str, Any]) -> str:
    """A row for people: megabytes, equality, and the ratio of times where both were taken."""
    shown = [f"{row['positions']:>6}", *(f"{row[key] / 1e6:>8.0f}" for key in BYTES if key in row)]
    if "difference_of_keys_and_values" in row:
        differences = [row[f"difference_of_{of}"] for of in ("keys_and_values", "logits")]
        shown += [f"{d:.1e}" if d else "equal" for d in differences]
        ratios = [a / b for a, b in zip(*row["prefill_seconds"].values(), strict=True)]
        shown.append(f"{median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})")
    return "  ".join(shown)


def main() -> None:
    """Measure, print a line a length, and keep the samples as they come."""
    options = _options()
    content: dict[str, Any] = environment("mlx-diffgemma", "mlx", "numpy")
    content |= {"command": " ".join(sys.argv), "blas": options.blas, "dtype": options.dtype}
    share = SIZES.heads // options.heads
    sizes = replace(
        SIZES,
        layers=options.layers,
        heads=options.heads,
        kv_heads=max(1, SIZES.kv_heads // share),
        full_kv_heads=max(1, SIZES.full_kv_heads // share),
    )
    scores.MOST_SCORES //= share
    content |= {"sizes": sizes.describe(), "most_scores": scores.MOST_SCORES, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), sizes)
        bench = Bench(Path(folder), options.dtype)
        for positions in options.positions:
            row = bench.row(positions, options.rounds)
            content["rows"].append(row)
            print(line(row), flush=True)
            if options.json:
                options.json.write_text(json.dumps(content, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, nargs="+", default=POSITIONS)
    parser.add_argument("--rounds", type=int, default=1, help="0: blocks alone, nothing compared")
    parser.add_argument("--layers", type=int, default=SIZES.layers)
    parser.add_argument("--heads", type=int, default=SIZES.heads, help="the bound goes with them")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--blas", default="MLX's own", help="the name of a BLAS put in its place")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
