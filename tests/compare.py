"""Comparison of arrays that says, on failure, how far apart they are; and what was seen in all."""

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class Record:
    """The largest difference of what was compared while `on`: difference, tolerance and test."""

    on: bool = False
    largest: dict[str, tuple[float, float, str]] = field(default_factory=dict)

    def note(self, what: str, difference: float, tolerance: float) -> None:
        if self.on and not difference <= self.largest.get(what, (-1.0,))[0]:
            test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2]
            self.largest[what] = (difference, tolerance, test.removesuffix(" (call)"))


RECORD = Record()


def assert_close(got: ArrayLike, want: ArrayLike, tolerance: float, what: str) -> None:
    """The largest absolute difference is at most `tolerance`, and nothing is NaN."""
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
    difference = np.abs(a - b)
    largest = float(difference.max(initial=0.0))
    RECORD.note(what, largest, tolerance)
    assert largest <= tolerance, (
        f"{what}: largest difference {largest:.3g}, mean {difference.mean():.3g}, "
        f"tolerance {tolerance:.3g}, values to {np.abs(b).max():.3g}"
    )
