"""Times of both modes on this machine, by which mode auto chooses and lookup stays on or off."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from ..machine.choices import ModeTimes
from ..model.roofline import ROWS
from ..model.text import Model
from .race import Work, race
from .tokens import Writing, row_works
from .tune_check import Probe

STEP, COMMIT, TOKENS, UNTUNED = "step", "commit", "tokens", "untuned tokens"


def mode_times(
    model: Model,
    untuned: Model,
    step: Work,
    probe: Probe,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[ModeTimes, float]:
    """The times of a network as tuned, and the milliseconds of a token by the untuned one.

    step: a denoising step of the tuned network. All are run in turn behind the probe's prompt.
    """
    writing = Writing(model, probe.prompt)
    works: dict[Any, Work] = {STEP: step, COMMIT: _commit(model, probe), TOKENS: writing}
    works |= row_works(model, probe.prompt)
    if model is not untuned:
        works[UNTUNED] = Writing(untuned, probe.prompt)
    ms = {name: 1e3 * median(seconds) for name, seconds in race(works, clock).items()}
    token_ms = ms[TOKENS] / writing.count
    rows = tuple((rows, ms[rows]) for rows in ROWS if rows in ms)
    times = ModeTimes(ms[STEP], token_ms, ms[COMMIT], rows)
    return times, ms.get(UNTUNED, ms[TOKENS]) / writing.count


def _commit(model: Model, probe: Probe) -> Work:
    """The causal pass over a whole canvas, taken off the prefix again."""
    C, V = model.config.canvas_length, model.config.text.vocab_size
    canvas = probe.noise.canvas(0, C, V)
    prefix = model.encode(probe.prompt)
    length = prefix.length

    def run() -> None:
        model.encode(canvas, prefix, images=None)
        prefix.roll_back(length)

    return run
