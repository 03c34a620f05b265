"""The choice of mode `auto`: for each segment the mode that should take less time.

A pure function of times, counts and the context. An answer switches at most once, from diffusion to
ar, which shows no steps; what is written is never touched.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

PRIOR_STEPS, PRIOR_WEIGHT = 14.0, 2.0  # steps of a full canvas, known before any is seen
COMMIT_STEPS = 0.7  # time of a commit in denoising steps, where it was not measured
THINKING = 1.30  # tokens by ar over those by diffusion for the same answer with a thought
SHORT = 4  # fewer tokens than this part of a canvas are left to ar


@dataclass(frozen=True)
class Times:
    """Milliseconds of a denoising step, of a token in mode ar, and of a commit; source: where from.

    An infinite one leaves everything to the other mode.
    """

    step_ms: float
    token_ms: float
    source: str
    measured_commit_ms: float | None = None

    @property
    def commit_ms(self) -> float:
        """The time of a commit, where it was not measured a share of a step's."""
        measured = self.measured_commit_ms
        return COMMIT_STEPS * self.step_ms if measured is None else measured


@dataclass(frozen=True)
class Decision:
    """The mode of a segment, expected steps a canvas, and those that take as long as its tokens."""

    segment: int
    mode: str
    expected: float
    break_even: float


@dataclass
class Router:
    """The decisions of one answer. thinking: it begins with a thought."""

    times: Times
    canvas_length: int
    thinking: bool = False
    decisions: list[Decision] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)  # of this answer's canvases so far

    @property
    def length_factor(self) -> float:
        """Tokens by ar over those by diffusion for the same answer."""
        return THINKING if self.thinking else 1.0

    def decide(self, tokens_left: int, positions_left: int) -> str:
        """The mode of the next segment, with the tokens and the context that are left."""
        expected = expected_steps(self.steps)
        even = break_even(self.times, self.canvas_length, self.length_factor)
        switched = bool(self.decisions) and self.decisions[-1].mode == "ar"
        mode = "ar"
        if not switched:
            mode = decide(expected, even, self.canvas_length, tokens_left, positions_left)
        self.decisions.append(Decision(len(self.decisions), mode, expected, even))
        return mode


def expected_steps(steps: Sequence[int]) -> float:
    """Steps that a canvas should take, after those of the answer so far."""
    return (PRIOR_WEIGHT * PRIOR_STEPS + sum(steps)) / (PRIOR_WEIGHT + len(steps))


def break_even(times: Times, canvas_length: int, length_factor: float = 1.0) -> float:
    """Steps of a canvas, its commit taken off, that take as long as its tokens in mode ar."""
    if math.isinf(times.step_ms):
        return -math.inf
    if math.isinf(times.token_ms):
        return math.inf
    return (canvas_length * length_factor * times.token_ms - times.commit_ms) / times.step_ms


def decide(
    expected: float, even: float, canvas_length: int, tokens_left: int, positions_left: int
) -> str:
    """The mode of a segment with as many tokens and positions left.

    Near the end of the context, and for less than a quarter of a canvas, it is ar, unless an
    infinite break-even says otherwise.
    """
    if math.isinf(even):
        return "diffusion" if even > 0 else "ar"
    if SHORT * tokens_left < canvas_length or positions_left < canvas_length:
        return "ar"
    return "diffusion" if expected <= even else "ar"
