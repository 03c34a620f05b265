"""The samples of a measurement, nothing averaged, and where they were taken."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..conversation.session import Session
from ..machine.identity import Machine
from .baseline import Baseline
from .condition import Condition
from .tokens import Written
from .workload import Question, Workload

if TYPE_CHECKING:
    from .gentle import Gentle


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


@dataclass
class Measurement:
    """All that was measured, and the machine's condition before and after.

    sustained_seconds: for how long it is to go on; complete: all that was asked for is measured;
    written: mode ar's tokens, gentle: answers with pauses, link: what it took between Macs, None
    where they are not measured.
    """

    session: Session
    name: str
    workload: Workload
    machine: Machine
    before: Condition
    records: list[AnswerRecord] = field(default_factory=list)
    after: Condition | None = None
    peak_memory_bytes: int = 0
    sustained_seconds: float | None = None
    complete: bool = False
    baseline: Baseline | None = None
    written: Written | None = None
    gentle: "Gentle | None" = None
    encoder_head: dict[str, Any] | None = None
    decide: dict[str, Any] | None = None
    link: dict[str, Any] | None = None

    @property
    def alone(self) -> bool:
        """True where no other Mac has a share of the work."""
        return self.session.model.part.share.alone

    @property
    def adapter(self) -> str | None:
        """The last part of the adapter's folder, None where none is applied."""
        adapter = self.session.adapter
        return None if adapter is None else Path(adapter).resolve().name

    @property
    def canvases(self) -> list[CanvasRecord]:
        return [canvas for record in self.records for canvas in record.canvases]

    @property
    def seconds(self) -> float:
        """Seconds from the beginning to the end of the last answer."""
        return max((record.began + record.seconds for record in self.records), default=0.0)

    @property
    def is_enough(self) -> bool:
        """True behind the last answer: a sustained run has no number of them, but a time."""
        enough = len(self.records) >= self.workload.answers
        return enough and self.seconds >= (self.sustained_seconds or 0.0)

    @property
    def progress(self) -> str:
        """The share of the measurement that is done, in words."""
        count = len(self.records)
        if self.sustained_seconds is None:
            return f"{count} of {self.workload.answers} answers"
        return f"{count} answers in {self.seconds:.0f} of {self.sustained_seconds:.0f} s"

    @property
    def tokens(self) -> int:
        return sum(len(record.token_ids) for record in self.records)
