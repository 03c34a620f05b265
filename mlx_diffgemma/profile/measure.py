"""The meter: answers of a model, each with the times of its prefill, steps and commits.

A step's time runs from one frame to the next, all work on the host included: a device may compute
a step while the loop's caller has the frame before, so that the caller's time is within the step's,
and the times of all frames add up to the answer's. Prompt and canvases are encoded anew for every
answer, so that each answer brings a sample of prefill and commit.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import mlx.core as mx

from ..diffusion import denoise as loop
from ..generation.frame import Frame
from ..model.prefix import Prefix
from ..model.text import Model
from .components import Fences
from .samples import AnswerRecord, CanvasRecord, Span, StepParts
from .workload import Question


@dataclass(frozen=True)
class _Shown:
    """A frame, the seconds since the one before, and of them those that the caller took.

    at: when it came; parts: of the step's fenced repetition, whose time counts nowhere.
    """

    frame: Frame
    at: float
    seconds: float
    caller_seconds: float
    parts: list[StepParts]


@dataclass
class Meter:
    """A meter of one model's answers; on_step is called after every step.

    With fences every step runs twice, first plain and once again with fences around its parts: what
    disturbs the machine disturbs both runs alike.
    """

    model: Model
    on_step: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    fences: Fences | None = None
    began: float | None = None

    def answer(self, question: Question, *, commit_last: bool) -> AnswerRecord:
        """Measure one answer from an empty prefix; commit_last encodes the last canvas, too."""
        start = self.clock()
        self.began = start if self.began is None else self.began
        record = AnswerRecord(question, start - self.began)
        prefix = self.model.new_prefix()
        last: Frame | None = None
        for shown in self._frames(question, prefix):
            record.seconds += shown.seconds
            if shown.frame.committed:
                _commit(record, shown.frame)
            else:
                self._step(record, shown)
                last = shown.frame
        if commit_last and last is not None:
            before = self.clock()
            self.model.encode(last.tokens.tolist(), prefix, images=None)
            _encoded(record, before, self.clock() - before)
        return record

    def _frames(self, question: Question, prefix: Prefix) -> Iterator[_Shown]:
        """Each frame with its times, and each step's fenced repetition."""
        frames = loop.denoise(self.model, question.tokens, question.settings, prefix=prefix)
        repeated = self._fenced(question)
        before, apart, waited = self.clock(), 0.0, 0.0
        for frame in frames:
            now = self.clock()
            seconds, caller = now - before - apart, max(0.0, frame.caller_seconds - waited)
            before, apart, waited, parts = now, 0.0, 0.0, []
            if self.fences is not None and not frame.committed:
                mx.synchronize()  # the step that the loop has begun is not to wait for this one
                alone = self.clock()
                parts = list(islice(repeated, 1))
                after = self.clock()
                apart, waited = after - alone, after - now
            yield _Shown(frame, now, seconds, caller, parts)

    def _fenced(self, question: Question) -> Iterator[StepParts]:
        """Fenced repetitions of the steps, behind a prefix of their own; none without fences."""
        if self.fences is None:
            return
        frames = loop.denoise(self.model, question.tokens, question.settings)
        while True:
            with self.fences.around(self.model):
                self.fences.begin()
                frame = next(frames, None)
                self.fences.end()
            if frame is None:
                return
            if not frame.committed:
                self.on_step()
                yield self.fences.take()

    def _step(self, record: AnswerRecord, shown: _Shown) -> None:
        frame, taken = shown.frame, shown.seconds
        if frame.step == 0:
            taken -= frame.encode_seconds
            _encoded(record, shown.at - shown.seconds, frame.encode_seconds)
            prefix = len(record.question.tokens) + frame.canvas * len(frame.entropies)
            record.canvases.append(CanvasRecord(prefix=prefix))
        canvas = record.canvases[-1]
        canvas.step_seconds.append(taken)
        canvas.caller_seconds.append(shown.caller_seconds)
        canvas.second_tier_rows.append(frame.second_tier_rows)
        canvas.dense_rows.append(frame.dense_rows)
        canvas.parts += shown.parts
        details = {"canvas": frame.canvas, "step": frame.step, "entropy": frame.mean_entropy}
        record.spans.append(Span("step", shown.at - taken, taken, details))
        self.on_step()


def _encoded(record: AnswerRecord, began: float, seconds: float) -> None:
    """Record the encoder's time: for the prompt, or for the last canvas where there is one."""
    if record.canvases:
        record.canvases[-1].commit_seconds = seconds
    else:
        record.prefill_seconds = seconds
    name = "commit" if record.canvases else "prefill"
    record.spans.append(Span(name, began, seconds))


def _commit(record: AnswerRecord, frame: Frame) -> None:
    if frame.canvas == 0:
        record.first_canvas_seconds = record.seconds
    record.canvases[-1].tokens = len(frame.tokens)
    record.token_ids += frame.tokens.tolist()
    record.finish_reason = frame.finish_reason
