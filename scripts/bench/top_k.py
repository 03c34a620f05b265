#!/usr/bin/env python3
"""The sampler of mode ar against mlx-lm's, with the same settings over the same logits, in turn.

    .venv/bin/python scripts/bench/top_k.py --json scripts/bench/results/NAME.json

Logits of one token over 262,144 ids are there already; temperature 1, top_p 0.95, top_k 64. Ours:
`autoregressive.sampling.sample`, and once a sample the noise of 256 tokens. mlx-lm's: what its
`generate_step` does with logits, log-probabilities and then `make_sampler`'s sampler. Below that
the 64 largest alone: ours in order, against the same sampler and against mlx-lm's `apply_top_k`, a
mask over all ids by a partition, which is a whole sort on a GPU. A sample is the mean of `--inner`
tokens, each waited for; those of one round belong together.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
from mlx_lm.sample_utils import apply_top_k, make_sampler
from report import Figure, environment, progress, table, write_json

from mlx_diffgemma.autoregressive.sampling import largest, sample
from mlx_diffgemma.autoregressive.write import AHEAD
from mlx_diffgemma.checkpoint.generation import TokenDefaults
from mlx_diffgemma.generation.noise import CounterNoise

SETTINGS = TokenDefaults(temperature=1.0, top_k=64, top_p=0.95, min_p=0.0)
CAP = 30.0
TARGET = 20.0  # theirs / ours
Work = Callable[[mx.array, int], mx.array]


def main() -> None:
    args = _arguments()
    ours = our_largest()
    pairs: dict[str, tuple[Work, Work, float]] = {
        "sampler, a token": (their_sampler(), our_sampler(), TARGET),
        "64 largest, against the sampler": (their_sampler(), ours, TARGET),
        "64 largest, against apply_top_k": (their_top_k(), ours, 1.0),
    }
    rows = [logits_of(seed, args.vocab) for seed in range(args.inner)]
    figures = []
    for name, (theirs, mine, target) in pairs.items():
        for work in (theirs, mine):
            milliseconds(work, rows)  # compiled, and in the caches
        taken: tuple[list[float], list[float]] = ([], [])
        for number in range(args.rounds):
            progress(f"{name}: round {number + 1} of {args.rounds}")
            for kept, work in zip(taken, (theirs, mine), strict=True):
                kept.append(milliseconds(work, rows))
        figures.append(Figure(name, "ms", tuple(taken[0]), tuple(taken[1]), target))
    print(table(figures, "mlx-lm"))
    if args.json:
        content = {
            "command": shlex.join(["scripts/bench/top_k.py", *sys.argv[1:]]),
            **environment("mlx", "mlx-lm", "numpy", "mlx-diffgemma"),
            "device": str(mx.default_device()),
            "vocabulary": args.vocab,
            "tokens_a_sample": args.inner,
        }
        write_json(args.json, content, figures)


def our_sampler() -> Work:
    noise = CounterNoise(0)
    made = mx.zeros((0, 2))

    def work(logits: mx.array, index: int) -> mx.array:
        nonlocal made
        made = noise.tokens(0, AHEAD) if index == 0 else made
        return sample(logits, made[index : index + 1], SETTINGS).tokens

    return work


def our_largest() -> Work:
    return lambda logits, _: largest(logits, SETTINGS.top_k)[1]


def their_top_k() -> Work:
    return lambda logits, _: apply_top_k(logits, SETTINGS.top_k)


def their_sampler() -> Work:
    sampler = make_sampler(temp=SETTINGS.temperature, top_p=SETTINGS.top_p, top_k=SETTINGS.top_k)

    def work(logits: mx.array, index: int) -> mx.array:
        chosen: mx.array = sampler(logits - mx.logsumexp(logits, keepdims=True))
        return chosen

    return work


def logits_of(seed: int, vocab: int) -> mx.array:
    """[1, V] float32, capped as the head's are."""
    raw = mx.random.normal((1, vocab), key=mx.random.key(seed)) * 6
    logits = mx.tanh(raw / CAP) * CAP
    mx.eval(logits)
    return logits


def milliseconds(work: Work, rows: list[mx.array]) -> float:
    """The mean of a token, each waited for."""
    began = time.perf_counter()
    for index, logits in enumerate(rows):
        mx.eval(work(logits, index))
    return (time.perf_counter() - began) * 1e3 / len(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vocab", type=int, default=262_144)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--inner", type=int, default=4)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
