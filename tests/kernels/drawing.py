"""Draws against the distribution that they are from."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def chi_square_quantile(freedom: int) -> float:
    """Where a chi-square's upper 0.1% begins (Wilson and Hilferty, 1931; 3.0902: normal)."""
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + 3.0902 * spread**0.5) ** 3)


def assert_chi_square(seen: NDArray[Any], expected: NDArray[np.float64]) -> None:
    """Counts of 200,000 draws, at p = 0.001; what is expected fewer than 5 times is pooled."""
    rare = expected < 5
    seen = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    statistic = ((seen - expected) ** 2 / expected).sum()
    freedom = seen.size - 1
    limit = chi_square_quantile(freedom)
    print(f"chi-square {statistic:.0f} at {freedom} degrees, limit {limit:.0f}")
    assert freedom > 2500
    assert statistic < limit, f"chi-square {statistic:.0f}, limit {limit:.0f} at {freedom} degrees"
