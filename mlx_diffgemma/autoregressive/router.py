"""The choice of mode `auto`: for each segment the mode that should take less time.

A pure function of times, counts and the context. An answer switches at most once, from diffusion to
ar, which shows no steps; what is written is never touched.
"""

import math
from dataclasses import dataclass, field

PRIOR_STEPS, PRIOR_WEIGHT = 14.0, 2.0  # steps of a full canvas, known before any is seen
COMMIT_STEPS = 0.7  # time of a commit in denoising steps, where it was not measured
THINKING = 1.30  # tokens by ar over those by diffusion for the same answer with a thought


@dataclass(frozen=True)
class Times:
    """Seconds of a denoising step, of a token in mode ar, and of a commit; source: where from."""

    step: float
    token: float
    source: str
    commit: float | None = None

    @property
    def commit_seconds(self) -> float:
        """The time of a commit, where it was not measured a share of a step's."""
        return COMMIT_STEPS * self.step if self.commit is None else self.commit


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

    def decide(self, segment: int, tokens_left: int, positions_left: int) -> Decision:
        """The decision for a segment, with the tokens and the context that are left."""
        expected = (PRIOR_WEIGHT * PRIOR_STEPS + sum(self.steps)) / (PRIOR_WEIGHT + len(self.steps))
        mode, even = decide(
            self.times,
            expected,
            self.canvas_length,
            self.length_factor,
            tokens_left=tokens_left,
            positions_left=positions_left,
        )
        made = Decision(segment, mode, expected, even)
        self.decisions.append(made)
        return made


def break_even(times: Times, canvas_length: int, length_factor: float) -> float:
    """Steps of a canvas, its commit taken off, that take as long as its tokens in mode ar."""
    if math.isinf(times.step):
        return -math.inf
    if math.isinf(times.token):
        return math.inf
    return (canvas_length * length_factor * times.token - times.commit_seconds) / times.step


def decide(
    times: Times,
    expected: float,
    canvas_length: int,
    length_factor: float,
    *,
    tokens_left: int,
    positions_left: int,
) -> tuple[str, float]:
    """The mode of the next segment, and the break-even steps.

    Near the end of the context, and for the last quarter of a canvas's tokens, it is ar, unless an
    infinite time says otherwise.
    """
    even = break_even(times, canvas_length, length_factor)
    if math.isinf(even):
        return ("diffusion" if even > 0 else "ar"), even
    if tokens_left < canvas_length // 4 or positions_left < canvas_length:
        return "ar", even
    return ("diffusion" if expected <= even else "ar"), even
