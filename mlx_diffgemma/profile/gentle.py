"""The same answers with pauses, as `--gentle` has them: the cost of a screen that does not lag."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from ..machine.pauses import Pauses
from ..model.text import Model
from .measure import Meter
from .samples import AnswerRecord
from .statistics import percentiles
from .workload import Question


@dataclass
class Gentle:
    """Answers of a model measured with pauses between pieces of its steps."""

    model: Model
    records: list[AnswerRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pauses = Pauses()
        self.model = copy(self.model)  # the other answers have no pauses
        self.model.pauses = self.pauses
        self._meter = Meter(self.model)

    def warm_up(self, question: Question) -> None:
        """Run an answer that counts nowhere, and by which pieces find their size."""
        self._meter.answer(question, commit_last=False)
        self.pauses.seconds = 0.0

    def answer(self, question: Question) -> None:
        """Measure one answer."""
        self.records.append(self._meter.answer(question, commit_last=False))

    def to_json(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Times beside those without pauses, and the share of them in which the GPU was free."""
        steps = [s for r in self.records for canvas in r.canvases for s in canvas.step_seconds]
        step_ms = percentiles([1e3 * seconds for seconds in steps])
        return {
            "answers": len(self.records),
            "step_ms": step_ms,
            "ratio": step_ms["p50"] / figures["step_ms"]["p50"],
            "free_share": self.pauses.seconds / sum(record.seconds for record in self.records),
        }
