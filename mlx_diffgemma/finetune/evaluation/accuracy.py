"""Accuracy: shares of right answers with intervals, and the steps that they took."""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

Z = 1.959963984540054  # normal quantile of a two-sided 95% interval


def wilson(share: float, cases: int) -> tuple[float, float]:
    """The 95% interval of a share seen in so many independent cases; (0, 1) without any.

    Wilson's score interval: within 0 and 1, and of use at both. share need not be a multiple of
    1 / cases: where a case was answered several times it is the mean, and cases count once, since
    answers to one question are no independent evidence about others.
    """
    if not cases:
        return 0.0, 1.0
    square = Z * Z / cases
    middle = share + square / 2
    half = Z * math.sqrt(share * (1 - share) / cases + square / (4 * cases))
    low, high = ((middle + sign * half) / (1 + square) for sign in (-1, 1))
    return max(0.0, low) if share > 0 else 0.0, min(1.0, high) if share < 1 else 1.0


@dataclass
class Tally:
    """Answers counted. tokens: of denoised canvases, as steps and canvases are."""

    n: int = 0
    correct: int = 0
    canvases: int = 0
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    cases: set[Hashable] = field(default_factory=set)

    @property
    def accuracy(self) -> float:
        """The share of right answers; 0 where there is none at all."""
        return self.correct / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the accuracy; see `wilson`."""
        return wilson(self.accuracy, len(self.cases))

    @property
    def mean_steps(self) -> float | None:
        """Denoising steps a canvas; None where nothing was denoised."""
        return self.steps / self.canvases if self.canvases else None

    @property
    def tokens_per_step(self) -> float | None:
        """Tokens of canvases by denoising steps; None where nothing was denoised."""
        return self.tokens / self.steps if self.steps else None

    @staticmethod
    def together(tallies: Iterable["Tally"]) -> "Tally":
        """One Tally of all."""
        whole = Tally()
        for each in tallies:
            whole.add(each)
        return whole

    def add(self, other: "Tally") -> None:
        """Count another's answers in."""
        self.n += other.n
        self.correct += other.correct
        self.canvases += other.canvases
        self.steps += other.steps
        self.tokens += other.tokens
        self.seconds += other.seconds
        self.cases |= other.cases
