"""The work of `profile`: a model loaded, measured, and its figures printed and written."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...checkpoint.hub import find_model
from ...machine.identity import this_machine
from ...profile import encoder_head
from ...profile.baseline import load_baseline, require_autoregressive
from ...profile.chrome_trace import chrome_trace
from ...profile.condition import condition
from ...profile.measurement import Measurement
from ...profile.report import to_json
from ...profile.run import run
from ...profile.workload import Workload
from ..answer.consent import ask_on_terminal
from ..answer.loading import load_session
from ..errors import exit_code
from ..options import ModelOptions
from ..record.outfile import OutFile
from ..terminal.output import write_lines
from ..terminal.progress import Bar
from ..terminal.streams import say
from .options import MeasureOptions
from .text import lines


@dataclass(frozen=True)
class Plan:
    """A measurement to make; sustained_seconds: how long it goes on."""

    workload: Workload
    measure: MeasureOptions
    sustained_seconds: float | None


def measure_model(model: ModelOptions, plan: Plan, outputs: Sequence[OutFile | None]) -> int:
    """The whole measurement, or after an interrupt or an error the answers that are finished.

    outputs: for the figures and for the trace.
    """
    measured = _prepared(model, plan)
    try:
        _run(measured, plan)
    except (KeyboardInterrupt, Exception) as error:  # out of memory after an hour, for one
        if measured.records:
            write_lines(lines(to_json(measured)))
        if not isinstance(error, KeyboardInterrupt):
            raise
        count = len(measured.records)
        say(f"interrupted: {count} of {plan.workload.answers} answers measured.")
        return exit_code(error)
    try:
        write_lines(lines(to_json(measured)))
    finally:  # nobody may be reading what is printed: what was measured is kept all the same
        for output, content in zip(outputs, (to_json, chrome_trace), strict=True):
            if output:
                text = json.dumps(content(measured), allow_nan=False, ensure_ascii=False)
                output.write_text(text + "\n")
    return 0


def _run(measured: Measurement, plan: Plan) -> None:
    asked = plan.measure
    with Bar("measuring") as bar:
        run(
            measured,
            components=asked.components,
            sustained=plan.sustained_seconds,
            progress=bar,
        )
    if asked.encoder_head:
        with Bar("reading causally") as bar:
            measured.encoder_head = encoder_head.measure_encoder_head(
                measured.session, measured.records, progress=bar
            )


def _prepared(model: ModelOptions, plan: Plan) -> Measurement:
    """The model loaded, the baseline beside it, and nothing measured yet."""
    other, baseline = None, plan.measure.baseline
    if baseline is not None:
        other = find_model(baseline, offline=model.offline, consent=ask_on_terminal()).folder
        require_autoregressive(_short(baseline), other)
    session = load_session(model, plan.workload.settings)
    measured = Measurement(session, _short(model.name), plan.workload, this_machine(), condition())
    if baseline is not None and other:
        measured.baseline = load_baseline(_short(baseline), other, session, force=model.force)
    return measured


def _short(name: str) -> str:
    """A model's name; of a folder its last part: paths are nobody's business."""
    folder = Path(name)
    return folder.resolve().name if folder.exists() else name
