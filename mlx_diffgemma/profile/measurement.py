"""A measurement: its samples, what they were taken of, and the machine they were taken on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..conversation.session import Session
from ..machine.identity import Machine
from .baseline import Baseline
from .condition import Condition
from .gentle import Gentle
from .samples import AnswerRecord, CanvasRecord
from .tokens import Written
from .workload import Workload


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
    gentle: Gentle | None = None
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
