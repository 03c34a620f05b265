#!/usr/bin/env python3
"""Whether a form costs anything: tiny-sudoku under forms that fit its habit, and that do not.

    python scripts/bench/forms_alarm.py --json scripts/bench/results/NAME.json

Every puzzle of tests/assets/data/puzzles.json is denoised in every arm, once a seed, with the same
noise in all arms. An answer counts when its digits are the puzzle's one solution. Steps are those
of the first canvas, the strain is that of its last step in nats. Misfits run to the cap of 48
steps; --misfits puzzles of each count of clues and one seed are enough for those.
"""

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from report import environment, progress
from sudoku import PUZZLES, as_json, cells_of, first_of_each

import mlx_diffgemma as dg
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.form import compiled, form_of
from mlx_diffgemma.constrain.machine import Machine
from mlx_diffgemma.constrain.tables import vocabulary_of
from mlx_diffgemma.constrain.vocabulary import Vocabulary
from mlx_diffgemma.text.token_bytes import token_bytes

CANVAS = 90
END, PAD = 1, 0  # the ids that end an answer and fill its canvas; both write no text
ROW = "[1-9]{9}"
LINES = rf"({ROW}\n){{8}}{ROW}"


@dataclass(frozen=True)
class Arm:
    """A form of the answer, None for none; "givens" has those of the puzzle.

    left: tokens it may take; fits: it holds what the model was trained to write, in its place.
    """

    name: str
    pattern: str | None
    left: int = CANVAS
    fits: bool = True


GIVENS = "givens"
ARMS = (
    Arm("free", None),
    Arm("shape", LINES),
    Arm("white space anywhere", r"([1-9][ \n]*){81}"),
    Arm("shape with the givens", GIVENS),
    Arm("a # allowed in front", f"#?{LINES}", CANVAS + 1),
    Arm("misfit: a # in front", f"#{LINES}", CANVAS + 1, fits=False),
    Arm("misfit: no line breaks", "[1-9]{81}", fits=False),
)


@dataclass(frozen=True)
class Attempt:
    """One puzzle denoised once; strain in nats, None without a form."""

    arm: str
    clues: int
    seed: int
    solved: bool
    valid: bool
    steps: int
    strain: float | None
    seconds: float


def main() -> None:
    args = arguments()
    puzzles: list[dict[str, Any]] = json.loads(PUZZLES.read_text())
    session = dg.load("tiny-sudoku")
    vocab = session.model.config.text.vocab_size
    forms = Forms(vocabulary_of(token_bytes(session.tokenizer, vocab)))
    attempts: list[Attempt] = []
    for arm in [arm for arm in ARMS if not args.arms or arm.name in args.arms]:
        chosen = first_of_each(puzzles, args.limit if arm.fits else args.misfits)
        for seed in range(args.seeds if arm.fits else 1):
            attempts += [attempt(session, forms, arm, puzzle, seed) for puzzle in chosen]
            progress(f"{arm.name}, seed {seed}: {len(attempts)} attempts")
    content = {
        "command": shlex.join(["scripts/bench/forms_alarm.py", *sys.argv[1:]]),
        **environment("mlx", "mlx-diffgemma", "numpy"),
    }
    for name, value in content.items():
        print(f"{name}: {value}")
    print(table(attempts))
    if args.json:
        args.json.write_text(as_json(content, attempts))


def attempt(
    session: dg.Session, forms: "Forms", arm: Arm, puzzle: dict[str, Any], seed: int
) -> Attempt:
    prompt = session.turn(puzzle["puzzle"]).prompt_ids
    form = forms.of(arm, puzzle["puzzle"])
    constraint = None if form is None else Constraint(form, arm.left)
    settings = dg.Settings(seed=seed, max_tokens=arm.left)
    frames = list(dg.denoise(session.model, prompt, settings, constraint=constraint))
    ends = [frame for frame in frames if frame.committed]
    text = session.tokenizer.decode([token for frame in ends for token in frame.tokens.tolist()])
    digits = "".join(filter(str.isdigit, text))
    valid = ends[-1].finish_reason == "stop" and len(digits) == len(puzzle["solution"])
    return Attempt(
        arm.name,
        puzzle["clues"],
        seed,
        digits == puzzle["solution"],
        valid,
        ends[0].step + 1,
        ends[0].strain,
        round(sum(frame.seconds for frame in frames), 4),
    )


@dataclass
class Forms:
    """The forms of a checkpoint's answers, each compiled once."""

    vocabulary: Vocabulary
    made: dict[str, Machine] = field(default_factory=dict)

    def of(self, arm: Arm, puzzle: str) -> Machine | None:
        """The form of an arm, if it has one; every given stands in the pattern as itself."""
        if arm.pattern is None:
            return None
        pattern = _givens(puzzle) if arm.pattern == GIVENS else arm.pattern
        if pattern not in self.made:
            form = form_of(pattern=pattern)
            assert form is not None
            self.made[pattern] = compiled(form, self.vocabulary, (END,), (END, PAD))
        return self.made[pattern]


def _givens(puzzle: str) -> str:
    cells = ["[1-9]" if cell == "." else cell for cell in puzzle]
    return r"\n".join("".join(cells[first : first + 9]) for first in range(0, 81, 9))


HEAD = ["", "seed", "tries", "solved", "valid", "steps", "strain", "largest"]


def table(attempts: Sequence[Attempt]) -> str:
    """A line an arm and a seed; the strain's median and its largest in nats."""
    lines = [HEAD[0].ljust(24) + cells_of(HEAD[1:])]
    for arm, seed in dict.fromkeys((a.arm, a.seed) for a in attempts):
        row = [a for a in attempts if (a.arm, a.seed) == (arm, seed)]
        strains = [a.strain for a in row if a.strain is not None]
        cells = [
            f"{seed}",
            f"{len(row)}",
            f"{sum(a.solved for a in row)}",
            f"{sum(a.valid for a in row)}",
            f"{statistics.mean(a.steps for a in row):.2f}",
            f"{statistics.median(strains):.2g}" if strains else "",
            f"{max(strains):.2g}" if strains else "",
        ]
        lines.append(arm.ljust(24) + cells_of(cells))
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--arms", nargs="+", help="names of arms [all]")
    parser.add_argument("--seeds", type=int, default=2, help="seeds, from 0 [2]")
    parser.add_argument("--limit", type=int, help="puzzles of each count of clues [all 40]")
    parser.add_argument("--misfits", type=int, default=4, help="the same for the misfits [4]")
    parser.add_argument("--json", type=Path, help="file for all attempts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
