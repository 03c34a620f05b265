"""The verdicts about kernels in a few words, for `selftest` and `profile`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Outcomes, ages and unsteady ones of verdicts, given as JSON has them; "none" for none."""
    if not rows:
        return "none"
    counts = Counter(row["outcome"] for row in rows)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    ages = [row["age_days"] for row in rows if row["age_days"] is not None]
    return "; ".join([outcomes, _ages(ages, len(rows)), *_unsteady(rows)])


def _ages(days: Sequence[float], count: int) -> str:
    if not days:
        return "age unknown"
    oldest, newest = f"{max(days):.0f}", f"{min(days):.0f}"
    said = f"{oldest} days old" if oldest == newest else f"{newest} to {oldest} days old"
    return said if len(days) == count else f"{said}, {count - len(days)} of unknown age"


def _unsteady(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    unsteady = sum(not row["steady"] for row in rows)
    if not unsteady:
        return []
    return [f"{unsteady} found on a busy machine (MLX_DIFFGEMMA_KERNELS=check tries all anew)"]
