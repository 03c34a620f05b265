"""The report of `profile compare`: two measurements side by side."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...profile.comparison import Row, is_complete

Values = Mapping[str, Any]


def comparison_lines(rows: Sequence[Row], profiles: Mapping[str, Values]) -> Iterator[str]:
    """The report of `profile compare`: a line a figure, the step's in words first.

    profiles: the two runs by the letters that they have in the table.
    """
    step = next(row for row in rows if row.name == "step")
    yield f"{_verdict(step)}: a step changes by {_interval(step)}"
    yield ""
    yield f"{'':<16}{'A':>12}{'B':>12}  change (95% interval)"
    for row in rows:
        name = f"{row.name} [{row.unit}]" if row.unit else row.name
        yield (
            f"{name:<20}{row.change.first:>10.4g}{row.change.second:>12.4g}  {_interval(row)}, "
            f"{row.verdict}"
        )
    for letter, profile in profiles.items():
        if not is_complete(profile):
            answers = len(profile["answers"])
            yield f"warning: {letter} is of a run that was not finished: {answers} answers"


def _verdict(step: Row) -> str:
    return {"better": "B is faster", "worse": "B is slower"}.get(step.verdict, step.verdict)


def _interval(row: Row) -> str:
    if not math.isfinite(row.change.high):
        return f"{row.change.share:+.1%}"
    return f"{row.change.share:+.1%} ({row.change.low:+.1%} to {row.change.high:+.1%})"
