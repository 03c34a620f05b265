"""Decisions: a request's questions asked in stages, read from canvases, and answered."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError
from .answers import Sampled, Seen, answer_of, forced, likeliest, skipped
from .decision import Decision, Times
from .labels import Labels
from .layouts import Stage, orders_of, reads
from .options import Options
from .prompts import Prompts
from .question import stages
from .questions import Question, told_names
from .reader import LoadedModel
from .request import Request
from .sampling import sampled

ALIASES = ("jev-latest", "jev-preview")
"""Names of a model that every server of this contract answers to."""


class Calibrated(Protocol):
    """A calibration, as far as an answer needs it; kinds: the types that it was fitted on."""

    @property
    def kinds(self) -> Sequence[str]: ...

    def applied(self, question: Question, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities [N] as they are to be told, of the mean that was read."""
        ...


def decide(
    request: Request,
    model: LoadedModel,
    options: Options | None = None,
    calibration: Calibrated | None = None,
) -> Decision:
    """The answers to a request's questions.

    options: in place of those that the request names, which `Request.options` puts together.
    RequestError for what only the model shows to be wrong, NumericsError for probabilities that are
    none.
    """
    began, before = time.perf_counter(), model.reader.encoded()
    require_name(request.model, model)
    run = _Run(request, model, request.options() if options is None else options)
    run.ask(calibration)
    encoded = model.reader.encoded() - before
    return Decision(
        model=model.name,
        answers={name: run.answers[name] for name in request.questions},
        read=run.means,
        usage=run.prompts.usage(),
        layout=run.options.layout,
        samples=run.samples,
        calibrated=None if calibration is None else calibration.kinds,
        times=Times(time.perf_counter() - began, run.reads, encoded),
        ignored=request.ignored,
    )


def require_name(name: str | None, model: LoadedModel) -> None:
    """RequestError for the name of another model; none at all is any model's."""
    if name not in (None, model.name, *ALIASES):
        known = ", ".join((model.name, *ALIASES))
        said = f"{name!r} is not here, expected one of {known}."
        raise RequestError(("model",), said, "api_usage_error", 400)


@dataclass
class _Run:
    """A decision on its way.

    chosen: the numbers of the options that were answered; means: of the probabilities as read.
    """

    request: Request
    model: LoadedModel
    options: Options
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    chosen: dict[str, int] = field(default_factory=dict)
    means: dict[str, Sequence[float]] = field(default_factory=dict)
    samples: int = 0
    reads: int = 0

    def __post_init__(self) -> None:
        self.prompts = Prompts(self.request, self.model, self.options)
        self.labels = Labels(self.model.texts, self.model.labels)

    def ask(self, calibration: Calibrated | None) -> None:
        """Ask every question, in stages, and keep its answer."""
        questions = self.request.questions
        listed = [name for name, question in questions.items() if len(question.options) > 1]
        order = list(stages(questions))
        for names in order:
            ready = [name for name in names if not self._answered_without(name)]
            if not ready:
                continue
            seen = self._seen(ready, listed, chained=len(order) > 1)
            for name in ready:
                mean = seen[name].mean
                self.means[name] = [float(p) for p in mean]
                told = calibration.applied(questions[name], mean) if calibration else mean
                self.answers[name] = answer_of(questions[name], told, seen[name])
                self.chosen[name] = likeliest(questions[name], self.answers[name])

    def _answered_without(self, name: str) -> bool:
        """True where a question needs no model: it is not asked, or has one answer."""
        question = self.request.questions[name]
        for need, wanted in question.ask_if.items():
            names, at = told_names(self.request.questions[need]), self.chosen.get(need)
            was = None if at is None else names[at]
            if was not in wanted:
                self.answers[name] = skipped(need, was)
                return True
        if len(question.options) == 1:
            self.answers[name], self.chosen[name] = forced(question), 0
            return True
        return False

    def _seen(self, ids: Sequence[str], listed: Sequence[str], *, chained: bool) -> dict[str, Seen]:
        """What is read of some questions, in every order of their options that they have."""
        request, options = self.request, self.options
        found: dict[str, list[Sampled]] = {name: [] for name in ids}
        counts = {name: orders_of(request.questions[name], options.orders) for name in ids}
        for order in range(max(counts.values())):
            now = [n for n in ids if order < counts[n]] if options.layout == "own" else ids
            stage = Stage(
                *(options.layout, self.prompts.told, now, listed, self.chosen, chained),
                *(order, options.orders),
            )
            for read in list(reads(self.model, self.labels, self.prompts, stage)):
                self.reads += 1
                for each, samples in sampled(self.model.reader, read, options):
                    if order < counts[each.id]:
                        found[each.id].append(samples)
        self.samples = max(self.samples, *(each.count for all_ in found.values() for each in all_))
        return {name: Seen(tuple(orders)) for name, orders in found.items()}
