"""Comparison of arrays that says, on failure, how far apart they are; and what was seen in all."""

import numpy as np
from numpy.typing import ArrayLike

LARGEST: dict[str, tuple[float, float]] = {}
"""What was compared -> the largest difference of the run, and its tolerance."""


def assert_close(got: ArrayLike, want: ArrayLike, tolerance: float, what: str) -> None:
    """The largest absolute difference is at most `tolerance`, and nothing is NaN."""
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
    difference = np.abs(a - b)
    largest = float(difference.max(initial=0.0))
    if not largest <= LARGEST.get(what, (0.0, 0.0))[0]:
        LARGEST[what] = (largest, tolerance)
    assert largest <= tolerance, (
        f"{what}: largest difference {largest:.3g}, mean {difference.mean():.3g}, "
        f"tolerance {tolerance:.3g}, values to {np.abs(b).max():.3g}"
    )
