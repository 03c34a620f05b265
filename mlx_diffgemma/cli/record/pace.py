"""The time for which each step of a recording is shown, on the screen and in a picture."""

from dataclasses import dataclass

from ...generation.frame import Frame
from ..errors import ArgumentError

LONGEST = 10.0  # seconds that a step is shown at most: nobody waits for more
FASTEST = 1e6  # times real time


@dataclass(frozen=True)
class Pace:
    """Steps for as long as each took, `speed` times faster, or all for `step_seconds` alike."""

    speed: float = 1.0
    step_seconds: float | None = None

    def seconds(self, frame: Frame) -> float:
        """The time for which a step is shown."""
        if self.step_seconds is not None:
            return self.step_seconds
        return min(frame.seconds / self.speed, LONGEST)


def chosen_pace(speed: float | None, step_seconds: float | None) -> Pace:
    """The pace that --speed or --pace asks for; ArgumentError for both, or one out of range."""
    if speed is not None and step_seconds is not None:
        raise ArgumentError("--speed and --pace are both given; give one of them.")
    if speed is not None and not 0 < speed < FASTEST:
        raise ArgumentError(f"--speed is {speed:g}, expected a number above 0, 1 for real time.")
    if step_seconds is not None and not 0 <= step_seconds <= LONGEST:
        raise ArgumentError(f"--pace is {step_seconds:g}, expected seconds from 0 to {LONGEST:g}.")
    return Pace(1.0 if speed is None else speed, step_seconds)
