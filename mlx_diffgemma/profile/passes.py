"""Passes of the network by the published definitions, and a line where canvases take too many."""

from collections.abc import Sequence

from .measurement import Measurement
from .workload import FEWEST, subject_of

Counted = tuple[int, int]
"""Tokens and steps of a canvas."""

MOST_EFFECTIVE_STEPS = 28.0
"""Effective steps above which something is wrong with a full-size model.

Published: 9.1 to 17.1 by benchmark; 14.4 for explanations (a tenth takes more than 18), 3.7 for
JSON, and 28 for prose, the slowest kind, of which the shipped prompts have two in twenty. All
products in 4-bit activations, a known fault, take 46.
"""
HEALTHY_STEPS = (
    f"a healthy engine takes 9 to 17, and for prose alone {MOST_EFFECTIVE_STEPS:.0f} (published)"
)
FULL_SIZE = 10**10  # parameters: what is published is of 26 billion


def tokens_per_forward(answers: Sequence[Sequence[Counted]]) -> float:
    """Tokens by passes: the steps, and the encoding of every canvas but an answer's last."""
    tokens = sum(tokens for canvases in answers for tokens, _ in canvases)
    passes = sum(sum(steps for _, steps in canvases) + len(canvases) - 1 for canvases in answers)
    return tokens / passes


def effective_steps(answers: Sequence[Sequence[Counted]]) -> float:
    """The mean of the steps a canvas, each canvas weighted by its tokens."""
    counted = [canvas for canvases in answers for canvas in canvases]
    return sum(tokens * steps for tokens, steps in counted) / sum(tokens for tokens, _ in counted)


def healthy(measured: Measurement, steps: float) -> bool | None:
    """False where a full-size model takes far more steps for the shipped prompts than published.

    None where the published steps say nothing: for fixed steps, which are those asked for, and for
    small models, which know other prompts or nothing.
    """
    session, workload = measured.session, measured.workload
    full_size = session.info.parameters >= FULL_SIZE and subject_of(session) == "prompts"
    if workload.fixed or not full_size or len(measured.canvases) < FEWEST:
        return None
    return steps <= MOST_EFFECTIVE_STEPS


def too_many_steps(measured: Measurement, steps: float) -> str | None:
    """A line where the steps are not healthy ones."""
    if healthy(measured, steps) is not False:
        return None
    return (
        f"{steps:.1f} effective steps a canvas, where {HEALTHY_STEPS}: weights packed too "
        "coarsely, or a bug; try a recipe of more bits, and `mlx-diffgemma selftest`"
    )
