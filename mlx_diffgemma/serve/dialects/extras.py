"""The fields of our own in an answer: `x_draft`, `x_seed`, `x_warnings`, `x_timings`, and more."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..events import Done, Draft


def draft_object(draft: Draft) -> dict[str, Any]:
    """A draft as `x_draft` has it."""
    return {**asdict(draft), "runs": [list(run) for run in draft.runs]}


def done_fields(done: Done) -> dict[str, Any]:
    """The fields at the top level of a finished answer.

    `x_constraint` where it was held to a form, `x_stop` the stop text that ended it, `x_holes` the
    texts of a template's holes.
    """
    told: dict[str, Any] = {
        "x_seed": done.seed,
        "x_warnings": list(done.warnings),
        "x_timings": asdict(done.timings),
    }
    if done.constraint is not None:
        told["x_constraint"] = asdict(done.constraint)
    if done.stop is not None:
        told["x_stop"] = done.stop
    if done.holes is not None:
        told["x_holes"] = list(done.holes)
    return told
