#!/usr/bin/env python3
"""Memory and time a token of many long answers in mode ar, one after the other in one process.

    .venv/bin/python scripts/bench/long_answers.py --json scripts/bench/results/NAME.json

A small random network (two layers, hidden size 64, vocabulary 4,096, no stop id) writes 20 answers
of 2,000 tokens behind one prompt of 100, each on the prefix of the one before it, gone back to what
both share, as a conversation does. Told are a line an answer: MLX's active memory afterwards, its
peak while the answer was written, the process's resident memory, and the median time of a token in
the second and in the last tenth. Full layers see 2,000 keys at the end and 100 at the beginning, so
that a token takes longer there by its attention. Then the same without the network, whose logits
are one array: all that is left is the loop, which must take no longer at the end.
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
        print(f"from the second answer to the last: {growth(answers)}")
        alone = [
            answer(
                loop_alone(model),
                model.new_prefix(),
                dg.Settings(mode="ar", seed=number, max_tokens=args.tokens),
            )
            for number in range(5)
        ]
    for name, told in (("late / early", answers), ("the same of the loop alone", alone)):
        ratios = sorted(one["late_ms"] / one["early_ms"] for one in told)
        middle = statistics.median(ratios)
        print(f"{name}: {middle:.3f} ({ratios[0]:.3f} - {ratios[-1]:.3f})")
    if args.json:
        result = {
            "command": shlex.join(["scripts/bench/long_answers.py", *sys.argv[1:]]),
            **environment("mlx", "numpy", "mlx-diffgemma"),
            "sizes": SIZES.describe(),
            "answers": answers,
            "loop_alone": alone,
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


def growth(answers: list[dict[str, Any]]) -> str:
    """The last answer's memory less the second one's."""
    second, last = answers[min(1, len(answers) - 1)], answers[-1]
    names = ("active_bytes", "peak_bytes", "resident_bytes")
    return ", ".join(f"{name} {(last[name] or 0) - (second[name] or 0):+,}" for name in names)


def loop_alone(model: dg.Model) -> dg.Model:
    """The model with a step that computes nothing: always the same logits."""
    logits = mx.random.normal((1, SIZES.vocab), key=mx.random.key(0))
    mx.eval(logits)

    def step(token: Any, prefix: dg.Prefix) -> mx.array:
        prefix.extend_unread(token)
        return logits

    model.step = step  # type: ignore[method-assign]
    return model


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--lookup", action="store_true")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
