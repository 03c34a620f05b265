"""A scripted engine that settles: drafts like those of a real canvas, for the page."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

from scripted import FACTS, ScriptedEngine, Step, done

from mlx_diffgemma.conversation.scene import Run
from mlx_diffgemma.serve.asked import Asked, Infill
from mlx_diffgemma.serve.events import Begun, Draft, Text, Thought, Timings, Usage

STEPS = 48
SETTLED = 12  # steps until a canvas has settled
THOUGHT = "Tides are regular, so the moon is the first thing to name."
ANSWER = (
    "The **moon** pulls on the near side of the Earth more than on its middle, and on the middle "
    "more than on the far side, so the water is drawn into two bulges.\n\n"
    "1. The Earth turns under them once a day.\n"
    "2. Each coast meets both: two high tides, two low ones.\n"
    "3. Where sun and moon pull in one line, as at new moon, the tide is a *spring tide*.\n\n"
    "```python\nperiod = 24 + 50 / 60  # hours, since the moon moves on meanwhile\n```\n"
)


def settling_engine(pause: float = 0.02, *, sees: bool = False) -> ScriptedEngine:
    """An engine whose canvases take 12 steps, each after a pause in seconds."""
    facts = replace(FACTS, name="scripted", canvas_length=256, sees=sees)
    return ScriptedEngine(lambda asked: list(script_of(asked, pause)), facts)


def script_of(asked: Asked, pause: float) -> Iterator[Step]:
    """The answer to anything: a thought where one is wanted, then two canvases."""
    seed = asked.settings.seed if asked.settings.seed is not None else 7
    yield Begun(seed, 12, 0)
    if isinstance(asked, Infill):
        yield from _filled(asked, seed, pause)
        return
    if getattr(asked, "think", False):
        yield Thought(THOUGHT)
    half = ANSWER.index("1. The Earth")
    for canvas, text in enumerate((ANSWER[:half], ANSWER[half:])):
        yield from drafts_of(text, canvas, pause)
        yield Text(text)
    warned = ("temperature is not used in mode diffusion.",) if asked.settings.temperature else ()
    usage, timings = Usage(prompt=12, completion=137), Timings(0.05, 2.4, 24, 137 / 24)
    yield done(seed=seed, usage=usage, timings=timings, warnings=(*asked.warnings, *warned))


def _filled(asked: Infill, seed: int, pause: float) -> Iterator[Step]:
    assert asked.template is not None
    texts = asked.template.texts
    holes = tuple(f"hole {number}" for number in range(1, len(texts)))
    whole = texts[0] + "".join(h + text for h, text in zip(holes, texts[1:], strict=True))
    yield from drafts_of(whole, 0, pause)
    yield Text(whole)
    yield done(seed=seed, holes=holes)


def drafts_of(text: str, canvas: int, pause: float) -> Iterator[Step]:
    """The drafts of a canvas that becomes a text; all of a word settles at once."""
    words = re.findall(r"\S+\s*|\s+", text)
    dice = random.Random(canvas)
    due = [dice.uniform(1, SETTLED) for _ in words]
    for step in range(SETTLED + 1):
        yield pause
        runs = tuple(_run(word, when - step, dice) for word, when in zip(words, due, strict=True))
        accepted = round(256 * sum(when <= step for when in due) / len(due))
        entropy = 4 * (1 - step / SETTLED) ** 2
        yield Draft("".join(run for run, _ in runs), canvas, step, STEPS, accepted, entropy, runs)


def _run(word: str, left: float, dice: random.Random) -> Run:
    """A word with so many steps to go until it is accepted."""
    if left <= 0:
        return word, "c0 a u" if left > -1 else "c0 a"
    level = min(4, 1 + int(left // 2))
    noise = "".join(dice.choice("etaoinshr") if each.isalpha() else each for each in word)
    return (noise, f"c{level} u") if left > 3 or dice.random() < 0.4 else (word, f"c{level}")
