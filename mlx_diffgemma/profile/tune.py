"""`profile --tune`: choices that depend on the machine, checked and timed, and the fastest kept.

Each value runs in turn with the engine's own, all other choices being the engine's. The winners are
put together and have to win once more.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx

from ..conversation.session import Session
from ..errors import is_out_of_memory
from ..kernels.timing import wins
from ..machine.choices import Choices
from ..model.text import Model
from ..model.variants import variant
from ..model.weights import load_network
from .statistics import percentiles
from .tune_candidates import NAMES, Candidate, candidates
from .tune_check import Probe, Seen, probe_of, tolerance, wrong

WARM_UP, ROUNDS = 1, 7
STEADY = 0.75  # the share of rounds that a winner is faster in
UNTUNED = "engine's own"

Progress = Callable[[int, int], None]
Clock = Callable[[], float]
Work = Callable[[], None]


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
    """A tuner that tries candidates on one session's model.

    make: the network for some choices; work: what is timed of a network. A test replaces both.
    """

    session: Session
    probe: Probe
    clock: Clock = time.perf_counter
    make: Callable[[Choices], Model] = field(init=False)
    work: Callable[[Model, str], Work] = field(init=False)
    untuned: dict[tuple[int, ...], Seen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.make, self.work = self._made, self._work

    def compare(self, name: str, tried: Iterable[Candidate]) -> Iterator[Row]:
        """Rows of one choice: candidates with right results race against the engine's own."""
        works: dict[Any, Work] = {None: self.work(self.session.model, name)}
        for candidate in tried:
            problem = candidate.absent and Row(name, candidate.value, "absent", candidate.absent)
            problem = problem or self._prepared(candidate.value, candidate.choices, name, works)
            if problem:
                yield problem
        if len(works) > 1:
            yield from _rows(name, race(works, self.clock))
        works.clear()
        mx.clear_cache()

    def together(self, choices: Choices) -> Iterator[Row]:
        """Rows of all winners at once, timed over a denoising step."""
        works: dict[Any, Work] = {None: self.work(self.session.model, "together")}
        problem = self._prepared("all of them", choices, "together", works)
        if problem:
            yield problem
        else:
            yield from _rows("together", race(works, self.clock))

    def _prepared(
        self, value: Any, choices: Choices, name: str, works: dict[Any, Work]
    ) -> Row | None:
        """Add a candidate to `works` if its results are right; else the row that says why not."""
        try:
            model = self.make(choices)
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

    def _made(self, choices: Choices) -> Model:
        if choices.dtype is None:
            return variant(self.session.model, choices)
        return load_network(Path(self.session.info.path), choices=choices).model

    def _work(self, model: Model, name: str) -> Work:
        """The work to time: a denoising step with self-conditioning, or a long prompt's prefill."""
        prompt = self._prompt(name)
        if name == "prefill_chunk":

            def encode() -> None:
                model.encode(prompt)

            return encode
        prefix = model.encode(prompt)
        before = self.probe.step(model, prefix)

        def step() -> None:
            mx.eval(self.probe.step(model, prefix, before.soft.completed(model)).next_canvas)

        return step


def race(works: Mapping[Any, Work], clock: Clock = time.perf_counter) -> dict[Any, list[float]]:
    """Seconds of each work, run in turn and every second round backwards: drift hits all alike."""
    samples: dict[Any, list[float]] = {name: [] for name in works}
    for number in range(WARM_UP + ROUNDS):
        for name in list(works)[:: -1 if number % 2 else 1]:
            began = clock()
            works[name]()
            if number >= WARM_UP:
                samples[name].append(clock() - began)
    return samples


def _rows(name: str, samples: Mapping[Any, list[float]]) -> Iterator[Row]:
    own = samples[None]
    for value, seconds in samples.items():
        figures, share = percentiles(seconds), median(seconds) / median(own)
        spread = (figures["p90"] - figures["p10"]) / figures["p50"]
        row = Row(name, UNTUNED, "untuned", "", 1e3 * figures["p50"], spread, share)
        yield row if value is None else replace(row, value=value, outcome=_outcome(seconds, own))


def _outcome(seconds: Sequence[float], own: Sequence[float]) -> str:
    """ "faster" where the median is by more than 2%, and most rounds are; "no gain" else."""
    rounds = [mine < untuned for mine, untuned in zip(seconds, own, strict=True)]
    steady = sum(rounds) >= STEADY * len(rounds)
    return "faster" if steady and wins(median(seconds), median(own)) else "no gain"


@dataclass(frozen=True)
class Tuned:
    """All rows, and the choices that won; dtype_left: float16 was faster and was not asked for."""

    rows: tuple[Row, ...]
    choices: Choices
    dtype_left: bool


def tune(
    session: Session,
    *,
    tune_dtype: bool = False,
    dtype_given: bool = False,
    force: bool = False,
    progress: Progress | None = None,
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
    for number, (name, tried) in enumerate(groups):
        if progress:
            progress(number, len(NAMES) + 1)
        rows += tuner.compare(name, tried)
    won = _winners(rows)
    dtype_left = "dtype" in won and not tune_dtype
    if dtype_left:
        del won["dtype"]
    choices = replace(Choices(), **won)
    if _needs_proof(won):
        rows += tuner.together(choices)
        if not any(row.name == "together" and row.outcome == "faster" for row in rows):
            choices = Choices(prefill_chunk=won.get("prefill_chunk"))
    if progress:
        progress(len(NAMES) + 1, len(NAMES) + 1)
    return Tuned(tuple(rows), choices, dtype_left)


def _winners(rows: Iterable[Row]) -> dict[str, Any]:
    """The fastest value of each choice that has one faster than the engine's own."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.outcome == "faster" and row.share is not None:
            known = best.get(row.name)
            if known is None or row.share < (known.share or 1.0):
                best[row.name] = row
    return {name: row.value for name, row in best.items()}


def _needs_proof(won: Mapping[str, Any]) -> bool:
    """True for several winners of a step, which may slow each other; prefill chunks stand apart."""
    return len(won.keys() - {"prefill_chunk"}) > 1
