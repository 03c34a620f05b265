#!/usr/bin/env python3
"""Memory and time a token of many long answers in mode ar, one after the other in one process.

    .venv/bin/python scripts/bench/long_answers.py --json scripts/bench/results/NAME.json

A small random network (two layers, hidden size 64, vocabulary 4,096, no stop id) writes 20 answers
of 2,000 tokens behind one prompt of 100, each on the prefix of the one before it, gone back to what
both share, as a conversation does. Told are a line an answer: MLX's active memory afterwards, its
peak while the answer was written, the process's resident memory, and the median time of a token in
the second and in the last tenth. Full layers see 2,000 keys at the end and 100 at the beginning, so
that a token may take longer there by what attention takes, and by nothing else.
"""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
from checkpoint import Sizes, write_checkpoint
from report import environment

import mlx_diffgemma as dg
from mlx_diffgemma.autoregressive.write import write

SIZES = Sizes(
    vocab=4096,
    layers=2,
    canvas=256,
    hidden=64,
    intermediate=64,
    experts=8,
    top_k=2,
    moe_intermediate=32,
)
PROMPT = list(range(100, 200))


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), SIZES)
        model = dg.load_model(folder, dtype=mx.float32)
        prefix = model.new_prefix()
        answers = []
        for number in range(args.answers):
            prefix.roll_back(prefix.shared(PROMPT))
            settings = dg.Settings(
                mode="ar", seed=number, max_tokens=args.tokens, lookup=args.lookup
            )
            answers.append(answer(model, prefix, settings))
            print(line(number, answers[-1]), flush=True)
    print(summary(answers))
    if args.json:
        result = {
            "command": shlex.join(["scripts/bench/long_answers.py", *sys.argv[1:]]),
            **environment("mlx", "numpy", "mlx-diffgemma"),
            "sizes": SIZES.describe(),
            "answers": answers,
        }
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def answer(model: dg.Model, prefix: dg.Prefix, settings: dg.Settings) -> dict[str, Any]:
    """One answer, and what it took."""
    mx.reset_peak_memory()
    times = []
    began = time.perf_counter()
    for frame in write(model, PROMPT, settings, prefix=prefix):
        if not frame.committed:
            times.append(time.perf_counter() - began)
            began = time.perf_counter()
    tenth = len(times) // 10
    return {
        "active_bytes": mx.get_active_memory(),
        "peak_bytes": mx.get_peak_memory(),
        "resident_bytes": resident_bytes(),
        "early_ms": 1e3 * statistics.median(times[tenth : 2 * tenth]),
        "late_ms": 1e3 * statistics.median(times[-tenth:]),
        "seconds": sum(times),
    }


def resident_bytes() -> int | None:
    """The process's memory now, where Linux tells it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS")), None)


def line(number: int, told: dict[str, Any]) -> str:
    resident = told["resident_bytes"] or 0
    return (
        f"answer {number}: active {told['active_bytes'] / 1e6:.2f} MB, peak "
        f"{told['peak_bytes'] / 1e6:.2f} MB, resident {resident / 1e6:.1f} MB, "
        f"{told['early_ms']:.2f} ms a token, at the end {told['late_ms']:.2f} ms"
    )


def summary(answers: list[dict[str, Any]]) -> str:
    """The last answer against the second, and the end of an answer against its beginning."""
    second, last = answers[min(1, len(answers) - 1)], answers[-1]
    names = ("active_bytes", "peak_bytes", "resident_bytes")
    grown = [f"{name} {(last[name] or 0) - (second[name] or 0):+,}" for name in names]
    slower = statistics.median(a["late_ms"] / a["early_ms"] for a in answers)
    return f"from the second answer to the last: {', '.join(grown)}; late / early {slower:.3f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--lookup", action="store_true")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
