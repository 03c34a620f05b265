"""`profile --tune`: choices that depend on the machine, checked and timed, and the fastest kept.

Each value runs in turn with the engine's own, all other choices being the engine's. The winners are
put together and have to win once more.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx

from ..conversation.session import Session
from ..errors import is_out_of_memory
from ..kernels.timing import wins
from ..machine.choices import ON_EMBEDDING, Choices, ModeTimes
from ..model.text import Model, Progress
from ..model.variants import variant
from ..model.weights import load_network
from .race import Work, race
from .statistics import percentiles
from .tune_candidates import Candidate, candidates
from .tune_check import Probe, Seen, probe_of, tolerance, wrong
from .tune_times import mode_times

STEADY = 0.75  # the share of rounds that a winner is faster in


@dataclass(frozen=True)
class Row:
    """The result of one value: the outcome in a word, why, and the times where it was timed.

    spread: p90 minus p10 as a share of the median; share: the time over that of the engine's own.
    """

    name: str
    value: Any
    outcome: str  # "untuned", "faster", "no gain", "wrong", "absent"
    note: str = ""
    ms: float | None = None
    spread: float | None = None
    share: float | None = None


@dataclass
class Tuner:
    """A tuner that tries candidates on one session's model."""

    session: Session
    probe: Probe
    clock: Callable[[], float] = time.perf_counter
    untuned: dict[tuple[int, ...], Seen] = field(default_factory=dict)

    def compare(self, name: str, tried: Iterable[Candidate]) -> Iterator[Row]:
        """Rows of one choice: candidates with right results race against the engine's own."""
        works: dict[Any, Work] = {None: self.work(self.session.model, name)}
        for candidate in tried:
            if problem := self._prepared(candidate, works):
                yield problem
        if len(works) > 1:
            yield from _rows(name, race(works, self.clock))
        works.clear()
        mx.clear_cache()

    def make(self, choices: Choices) -> Model:
        """The session's network with some choices."""
        if choices.dtype is None:
            return variant(self.session.model, choices)
        return load_network(Path(self.session.info.path), choices=choices).model

    def work(self, model: Model, name: str) -> Work:
        """The work to time: a denoising step with self-conditioning, or a long prompt's prefill."""
        prompt = self._prompt(name)
        if name == "prefill_chunk":
            return lambda: model.encode(prompt)
        prefix = model.encode(prompt)
        soft = self.probe.step(model, prefix).soft
        return lambda: mx.eval(self.probe.step(model, prefix, soft.completed(model)).next_canvas)

    def times(self, choices: Choices) -> tuple[ModeTimes, float] | None:
        """Times of both modes with the choices that won; None for a checkpoint without mode ar.

        Beside them the milliseconds of a token with the engine's own choices.
        """
        untuned = self.session.model
        if "ar" not in untuned.config.modes:
            return None
        model = self.make(choices) if choices.alter else untuned
        step = self.work(model, "times")
        return mode_times(model, untuned, step, self.probe, self.clock)

    def _prepared(self, tried: Candidate, works: dict[Any, Work]) -> Row | None:
        """Add a candidate to `works` if its results are right; else the row that says why not."""
        name, value = tried.name, tried.value
        if tried.absent:
            return Row(name, value, "absent", tried.absent)
        try:
            model = self.make(tried.choices)
            if problem := self._wrong(model, self._prompt(name)):
                return Row(name, value, "wrong", problem)
            works[value] = self.work(model, name)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            mx.clear_cache()
            return Row(name, value, "absent", "the memory did not suffice")
        return None

    def _prompt(self, name: str) -> tuple[int, ...]:
        """The prompt to check and time with: for prefill chunks one of several chunks."""
        return self.probe.long_prompt if name == "prefill_chunk" else self.probe.prompt

    def _wrong(self, model: Model, prompt: tuple[int, ...]) -> str | None:
        if prompt not in self.untuned:
            self.untuned[prompt] = self.probe.look(self.session.model, prompt)
        dtypes = (model.dtype, self.session.model.dtype)
        allowed = tolerance(len(model.config.text.layers), *dtypes)
        return wrong(self.probe.look(model, prompt), self.untuned[prompt], allowed)


def _rows(name: str, samples: Mapping[Any, list[float]]) -> Iterator[Row]:
    own = samples[None]
    for value, seconds in samples.items():
        figures, share = percentiles(seconds), median(seconds) / median(own)
        spread = (figures["p90"] - figures["p10"]) / figures["p50"]
        row = Row(name, "engine's own", "untuned", "", 1e3 * figures["p50"], spread, share)
        yield row if value is None else replace(row, value=value, outcome=_outcome(seconds, own))


def _outcome(seconds: Sequence[float], own: Sequence[float]) -> str:
    """ "faster" where the median is by more than 2%, and most rounds are; "no gain" else."""
    rounds = [mine < untuned for mine, untuned in zip(seconds, own, strict=True)]
    steady = sum(rounds) >= STEADY * len(rounds)
    return "faster" if steady and wins(median(seconds), median(own)) else "no gain"


@dataclass(frozen=True)
class Tuned:
    """All rows, and the choices that won; dtype_left: float16 was faster and was not asked for.

    times: of both modes as tuned; untuned_token_ms: of a token with the engine's own choices; None
    for a checkpoint without mode ar.
    """

    rows: tuple[Row, ...]
    choices: Choices
    dtype_left: bool
    times: ModeTimes | None
    untuned_token_ms: float | None


def tune(
    session: Session,
    *,
    tune_dtype: bool = False,
    dtype_given: bool = False,
    force: bool = False,
    progress: Progress = lambda done, total: None,
    tuner: Tuner | None = None,
) -> Tuned:
    """Time every choice, and keep the winners.

    tune_dtype: the dtype of activations may win, too, and not only be reported; dtype_given: the
    session's dtype was asked for, and stays; force: try also what memory should not suffice for.
    """
    tuner = tuner or Tuner(session, probe_of(session))
    rows: list[Row] = []
    everything = candidates(session, tuner.probe, dtype_given=dtype_given, force=force)
    groups = groupby(everything, lambda tried: tried.name)
    total = len(fields(Choices)) + 1  # all choices, times among them, and the winners together
    for number, (name, tried) in enumerate(groups):
        progress(number, total)
        rows += tuner.compare(name, tried)
    won = _winners(rows)
    dtype_left = "dtype" in won and not tune_dtype
    if dtype_left:
        del won["dtype"]
    choices = replace(Choices(), **won)
    if len(won.keys() - {"prefill_chunk"}) > 1:  # which may slow each other in a step
        proof = list(tuner.compare("together", [Candidate("together", "all of them", choices)]))
        rows += proof
        if all(row.outcome != "faster" for row in proof):
            choices = Choices(prefill_chunk=won.get("prefill_chunk"))
    progress(total - 1, total)
    times, untuned_token_ms = tuner.times(choices) or (None, None)
    progress(total, total)
    return Tuned(tuple(rows), choices, dtype_left, times, untuned_token_ms)


def _winners(rows: Iterable[Row]) -> dict[str, Any]:
    """The fastest value of each choice that has one faster than the engine's own.

    Of the choices about the embedding the one that gains most.
    """
    best: dict[str, Any] = {}
    for row in sorted(rows, key=lambda row: row.share or 0.0):
        taken = row.name in ON_EMBEDDING and any(name in best for name in ON_EMBEDDING)
        if row.outcome == "faster" and not taken:
            best.setdefault(row.name, row.value)
    return best
