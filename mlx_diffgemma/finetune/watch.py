"""A warning where the loss of a run rises."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

WINDOW, RECENT, SIGMAS = 50, 5, 3.0  # losses that a rise is measured against, those that rose


@dataclass
class Watch:
    """The last losses of a run."""

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW + RECENT))
    quiet_until: int = 0

    def __call__(self, step: int, loss: float) -> str | None:
        """A line where the last losses are far above those before, once in a window of steps."""
        self.losses.append(loss)
        if len(self.losses) < WINDOW + RECENT or step < self.quiet_until:
            return None
        losses = np.array(self.losses)
        before, recent = losses[:-RECENT], float(losses[-RECENT:].mean())
        mean, deviation = float(before.mean()), float(before.std())
        if recent <= mean + SIGMAS * deviation:
            return None
        self.quiet_until = step + WINDOW
        return (
            f"the loss rises: {recent:.3f} over the last {RECENT} steps, against {mean:.3f} with a "
            f"deviation of {deviation:.3f} over the {WINDOW} before"
        )
