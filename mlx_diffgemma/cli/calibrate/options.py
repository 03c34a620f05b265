"""The options of `calibrate`, with their help; None is always "not given"."""

from dataclasses import MISSING, dataclass
from pathlib import Path

from ..errors import ArgumentError
from ..options import OVERWRITE_HELP, STANDARD_INPUT
from ..parameters import argument, flag, option

TARGET = 0.95
EACH = ("orders", "label_mass")
"""Options of a decision that a calibration has no use for."""


@dataclass(frozen=True)
class LabelledOptions:
    """The rows that are known, and the place of the result."""

    labelled: Path = argument(
        "LABELLED",
        "JSON lines {state, questions, gold}: gold has the right answer of each question by its "
        "id. Rows with the same state, or the same group, are measured together.",
        default=MISSING,
    )
    out: Path | None = option(
        "--out", "The file to write, for `decide --calibration`.", "FILE", short="-o"
    )
    target: float | None = option(
        "--target",
        "The share of right answers that the gate of the table is for. Default: 0.95.",
        "P",
    )
    as_json: bool = flag("--json", "Print one JSON object instead of the table.")
    overwrite: bool = flag("--overwrite", OVERWRITE_HELP)

    @property
    def file(self) -> Path:
        """The place of the result; ArgumentError where there is none, or for a target of none."""
        if self.out is None or self.out == STANDARD_INPUT:
            got = "missing" if self.out is None else "-"
            raise ArgumentError(f"-o is {got}, expected a file to write, such as calibration.json.")
        if not 0 < self.wanted <= 1:
            raise ArgumentError(
                f"--target is {self.wanted:g}, expected a share above 0, 1 at most."
            )
        return self.out

    @property
    def wanted(self) -> float:
        """The share of right answers that a gate is for."""
        return TARGET if self.target is None else self.target
