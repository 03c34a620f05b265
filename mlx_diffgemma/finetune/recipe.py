"""The numbers of a training run, with the published ones as defaults.

Sources: google-deepmind/gemma `sft_sudoku` (AdamW with 0.95 and 0.99, 1.5e-4 after a warm-up down
to a tenth along a cosine, norm 1), TRL `sft_diffusion_gemma.py` and NeMo AutoModel alike.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import Setting, SettingsError

Schedule = Literal["cosine", "linear", "constant"]
OptimizerName = Literal["adamw", "adafactor", "muon"]

LAST_SHARE = 0.1  # of the learning rate, at the end of a schedule that falls
WARMUP_SHARE = 0.05  # of the steps: 100 of 2,000


@dataclass(frozen=True)
class Recipe:
    """The course of a training run; SettingsError for a number out of its range.

    accumulate: parts of a step, each a batch, whose gradients are averaged. warmup: steps in which
    the learning rate rises, None for a twentieth of all. falling: the last share of the steps, in
    which it falls to a tenth. clip: the largest norm of all gradients together, 0 for no limit.
    matrix_lr and momentum: Muon's, which leaves embedding, router and vectors to AdamW. average:
    how much of the averaged weights a step keeps; 0 for no average.
    """

    steps: int = 1000
    accumulate: int = 1
    lr: float = 1.5e-4
    warmup: int | None = None
    schedule: Schedule = "cosine"
    falling: float = 1.0
    optimizer: OptimizerName = "adamw"
    betas: tuple[float, float] = (0.95, 0.99)
    eps: float = 1e-8
    weight_decay: float = 1e-4
    clip: float = 1.0
    matrix_lr: float = 0.02
    momentum: float = 0.95
    average: float = 0.0
    save_every: int = 20
    valid_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "save_every"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("lr", "eps", "matrix_lr"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a number above 0")
        for name in ("weight_decay", "clip"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        for name in ("average", "momentum"):
            self._require(name, 0 <= getattr(self, name) < 1, "0 or more and below 1")
        self._require("betas", all(0 <= beta < 1 for beta in self.betas), "0 or more and below 1")
        self._require("falling", 0 < self.falling <= 1, "above 0 and at most 1")
        self._require("warmup", 0 <= self.warmup_steps <= self.steps, f"0 to {self.steps:,}")
        self._require("valid_every", self.valid_every is None or self.valid_every >= 1, "1 or more")
        self._require("seed", 0 <= self.seed < 2**64, "0 or more and below 2**64")
        for name, known in (("schedule", Schedule), ("optimizer", OptimizerName)):
            names = get_args(known)
            self._require(name, getattr(self, name) in names, "one of " + ", ".join(names))

    @property
    def warmup_steps(self) -> int:
        """Steps in which the learning rate rises."""
        if self.warmup is None:
            return math.ceil(self.steps * WARMUP_SHARE) if self.steps > 1 else 0
        return self.warmup

    def share(self, step: int) -> float:
        """The learning rate of step 1, 2, 3, ... as a share of the highest one.

        It rises in equal steps and reaches 1 at the last one of the warm-up, stays there until the
        last `falling` of the steps, and is a tenth at the last one.
        """
        warm = self.warmup_steps
        if step < warm:
            return step / warm
        begin = max(warm, round(self.steps * (1 - self.falling)))
        done = min(1.0, max(0, step - begin) / max(1, self.steps - begin))
        match self.schedule:
            case "constant":
                return 1.0
            case "linear":
                height = 1 - done
            case "cosine":
                height = (1 + math.cos(math.pi * done)) / 2
        return LAST_SHARE + (1 - LAST_SHARE) * height

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            found: Any = getattr(self, name)
            raise SettingsError(Setting(name), f" is {found}, expected {expected}.")
