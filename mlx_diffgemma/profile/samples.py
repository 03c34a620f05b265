"""The samples of a measurement, nothing averaged: spans, messages, steps, canvases, answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .workload import Question


@dataclass(frozen=True)
class Span:
    """Something that took time; began: seconds on the clock that measured it."""

    name: str
    began: float
    seconds: float
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class MessageTime:
    """A message between Macs: bytes that this one sent, seconds until all others were there, and
    seconds of the message itself."""

    name: str
    bytes: int
    wait_seconds: float
    transfer_seconds: float


@dataclass(frozen=True)
class StepParts:
    """One fenced step: seconds of each component, how often it was waited for, and every call.

    expert_rows [L, E]: the rows that the router gave each expert of each layer; messages: between
    Macs.
    """

    seconds: dict[str, float]
    fences: dict[str, int]
    spans: tuple[Span, ...] = ()
    expert_rows: NDArray[np.uint16] = field(
        default_factory=lambda: np.zeros((0, 0), np.uint16), compare=False
    )
    messages: tuple[MessageTime, ...] = ()

    @property
    def total(self) -> float:
        """Seconds of the whole step, fences included."""
        return sum(self.seconds.values())


@dataclass
class CanvasRecord:
    """One canvas: seconds of its steps, of them those that its reader took, committed tokens.

    second_tier_rows, dense_rows of every step: see Frame. commit_seconds: its encoding afterwards,
    None where it was not encoded; parts: the time of each part in a fenced repetition of the same
    steps.
    """

    step_seconds: list[float] = field(default_factory=list)
    caller_seconds: list[float] = field(default_factory=list)
    second_tier_rows: list[int] = field(default_factory=list)
    dense_rows: list[int] = field(default_factory=list)
    tokens: int = 0
    prefix: int = 0
    commit_seconds: float | None = None
    parts: list[StepParts] = field(default_factory=list)


@dataclass
class AnswerRecord:
    """One answer; began: seconds since the measurement began; seconds: from prompt to last token.

    seconds leaves out the commit of the last canvas, which no answer needs, and repetitions.
    """

    question: Question
    began: float
    prefill_seconds: float = 0.0
    first_canvas_seconds: float = 0.0
    seconds: float = 0.0
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    canvases: list[CanvasRecord] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
