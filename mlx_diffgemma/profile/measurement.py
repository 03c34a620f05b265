"""Everything a measurement has come to so far, and where it was taken."""

from dataclasses import dataclass, field
from typing import Any

from ..conversation.session import Session
from ..machine.identity import Machine
from .baseline import Baseline
from .condition import Condition
from .measure import AnswerRecord, CanvasRecord
from .workload import Workload


@dataclass
class Measurement:
    """All that was measured, and where; conditions before and after."""

    session: Session
    name: str
    workload: Workload
    machine: Machine
    before: Condition
    records: list[AnswerRecord] = field(default_factory=list)
    after: Condition | None = None
    peak_memory_bytes: int = 0
    sustained_seconds: float | None = None
    baseline: Baseline | None = None
    encoder_head: dict[str, Any] | None = None

    @property
    def canvases(self) -> list[CanvasRecord]:
        return [canvas for record in self.records for canvas in record.canvases]

    @property
    def step_seconds(self) -> list[float]:
        return [seconds for canvas in self.canvases for seconds in canvas.step_seconds]

    @property
    def tokens(self) -> int:
        return sum(len(record.token_ids) for record in self.records)
