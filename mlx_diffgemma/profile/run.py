"""The run of a whole measurement: warm-up, then answer by answer; it may stop in between."""

from functools import partial
from itertools import count
from typing import Any

import mlx.core as mx

from ..model.text import Progress
from .baseline import Baseline
from .components import Fences
from .condition import condition
from .gentle import Gentle
from .linked import link_rows
from .measure import Meter
from .measurement import Measurement
from .tokens import Written
from .workload import WARM_UP, Question, Workload, first_questions, questions


def run(
    measured: Measurement,
    *,
    components: bool = False,
    gentle: bool = False,
    sustained: float | None = None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Fill `measured` answer by answer: after an interrupt it holds the finished ones.

    components: repeat every step with fences; gentle: also measure answers with pauses; sustained:
    go on for so many seconds; progress: called for each step where their number is fixed, else for
    each answer. A workload that cannot be asked raises before anything is computed. Where Macs
    share the model each has to call this with the same; mode ar is not measured then.
    """
    session, workload = measured.session, measured.workload
    measured.sustained_seconds = sustained
    session.reset()  # a conversation would be part of every prompt
    (first, *_) = first_questions(session, workload)
    _measure_beside(measured, gentle)
    total, done = _events(workload, components), count(1)

    def advance() -> None:  # a sustained run goes on behind the last one planned
        progress(min(next(done), total - 1), total)

    meter = Meter(session.model, fences=Fences() if components else None)
    if workload.fixed:
        meter.on_step = advance
    try:
        _warm_up(measured, meter)
        for question in questions(session, workload):
            _measure(measured, meter, question)
            if not workload.fixed:
                advance()
            if measured.is_enough:
                break
        if measured.written:
            measured.written.race_rows(first.tokens)
        if not measured.alone:
            measured.link = _link_of(measured)
        measured.complete = True
    finally:
        measured.after = condition()
        progress(total, total)


def _measure_beside(measured: Measurement, gentle: bool) -> None:
    """Have the same answers measured in mode ar, where there is one, and with pauses."""
    model = measured.session.model
    if measured.sustained_seconds is None and measured.alone and "ar" in model.config.modes:
        measured.written = Written(model)
    if gentle:
        measured.gentle = Gentle(model)


def _events(workload: Workload, components: bool) -> int:
    """The number of steps where it is fixed, repetitions included, else of answers."""
    if workload.steps is None:
        return workload.answers
    return (WARM_UP + workload.answers) * workload.steps * (2 if components else 1)


def _link_of(measured: Measurement) -> dict[str, Any]:
    """What the link took of the steps, as all ranks tell each other now."""
    model = measured.session.model
    steps = [part for canvas in measured.canvases for part in canvas.parts]
    return {"share": model.part.cut, "ranks": link_rows(model, steps)}


def _warm_up(measured: Measurement, meter: Meter) -> None:
    """Run answers until two canvases are done, and encode a prompt of every length to measure.

    Nothing is kept. The first run of a shape on a Mac may compile and try kernels, which takes
    seconds.
    """
    workload, canvases = measured.workload, 0
    for question in questions(measured.session, workload):
        canvases += len(meter.answer(question, commit_last=workload.fixed).canvases)
        if measured.baseline:
            measured.baseline.answer(measured.session, workload, question)
        if measured.written:
            measured.written.answer(question.tokens, question.seed)
        if measured.gentle:
            measured.gentle.warm_up(question)
        if canvases >= WARM_UP:
            break
    if not workload.fixed:
        asked = first_questions(measured.session, workload)
        for tokens in {len(question.tokens): question.tokens for question in asked}.values():
            measured.session.model.encode(tokens)
    meter.began = None


def _measure(measured: Measurement, meter: Meter, question: Question) -> None:
    """Measure an answer of each mode and of the baseline, in the order ABBA: drift cancels."""
    baseline, written, gentle = measured.baseline, measured.written, measured.gentle
    works = [partial(_answer, measured, meter, question)]
    if written:
        works.append(partial(_write, written, question))
    if gentle:
        works.append(partial(gentle.answer, question))
    if baseline:
        works.append(partial(_compare, measured, baseline, question))
    for work in works[:: -1 if len(measured.records) % 2 else 1]:
        work()


def _write(written: Written, question: Question) -> None:
    written.records.append(written.answer(question.tokens, question.seed))


def _compare(measured: Measurement, baseline: Baseline, question: Question) -> None:
    baseline.records.append(baseline.answer(measured.session, measured.workload, question))


def _answer(measured: Measurement, meter: Meter, question: Question) -> None:
    mx.reset_peak_memory()
    record = meter.answer(question, commit_last=measured.workload.fixed)
    others = measured.baseline.memory_bytes if measured.baseline else 0
    peak = mx.get_peak_memory() - others
    measured.peak_memory_bytes = max(measured.peak_memory_bytes, peak)
    measured.records.append(record)
