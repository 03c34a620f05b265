"""A measurement as Chrome trace events, for chrome://tracing, Perfetto and Speedscope.

Format: "Trace Event Format" (Google, 2016), complete events ("X"), times in microseconds. One row
holds answers with their prefill, steps and commits; another the fenced repetitions, part by part.
"""

from collections.abc import Iterator
from typing import Any

from .measurement import Measurement
from .samples import AnswerRecord, Span

PROCESS, MEASURED, FENCED = 1, 1, 2
ROWS = {MEASURED: "measured", FENCED: "fenced repetitions"}


def chrome_trace(measured: Measurement) -> dict[str, Any]:
    """The JSON object of `profile --trace`."""
    return {
        "displayTimeUnit": "ms",
        "otherData": {"model": measured.name, "system": measured.machine.system},
        "traceEvents": [*_names(), *_events(measured)],
    }


def _names() -> Iterator[dict[str, Any]]:
    names = {0: "mlx-diffgemma profile", **ROWS}
    for row, name in names.items():
        kind = "thread_name" if row in ROWS else "process_name"
        yield {"name": kind, "ph": "M", "pid": PROCESS, "tid": row, "args": {"name": name}}


def _events(measured: Measurement) -> Iterator[dict[str, Any]]:
    start = min(span.began for record in measured.records for span in record.spans)
    for record in measured.records:
        for span in (_answer(record), *record.spans):
            yield _event(span, start, MEASURED)
        for canvas in record.canvases:
            for step in canvas.parts:
                for span in step.spans:
                    yield _event(span, start, FENCED)


def _answer(record: AnswerRecord) -> Span:
    """The span from prompt to last step, fenced repetitions included.

    `seconds` in the span's details leaves the repetitions out.
    """
    question, first = record.question, record.spans[0].began
    details = {"prompt": question.prompt.name, "seed": question.settings.seed}
    ends = [span.began + span.seconds for span in record.spans if span.name == "step"]
    return Span("answer", first, ends[-1] - first, {**details, "seconds": record.seconds})


def _event(span: Span, start: float, row: int) -> dict[str, Any]:
    return {
        "name": span.name,
        "ph": "X",
        "ts": 1e6 * (span.began - start),
        "dur": 1e6 * span.seconds,
        "pid": PROCESS,
        "tid": row,
        "cat": ROWS[row],
        "args": dict(span.details),
    }
