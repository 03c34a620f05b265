"""The table of `calibrate` for people."""

from collections.abc import Iterator
from pathlib import Path

from ...decide.fit import FOLDS
from ...decide.reliability import bins, gate
from ...errors import counted
from .report import Report


def lines(report: Report, file: Path) -> Iterator[str]:
    """Temperatures, errors before and after, the reliability table and the gate."""
    made = report.calibration
    yield "type      answers  temperature        ECE before  after   Brier before  after"
    for kind in (*made.rows, "all"):
        count = made.rows.get(kind, len(report.cases))
        error, score = made.ece[kind], made.brier[kind]
        yield (
            f"{kind:8} {count:8,}  {_temperature(report, kind):17} {error['before']:11.3f} "
            f"{error['after']:6.3f} {score['before']:14.3f} {score['after']:6.3f}"
        )
    yield f"Measured out of fold, on {FOLDS} parts, each with temperatures of the other four."
    yield ""
    yield "claimed       answers   mean claim   right"
    for each in bins(report.cases, report.after):
        span = f"{each.low:.1f} to {each.high:.1f}"
        yield f"{span:12} {each.count:8,} {each.claimed:12.1%} {each.right:7.1%}"
    found = gate(report.cases, report.after, report.target)
    if found is None:
        yield f"No confidence is enough for {report.target:.0%} of the answers to be right."
    else:
        yield (
            f"From a confidence of {found.confidence:.2f} on, {found.accuracy:.1%} of the answers "
            f"are right; these are {found.share:.0%} of {counted(len(report.cases), 'answer')}."
        )
    yield f"written: {file}"


def _temperature(report: Report, kind: str) -> str:
    found = report.calibration.temperatures
    if kind == "choice" and found.choice:
        a, b = found.choice
        return f"{a:.2f} {'-' if b < 0 else '+'} {abs(b):.2f} ln n" if b else f"{a:.2f}"
    value = {"noul": found.noul, "score": found.score}.get(kind)
    return "" if value is None else f"{value:.2f}"
