"""The fields of our own in an answer: `x_draft`, `x_seed`, `x_warnings` and `x_timings`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .events import Done, Draft


def draft_object(draft: Draft) -> dict[str, Any]:
    """A draft as `x_draft` has it."""
    return {**asdict(draft), "runs": [list(run) for run in draft.runs]}


def done_fields(done: Done) -> dict[str, Any]:
    """The fields at the top level of a finished answer."""
    return {
        "x_seed": done.seed,
        "x_warnings": list(done.warnings),
        "x_timings": asdict(done.timings),
    }
