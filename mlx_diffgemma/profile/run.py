"""The run of a whole measurement: warm-up, then answer by answer; it may stop in between."""

from collections.abc import Callable

import mlx.core as mx

from .components import Fences
from .condition import condition
from .measure import Meter
from .measurement import Measurement
from .workload import WARM_UP, Question, Workload, first_questions, questions

Progress = Callable[[int, int], None]  # done, total


class Tally:
    """A counter of finished steps, where their number is fixed, or of answers, for `progress`."""

    def __init__(self, workload: Workload, repeats: int, progress: Progress | None) -> None:
        self.by_step, self.progress = workload.fixed, progress
        self.done, count = 0, workload.answers
        self.total = (WARM_UP + count) * workload.steps * repeats if workload.steps else count

    def step(self) -> None:
        """Count a step."""
        self._advance(self.by_step)

    def answer(self) -> None:
        """Count an answer."""
        self._advance(not self.by_step)

    def end(self) -> None:
        """Report the end, be all done or given up."""
        if self.progress:
            self.progress(self.total, self.total)

    def _advance(self, counts: bool) -> None:
        self.done += counts
        if self.progress and counts:  # a sustained run goes on behind the last one planned
            self.progress(min(self.done, self.total - 1), self.total)


def run(
    measured: Measurement,
    *,
    components: bool = False,
    sustained: float | None = None,
    progress: Progress | None = None,
) -> None:
    """Fill `measured` answer by answer: after an interrupt it holds the finished ones.

    components: repeat every step with fences; sustained: go on for so many seconds. A workload that
    cannot be asked raises before anything is computed.
    """
    session, workload = measured.session, measured.workload
    session.reset()  # a conversation would be part of every prompt
    first_questions(session, workload)
    tally = Tally(workload, 2 if components else 1, progress)
    meter = Meter(session.model, tally.step, fences=Fences() if components else None)
    try:
        _warm_up(measured, meter)
        for question in questions(session, workload):
            _measure(measured, meter, question)
            tally.answer()
            if _is_enough(measured, sustained):
                break
        measured.sustained_seconds = sustained
    finally:
        measured.after = condition()
        tally.end()


def _warm_up(measured: Measurement, meter: Meter) -> None:
    """Run answers until two canvases are done, and encode a prompt of every length to measure.

    Nothing is kept. The first run of a shape on a Mac may compile and try kernels, which takes
    seconds.
    """
    workload, canvases = measured.workload, 0
    for question in questions(measured.session, workload):
        canvases += len(meter.answer(question, commit_last=workload.fixed).canvases)
        if measured.baseline:
            measured.baseline.warm_up(measured.session, workload, question)
        if canvases >= WARM_UP:
            break
    if not workload.fixed:
        asked = first_questions(measured.session, workload)
        for tokens in {len(question.tokens): question.tokens for question in asked}.values():
            measured.session.model.encode(tokens)
    meter.began = None


def _measure(measured: Measurement, meter: Meter, question: Question) -> None:
    """Measure an answer of model and baseline, in the order ABBA, so that drift cancels."""
    baseline, first = measured.baseline, len(measured.records) % 2 == 0
    if baseline and not first:
        baseline.measure(measured.session, measured.workload, question)
    _answer(measured, meter, question)
    if baseline and first:
        baseline.measure(measured.session, measured.workload, question)


def _answer(measured: Measurement, meter: Meter, question: Question) -> None:
    mx.reset_peak_memory()
    record = meter.answer(question, commit_last=measured.workload.fixed)
    others = measured.baseline.memory_bytes if measured.baseline else 0
    peak = mx.get_peak_memory() - others
    measured.peak_memory_bytes = max(measured.peak_memory_bytes, peak)
    measured.records.append(record)


def _is_enough(measured: Measurement, sustained: float | None) -> bool:
    if len(measured.records) < measured.workload.answers:
        return False
    last = measured.records[-1]
    return sustained is None or last.began + last.seconds >= sustained
