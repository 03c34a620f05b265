"""The trial of one instantiation of a kernel family against its reference, on this very machine."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from statistics import median
from typing import Any

import mlx.core as mx

from ..errors import is_out_of_memory, one_line
from .check import Tolerance, worst
from .timing import STEADY, Comparison, Compute, all_in_turn

LONGEST_NOTE = 300  # a Metal compiler's message can fill pages
MOST_TRIES = 3  # of an unsteady verdict, one a process: a machine that is never calm pays no more


@dataclass(frozen=True)
class Trial:
    """One instantiation of a family with inputs to try it on, made on the spot.

    kernel, reference: the results, lazy, of the kernels and of the reference implementation in MLX
    operations; tolerances: by how much they may differ, one an output; others: other instantiations
    of the kernels, by name, of which the fastest takes their place where it is faster than they.
    """

    kernel: Compute
    reference: Compute
    tolerances: Sequence[Tolerance]
    others: Mapping[str, Compute] = field(default_factory=dict)

    def disagreement(self, kernel: Sequence[mx.array], reference: Sequence[mx.array]) -> str | None:
        """The output that differs by more than its tolerance, in one line; None for none."""
        found = worst(kernel, reference, self.tolerances)
        return None if found.allowed else str(found)


class Outcome(StrEnum):
    """The end of a trial; only the first lets the kernels run."""

    FASTER = "faster"
    SLOWER = "slower"
    WRONG = "wrong"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """The outcome of a trial; note: what differed or was raised; times: where it came to that.

    disagreement: between the samples of those times, see `Comparison`; found: when, None where that
    is not known; tries: trials of which this one is the steadiest; variant: the name of the other
    instantiation that took the kernels' place, whose times these are; None: theirs.
    """

    outcome: Outcome
    note: str | None = None
    kernel_ms: float | None = None
    reference_ms: float | None = None
    disagreement: float | None = None
    found: datetime | None = None
    tries: int = 1
    variant: str | None = None
    lasting: bool = True  # False for what may be gone in another process, like a lack of memory

    @property
    def steady(self) -> bool:
        """False where the samples disagree, as they do on a busy machine."""
        return self.disagreement is None or self.disagreement <= STEADY

    @property
    def settled(self) -> bool:
        """False where the next process is to try again."""
        return self.steady or self.tries >= MOST_TRIES

    def after(self, earlier: "Verdict | None") -> "Verdict":
        """The verdict that counts behind an earlier, unsteady one: the steadier of both."""
        if earlier is None or self.steady:
            return self
        best = min(self, earlier, key=lambda verdict: verdict.disagreement or 0.0)
        return replace(best, tries=earlier.tries + 1)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the cache on disk."""
        left_out = {"lasting"} if self.variant else {"lasting", "variant"}
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        return {**values, "found": self.found and self.found.isoformat(timespec="seconds")}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Verdict":
        """The verdict in the cache; TypeError, KeyError or ValueError where there is none.

        Other keys are left alone; without a time or a disagreement the verdict counts as steady.
        """
        note, tries, found = value["note"], value.get("tries", 1), value.get("found")
        variant = value.get("variant")
        numbers = (value["kernel_ms"], value["reference_ms"], value.get("disagreement"))
        if not isinstance(note, str | None) or not isinstance(variant, str | None):
            raise TypeError("a note and a variant are texts")
        if type(tries) is not int:
            raise TypeError("tries are counted")
        if not all(isinstance(number, float | None) for number in numbers):
            raise TypeError("times and their disagreement are numbers")
        when = None if found is None else datetime.fromisoformat(found)
        if when and when.tzinfo is None:
            raise ValueError("a time without a zone")
        return Verdict(Outcome(value["outcome"]), note, *numbers, when, tries, variant)


def rounded_up(rows: int) -> int:
    """The power of two from `rows` on: prompts and holes have any length, a trial takes time."""
    return 1 << (rows - 1).bit_length()


def run_trial(make: Callable[[], Trial], clock: Callable[[], float] = time.perf_counter) -> Verdict:
    """Compiles, compares and times the kernels of one trial; never raises an error of theirs."""
    try:
        return _run(make(), clock)
    except Exception as error:  # whatever MLX or Metal's compiler raises
        return Verdict(Outcome.ERROR, _said(error), lasting=not is_out_of_memory(error))
    finally:
        mx.clear_cache()


def _run(trial: Trial, clock: Callable[[], float]) -> Verdict:
    kernel = trial.kernel()
    mx.eval(kernel)
    reference = trial.reference()
    mx.eval(reference)
    difference = trial.disagreement(kernel, reference)
    del kernel
    if difference is not None:
        return Verdict(Outcome.WRONG, _shortened(one_line(difference)))
    failed = {name: _failure(trial, name, reference) for name in trial.others}
    del reference
    right = [name for name, note in failed.items() if note is None]
    notes = "; ".join(f"{name}: {note}" for name, note in failed.items() if note is not None)
    computes = (trial.kernel, *(trial.others[name] for name in right), trial.reference)
    *of_kernels, of_reference = all_in_turn(computes, clock)
    best = _best(of_kernels)
    taken = Comparison(of_kernels[best], of_reference)
    rival = of_kernels[best or -1]  # of the usual one, which is its own where there is no other
    between = Comparison(rival, of_kernels[0])
    return Verdict(
        outcome=Outcome.FASTER if taken.wins else Outcome.SLOWER,
        note=_shortened(notes) or None,
        kernel_ms=taken.kernel_seconds * 1e3,
        reference_ms=taken.reference_seconds * 1e3,
        disagreement=max(taken.disagreement, between.disagreement),
        variant=[None, *right][best],
    )


def _failure(trial: Trial, name: str, reference: Sequence[mx.array]) -> str | None:
    """What is wrong with one of the others, which then is left out; None: nothing."""
    try:
        results = trial.others[name]()
        mx.eval(results)
        difference = trial.disagreement(results, reference)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return _said(error)
    return None if difference is None else one_line(difference)


def _best(samples: Sequence[Sequence[float]]) -> int:
    """Which of several to take: the fastest where it beats the first by more than noise."""
    fastest = min(range(len(samples)), key=lambda number: median(samples[number]))
    return fastest if Comparison(samples[fastest], samples[0]).wins else 0


def _said(error: Exception) -> str:
    return _shortened(one_line(error) or type(error).__name__)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_NOTE else text[: LONGEST_NOTE - 3] + "..."
