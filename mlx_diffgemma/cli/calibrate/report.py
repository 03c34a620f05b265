"""A calibration with what it was measured on: for its table, and for `calibrate --json`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...decide.calibration import Bound, Calibration
from ...decide.fit import FOLDS, fitted, out_of_fold
from ...decide.labelled import Case
from ...decide.reliability import accuracy, bins, brier, ece, gate


@dataclass(frozen=True)
class Report:
    """A calibration, and the cases it was fitted to with their probabilities out of fold."""

    calibration: Calibration
    cases: Sequence[Case]
    after: Sequence[NDArray[np.float64]]
    target: float

    @classmethod
    def of(cls, cases: Sequence[Case], bound: Bound, target: float) -> "Report":
        """The calibration of cases."""
        before, after = [np.exp(case.log_p) for case in cases], out_of_fold(cases)
        kinds = [kind for kind in ("noul", "choice", "score") if any(c.kind == kind for c in cases)]
        measured: dict[str, dict[str, dict[str, float]]] = {"ece": {}, "brier": {}}
        for kind in (*kinds, "all"):
            own = [i for i, case in enumerate(cases) if kind in (case.kind, "all")]
            some = [cases[i] for i in own]
            for name, measure in (("ece", ece), ("brier", brier)):
                pair = [measure(some, [p[i] for i in own]) for p in (before, after)]
                told = [round(number, 6) for number in pair]
                measured[name][kind] = dict(zip(("before", "after"), told, strict=True))
        rows = {kind: sum(case.kind == kind for case in cases) for kind in kinds}
        calibration = Calibration(bound, fitted(cases), rows, **measured)
        return cls(calibration, cases, after, target)

    def to_json(self) -> dict[str, Any]:
        """The object of `calibrate --json`."""
        found = gate(self.cases, self.after, self.target)
        return {
            **self.calibration.to_json(),
            "folds": FOLDS,
            "accuracy": accuracy(self.cases, self.after),
            "bins": [asdict(each) for each in bins(self.cases, self.after)],
            "target": self.target,
            "gate": None if found is None else asdict(found),
        }
