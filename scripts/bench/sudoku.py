#!/usr/bin/env python3
"""Solve rates and times of the embedded checkpoint, by clue count.

    python scripts/bench/sudoku.py --json scripts/bench/results/NAME.json

Every puzzle of tests/assets/data/puzzles.json is asked through the public session, once a seed. An
answer counts when it is the puzzle's one solution, to the last digit. Seconds run from the question
to the last token, with the model loaded and one puzzle solved. The trainer's rates stand beside:
other puzzles (200 a row), torch, and float32 weights not yet rounded to float16.
"""

import argparse
import json
import math
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import environment, progress

import mlx_diffgemma as dg

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PUZZLES = Path(__file__).parents[2] / "tests" / "assets" / "data" / "puzzles.json"
# mlx_diffgemma/assets/tiny-sudoku/MODEL.md: at most so many steps -> clues -> solved, mean steps.
TRAINER = {
    16: {32: (0.685, 7.1), 36: (0.900, 4.8), 40: (0.965, 3.5), 45: (0.990, 2.9), 50: (1.0, 2.5)},
    48: {32: (0.685, 11.8), 36: (0.910, 6.1), 40: (0.965, 3.6), 45: (0.990, 2.9), 50: (1.0, 2.5)},
}


@dataclass(frozen=True)
class Attempt:
    """One puzzle asked once."""

    clues: int
    max_steps: int
    seed: int
    solved: bool
    steps: int
    seconds: float


def main() -> None:
    args = arguments(__doc__)
    puzzles: list[dict[str, Any]] = json.loads(PUZZLES.read_text())
    chosen = first_of_each(puzzles, args.limit)
    session = dg.load("tiny-sudoku")
    session.ask(chosen[0]["puzzle"], settings=dg.Settings(seed=0))
    attempts = []
    for max_steps in args.steps:
        for seed in range(args.seeds):
            attempts += [attempt(session, puzzle, max_steps, seed) for puzzle in chosen]
            progress(f"at most {max_steps} steps, seed {seed}: {len(attempts)} attempts")
    content = {
        "command": shlex.join(["scripts/bench/sudoku.py", *sys.argv[1:]]),
        **environment("mlx", "mlx-diffgemma", "numpy"),
    }
    for name, value in content.items():
        print(f"{name}: {value}")
    print(table(attempts))
    if args.json:
        args.json.write_text(as_json(content, attempts))


def attempt(session: dg.Session, puzzle: dict[str, Any], max_steps: int, seed: int) -> Attempt:
    settings = dg.Settings(seed=seed, max_denoising_steps=max_steps)
    reply = session.ask(puzzle["puzzle"], settings=settings)
    solved = "".join(reply.text.split()) == puzzle["solution"]
    return Attempt(
        puzzle["clues"], max_steps, seed, solved, sum(reply.steps), round(reply.seconds.total, 4)
    )


HEAD = ["steps", "clues", "tries", "solved", "trainer", "used", "trainer", "median", "p90", "most"]


def table(attempts: Sequence[Attempt]) -> str:
    """A line for each limit of steps and count of clues; seconds in the last three columns."""
    lines = [cells_of(HEAD)]
    for max_steps in sorted({a.max_steps for a in attempts}):
        limited = [a for a in attempts if a.max_steps == max_steps]
        for clues in sorted({a.clues for a in limited}):
            lines.append(_line([a for a in limited if a.clues == clues]))
    return "\n".join(lines)


def _line(row: Sequence[Attempt]) -> str:
    clues, max_steps = row[0].clues, row[0].max_steps
    rate, steps = TRAINER.get(max_steps, {}).get(clues, (math.nan, math.nan))
    seconds = sorted(a.seconds for a in row)
    return cells_of(
        [
            f"<= {max_steps}",
            f"{clues}",
            f"{len(row)}",
            f"{statistics.mean(a.solved for a in row):.1%}",
            f"{rate:.1%}",
            f"{statistics.mean(a.steps for a in row):.1f}",
            f"{steps:.1f}",
            f"{statistics.median(seconds):.3f} s",
            f"{seconds[int(0.9 * len(seconds))]:.3f} s",
            f"{seconds[-1]:.3f} s",
        ]
    )


def cells_of(cells: Sequence[str]) -> str:
    return "  ".join(cell.rjust(8) for cell in cells)


def as_json(content: dict[str, Any], attempts: Sequence["DataclassInstance"]) -> str:
    """`content` and the attempts, one a line."""
    rows = ",\n".join(f"  {json.dumps(list(asdict(a).values()))}" for a in attempts)
    columns = [field.name for field in fields(attempts[0])]
    head = json.dumps({**content, "columns": columns}, indent=1).removesuffix("\n}")
    return f'{head},\n "attempts": [\n{rows}\n ]\n}}\n'


def first_of_each(puzzles: Sequence[dict[str, Any]], limit: int | None) -> list[dict[str, Any]]:
    """The first `limit` puzzles of each count of clues, or all."""
    counts = sorted({puzzle["clues"] for puzzle in puzzles})
    return [p for count in counts for p in [p for p in puzzles if p["clues"] == count][:limit]]


def arguments(doc: str | None) -> argparse.Namespace:
    """The command line: limits to measure, and a file for the attempts; doc: the script's."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[16, 48], help="most steps [16 48]")
    parser.add_argument("--seeds", type=int, default=1, help="seeds, from 0 [1]")
    parser.add_argument("--limit", type=int, help="puzzles of each count of clues [all 40]")
    parser.add_argument("--json", type=Path, help="file for all attempts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
