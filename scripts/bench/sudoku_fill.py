#!/usr/bin/env python3
"""Puzzles whose givens are pinned in the canvas, beside the same puzzles in the prompt alone.

    python scripts/bench/sudoku_fill.py --seeds 3 --json scripts/bench/results/NAME.json

Every puzzle of tests/assets/data/puzzles.json is asked and filled in turn, with the same seed and
at most the same steps; the prompt holds the puzzle both times. All else is as in sudoku.py. Behind
the table stands the number of puzzles that only one way solved: without any, the ways are equal.
"""

import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from report import environment, progress
from sudoku import PUZZLES, Attempt, arguments, as_json, attempt, cells_of, first_of_each

import mlx_diffgemma as dg

PROMPT, FILL = "prompt", "fill"
WAYS = (PROMPT, FILL)


@dataclass(frozen=True)
class Tried(Attempt):
    """One puzzle tried once in one way."""

    way: str


def main() -> None:
    args = arguments(__doc__)
    puzzles: list[dict[str, Any]] = json.loads(PUZZLES.read_text())
    chosen = first_of_each(puzzles, args.limit)
    session = dg.load("tiny-sudoku")
    for way in WAYS:
        tried(way, session, chosen[0], args.steps[0], 0)
    attempts = []
    for max_steps in args.steps:
        for seed in range(args.seeds):
            for puzzle in chosen:
                attempts += [tried(way, session, puzzle, max_steps, seed) for way in WAYS]
            progress(f"at most {max_steps} steps, seed {seed}: {len(attempts)} attempts")
    content = {
        "command": shlex.join(["scripts/bench/sudoku_fill.py", *sys.argv[1:]]),
        **environment("mlx", "mlx-diffgemma", "numpy"),
    }
    for name, value in content.items():
        print(f"{name}: {value}")
    print(table(attempts))
    for max_steps in args.steps:
        print(
            f"<= {max_steps} steps: {only_one([a for a in attempts if a.max_steps == max_steps])}"
        )
    if args.json:
        args.json.write_text(as_json(content, attempts))


def tried(
    way: str, session: dg.Session, puzzle: dict[str, Any], max_steps: int, seed: int
) -> Tried:
    if way == PROMPT:
        return Tried(**asdict(attempt(session, puzzle, max_steps, seed)), way=way)
    settings = dg.Settings(seed=seed, max_denoising_steps=max_steps)
    reply = session.fill(puzzle["puzzle"], settings=settings)
    solved = "".join(reply.text.split()) == puzzle["solution"]
    seconds = round(reply.seconds.total, 4)
    return Tried(puzzle["clues"], max_steps, seed, solved, sum(reply.steps), seconds, way)


HEAD = [
    "steps",
    "clues",
    "tries",
    *(f"{what}, {way}" for what in ("solved", "used", "median") for way in WAYS),
]


def table(attempts: Sequence[Tried]) -> str:
    """A line for each limit of steps and count of clues; medians in seconds."""
    lines = [cells_of(HEAD)]
    for max_steps in sorted({a.max_steps for a in attempts}):
        for clues in sorted({a.clues for a in attempts}):
            row = [a for a in attempts if (a.max_steps, a.clues) == (max_steps, clues)]
            ways = [[a for a in row if a.way == way] for way in WAYS]
            lines.append(
                cells_of(
                    [
                        f"<= {max_steps}",
                        f"{clues}",
                        f"{len(ways[0])}",
                        *(f"{statistics.mean(a.solved for a in way):.1%}" for way in ways),
                        *(f"{statistics.mean(a.steps for a in way):.1f}" for way in ways),
                        *(f"{statistics.median(a.seconds for a in way):.3f} s" for way in ways),
                    ]
                )
            )
    return "\n".join(lines)


def only_one(attempts: Sequence[Tried]) -> str:
    """The number of tries that each way solved, and of those that only it solved."""
    asked, filled = ([a.solved for a in attempts if a.way == way] for way in WAYS)
    pairs = list(zip(asked, filled, strict=True))
    return (
        f"{sum(asked)} of {len(asked)} by the prompt alone ({pairs.count((True, False))} of them "
        f"not by fill), {sum(filled)} by fill ({pairs.count((False, True))} not by the prompt)"
    )


if __name__ == "__main__":
    main()
