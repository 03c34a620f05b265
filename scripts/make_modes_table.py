#!/usr/bin/env python3
"""The table of docs/modes.md: seconds of an answer by diffusion, token by token, and by mode auto.

    python scripts/make_modes_table.py             # prints the table

A simulation, not a measurement: the package's own rule on the published steps of canvases, with
times of steps and tokens that are arithmetic. It fails where the rule takes over 10% longer than
the better of both modes, but for two known cells.
"""

import json
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from mlx_diffgemma.autoregressive.router import THINKING, Router, Times, break_even

DATA = json.loads((Path(__file__).parent / "bench" / "data" / "canvas-steps.json").read_text())
CANVAS, MOST_STEPS = 256, 48
ANSWERS = 100
MACHINES = {
    "M1 Max": Times(388, 15.0, "arithmetic"),
    "M4 Pro": Times(447, 18.1, "arithmetic"),
    "M4 Max": Times(224, 10.4, "arithmetic"),
    "M5 Max": Times(62, 11.1, "arithmetic"),
    "M5 Max, 179 ms": Times(179, 11.1, "arithmetic"),
}
"""A step at 60% of the arithmetic peak; a token at 85% of the memory's rate and 2.3 us for each of
1,130 launches, with the published 4-bit weights. The last row's step is another engine's today."""
ANSWER_SPREAD, CANVAS_SPREAD = 0.13, 0.20  # of ln(steps): published variation 0.24, correlation 0.3
ALLOWED = 1.10
EXCEPT = {("M5 Max, 179 ms", "prose"): 1.26}
SECONDS_ALLOWED = {("M5 Max, 179 ms", "JSON"): 0.3}


@dataclass(frozen=True)
class Kind:
    """Answers alike. steps: published mean a canvas, None: as the real canvases follow each other.

    capped: canvases of which a part never settles; thinking: with thoughts.
    """

    name: str
    canvases: int
    last: int  # tokens of the last canvas
    steps: float | None
    thinking: bool = False
    capped: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of the answer."""
        return CANVAS * (self.canvases - 1) + self.last


KINDS = (
    Kind("JSON", 1, 48, 3.7),
    Kind("chat", 1, 90, 5.4),
    Kind("code", 3, 128, 10.5),
    Kind("explanation", 4, 132, None),
    Kind("prose", 4, 132, 28.2),
    Kind("maths", 16, 160, 12.6, thinking=True),
    Kind("programming contest", 16, 160, 17.1, thinking=True),
    Kind("science, some canvases capped", 16, 160, 20.9, thinking=True, capped=True),
)


def main() -> None:
    print("\n".join(table()))
    if wrong := too_slow():
        sys.exit("\n".join(wrong))


def table(answers: int = ANSWERS) -> Iterator[str]:
    """Markdown lines: a row a kind of answer, a column a machine."""
    yield f"| answer: tokens, steps a canvas | {' | '.join(MACHINES)} |"
    yield f"|{' --- |' * (1 + len(MACHINES))}"
    evens = [f"{even(times):.1f} / {even(times, THINKING):.1f}" for times in MACHINES.values()]
    yield f"| break-even steps, without / with thinking | {' | '.join(evens)} |"
    for kind in KINDS:
        canvases = simulated(kind, answers)
        steps = mean(steps for answer in canvases for steps in answer)
        cells = [shown(seconds(kind, canvases, times)) for times in MACHINES.values()]
        yield f"| {kind.name}: {kind.tokens:,}, {steps:.1f} | {' | '.join(cells)} |"


def even(times: Times, length_factor: float = 1.0) -> float:
    return break_even(times, CANVAS, length_factor)


def shown(cell: tuple[float, float, float]) -> str:
    """Seconds by diffusion, by ar and by auto."""
    return " / ".join(f"{each:.1f}" for each in cell)


def too_slow(answers: int = ANSWERS) -> list[str]:
    """A line for each cell in which the rule loses more than it may."""
    wrong = []
    for kind in KINDS:
        canvases = simulated(kind, answers)
        for machine, times in MACHINES.items():
            *single, both = seconds(kind, canvases, times)
            place = (machine, kind.name)
            most = EXCEPT.get(place, ALLOWED) * min(single)
            if both > max(most, min(single) + SECONDS_ALLOWED.get(place, 0.0)):
                wrong.append(
                    f"{machine}, {kind.name}: auto {both:.2f} s, alone {min(single):.2f} s"
                )
    return wrong


def seconds(kind: Kind, answers: list[list[int]], times: Times) -> tuple[float, float, float]:
    """Mean seconds of answers by diffusion, by ar and by the rule."""
    longer = THINKING if kind.thinking else 1.0
    by_steps = [sum(a) * times.step_ms + (len(a) - 1) * times.commit_ms for a in answers]
    by_tokens = kind.tokens * longer * times.token_ms
    by_rule = [ruled(kind, answer, times, longer) for answer in answers]
    return mean(by_steps) / 1e3, by_tokens / 1e3, mean(by_rule) / 1e3


def ruled(kind: Kind, canvases: list[int], times: Times, longer: float) -> float:
    """Milliseconds of an answer in mode auto; the length is not known to the rule."""
    router, spent = Router(times, CANVAS, kind.thinking), 0.0
    for number, steps in enumerate(canvases):
        last = number + 1 == len(canvases)
        if router.decide(tokens_left=10**6, positions_left=10**6) == "ar":
            spent += (kind.last if last else CANVAS) * longer * times.token_ms
            continue
        router.steps.append(steps)
        spent += steps * times.step_ms + (0 if last else times.commit_ms)
    return spent


def simulated(kind: Kind, answers: int) -> list[list[int]]:
    """Steps of each canvas of each answer."""
    draw = random.Random(kind.name)
    return [_answer(kind, draw) for _ in range(answers)]


def _answer(kind: Kind, draw: random.Random) -> list[int]:
    if kind.steps is None:
        start = draw.randrange(len(DATA["bf16"]) - kind.canvases)
        return list(DATA["bf16"][start : start + kind.canvases])
    factor, hard = math.exp(draw.gauss(0, ANSWER_SPREAD)), draw.random() < 0.5
    canvases = []
    for _ in range(kind.canvases):
        spread = draw.gauss(0, CANVAS_SPREAD * (2 if kind.capped else 1))
        steps = round(kind.steps * factor * math.exp(spread))
        if kind.capped and hard and draw.random() < 0.42:  # they come in runs
            steps = MOST_STEPS
        canvases.append(min(MOST_STEPS, max(2, steps)))
    return canvases


if __name__ == "__main__":
    main()
