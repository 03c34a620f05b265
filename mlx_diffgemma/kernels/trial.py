"""The trial of one instantiation of a kernel family against its reference, on this very machine."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import mlx.core as mx

from ..errors import is_out_of_memory, one_line
from .check import Tolerance, worst
from .timing import Compute, in_turn, wins

LONGEST_NOTE = 300  # a Metal compiler's message can fill pages


@dataclass(frozen=True)
class Trial:
    """One instantiation of a family with inputs to try it on, made on the spot.

    kernel, reference: the results, lazy, of the kernels and of the reference implementation in MLX
    operations; tolerances: by how much they may differ, one an output.
    """

    kernel: Compute
    reference: Compute
    tolerances: Sequence[Tolerance]

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
    """The outcome of a trial; note: what differed or was raised; times: where it came to that."""

    outcome: Outcome
    note: str | None = None
    kernel_ms: float | None = None
    reference_ms: float | None = None
    lasting: bool = True  # False for what may be gone in another process, like a lack of memory

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the cache on disk."""
        return {name: value for name, value in asdict(self).items() if name != "lasting"}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Verdict":
        """The verdict in the cache; TypeError, KeyError or ValueError where there is none."""
        note, times = value["note"], (value["kernel_ms"], value["reference_ms"])
        if not isinstance(note, str | None) or not all(isinstance(t, float | None) for t in times):
            raise TypeError("a note is a text, times are numbers")
        return Verdict(Outcome(value["outcome"]), note, *times)


def rounded_up(rows: int) -> int:
    """The power of two from `rows` on: prompts and holes have any length, a trial takes time."""
    return 1 << (rows - 1).bit_length()


def run_trial(make: Callable[[], Trial], clock: Callable[[], float] = time.perf_counter) -> Verdict:
    """Compiles, compares and times the kernels of one trial; never raises an error of theirs."""
    try:
        return _run(make(), clock)
    except Exception as error:  # whatever MLX or Metal's compiler raises
        said = one_line(error) or type(error).__name__
        return Verdict(Outcome.ERROR, _shortened(said), lasting=not is_out_of_memory(error))
    finally:
        mx.clear_cache()


def _run(trial: Trial, clock: Callable[[], float]) -> Verdict:
    kernel = trial.kernel()
    mx.eval(kernel)
    reference = trial.reference()
    mx.eval(reference)
    difference = trial.disagreement(kernel, reference)
    del kernel, reference
    if difference is not None:
        return Verdict(Outcome.WRONG, _shortened(one_line(difference)))
    kernel_seconds, reference_seconds = in_turn((trial.kernel, trial.reference), clock)
    outcome = Outcome.FASTER if wins(kernel_seconds, reference_seconds) else Outcome.SLOWER
    return Verdict(outcome, None, kernel_seconds * 1e3, reference_seconds * 1e3)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_NOTE else text[: LONGEST_NOTE - 3] + "..."
