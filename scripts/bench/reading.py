#!/usr/bin/env python3
"""The time to read a token of an answer, at the beginning of a long answer and at its end.

    python scripts/bench/reading.py --tokenizer FOLDER --json scripts/bench/results/NAME.json

Random words, emoji and line breaks in segments of 256 tokens, and one stop text that never comes.
"reader" takes each token once, "whole" reads all that has come at every token. They take turns in
one process. Microseconds of processor time a token, over the last 256 tokens before each length.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from report import environment

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.text.reader import AnswerReader, parse_answer
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

SEGMENT = 256
STOP = "never written"
LENGTHS = (256, 1024, 2048, 5120)
WORDS = ("the", "sky", "is", "blue", "because", "of", "scattering", "😀", "é", "\n", "日本語", "12")


def answer(tokenizer: Tokenizer, length: int) -> list[int]:
    """`length` ids of random words."""
    chance, ids = random.Random(0), list[int]()
    while len(ids) < length:
        ids += tokenizer.encode(" " + chance.choice(WORDS))
    return ids[:length]


def read_once(tokenizer: Tokenizer, ids: list[int]) -> Callable[[int], object]:
    """Reads the answer up to each token as it comes."""
    reader = AnswerReader(tokenizer, stops=[STOP])

    def read(count: int) -> object:
        first = (count - 1) // SEGMENT * SEGMENT
        parts = reader.read(ids[first:count], settled=count - first)
        if count % SEGMENT == 0:
            reader.finish(ids[first:count])
        return parts.text, reader.fresh()

    return read


def read_whole(tokenizer: Tokenizer, ids: list[int]) -> Callable[[int], object]:
    """Reads the answer up to each token from its beginning."""

    def read(count: int) -> object:
        first = (count - 1) // SEGMENT * SEGMENT
        found = STOP in parse_answer(tokenizer, ids[:count]).text
        return tokenizer.decode(ids[first:count]), found

    return read


def microseconds(read: Callable[[int], object], every: bool) -> dict[str, float]:
    """A token's time before each length; every: tokens between are read too, which `read` needs."""
    figures, taken = {}, 0
    for length in LENGTHS:
        for count in range(taken + 1 if every else length, length - SEGMENT + 1):
            read(count)
        began, counts = time.process_time(), range(max(1, length - SEGMENT + 1), length + 1)
        for count in counts if every else (counts := counts[::16]):
            read(count)
        figures[str(length)] = 1e6 * (time.process_time() - began) / len(counts)
        taken = length
    return figures


def main() -> None:
    """Measure both, in turn, and print and keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--tokenizer", type=Path, default=embedded_folder("tiny-chat"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.tokenizer)
    ids = answer(tokenizer, LENGTHS[-1])
    samples: dict[str, list[dict[str, float]]] = {"reader": [], "whole": []}
    for _ in range(options.rounds):
        samples["reader"].append(microseconds(read_once(tokenizer, ids), every=True))
        samples["whole"].append(microseconds(read_whole(tokenizer, ids), every=False))
    for name, runs in samples.items():
        for length in map(str, LENGTHS):
            times = sorted(run[length] for run in runs)
            spread = f"{statistics.median(times):9.1f} us ({times[0]:.1f} to {times[-1]:.1f})"
            print(f"{name:7} {length:>5} tokens: {spread}")
    if options.json:
        record = {**environment(), "vocabulary": tokenizer.vocab_size, "samples": samples}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
