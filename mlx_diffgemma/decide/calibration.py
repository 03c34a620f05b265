"""A calibration: temperatures that make probabilities honest, bound to what they were fitted on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, brief
from ..machine.files import read_json
from .options import Options
from .questions import Question, as_sent
from .reader import LoadedModel

VERSION = 1  # of the file, and of the texts of prompts: it counts up when either changes
LEAST, MOST = 0.05, 20.0  # temperatures
AGAIN = "make one for it with `mlx-diffgemma calibrate`, or leave it out."


@dataclass(frozen=True)
class Temperatures:
    """T of each type, None where it was not fitted; a choice of n options has T = a + b ln n."""

    noul: float | None = None
    choice: tuple[float, float] | None = None
    score: float | None = None

    def of(self, kind: str, count: int) -> float:
        """The temperature of a type with so many options; 1 where it was not fitted."""
        if kind == "choice":
            found = None if self.choice is None else self.choice[0] + self.choice[1] * log(count)
        else:
            found = self.noul if kind == "noul" else self.score
        return 1.0 if found is None else min(MOST, max(LEAST, found))

    def applied(self, kind: str, log_p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities [N] of ln p [N] under the temperature of their type."""
        scaled = log_p / self.of(kind, len(log_p))
        p = np.exp(scaled - scaled.max())
        return np.asarray(p / p.sum())

    @property
    def kinds(self) -> list[str]:
        """The types that were fitted."""
        return [kind for kind, each in vars(self).items() if each is not None]

    def to_json(self) -> dict[str, Any]:
        """The temperatures as the file has them."""
        line = None if self.choice is None else dict(zip("ab", self.choice, strict=True))
        found = {"noul": self.noul, "choice": line, "score": self.score}
        return {kind: each for kind, each in found.items() if each is not None}


@dataclass(frozen=True)
class Bound:
    """What a calibration was fitted on: it counts for nothing else."""

    version: int
    model: str
    revision: str | None
    quantization: str | None
    layout: str
    samples: int | str
    steps: int
    think: int

    @classmethod
    def to(cls, model: LoadedModel, options: Options) -> "Bound":
        """What a model is asked with."""
        return cls(
            *(VERSION, model.name, model.revision, model.quantization),
            *(options.layout, options.samples, options.steps, options.think),
        )


FREE = ("revision", "samples")  # what may differ: probabilities mean the same


@dataclass(frozen=True)
class Calibration:
    """Temperatures with what they were fitted on, and how honest probabilities were with them.

    rows: cases of each type; ece, brier: before and after, out of fold, of each type and of all.
    """

    bound: Bound
    temperatures: Temperatures
    rows: Mapping[str, int]
    ece: Mapping[str, Mapping[str, float]]
    brier: Mapping[str, Mapping[str, float]]

    @property
    def kinds(self) -> list[str]:
        """The types that it was fitted on."""
        return self.temperatures.kinds

    def applied(self, question: Question, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities [N] as they are to be told."""
        return self.temperatures.applied(question.kind, np.log(np.maximum(mean, 1e-300)))

    def require_for(self, model: LoadedModel, options: Options, name: str) -> None:
        """DataError where it was fitted on something else; name: the file's."""
        asked = asdict(Bound.to(model, options))
        for field, value in asdict(self.bound).items():
            if field not in FREE and value != asked[field]:
                raise DataError(
                    f"{name}: {field} is {brief(value)}, and this decision's is "
                    f"{brief(asked[field])}; {AGAIN}"
                )

    def to_json(self) -> dict[str, Any]:
        """The content of the file."""
        return {
            **asdict(self.bound),
            "rows": dict(self.rows),
            "temperatures": self.temperatures.to_json(),
            "ece": self.ece,
            "brier": self.brier,
        }


def read_calibration(file: Path) -> Calibration:
    """The calibration in a file; DataError for any other file."""
    try:
        value = read_json(file)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}, expected a calibration.") from error
    except ValueError as error:
        raise DataError(f"{file}: {error}, expected a calibration; {AGAIN}") from error
    if not is_calibration(value):
        raise DataError(f"{file}: no calibration of mlx-diffgemma; {AGAIN}")
    given = value["temperatures"]
    one = {kind: _temperature(file, given[kind]) for kind in ("noul", "score") if kind in given}
    line = given.get("choice")
    pair = None if line is None else (_number(file, line["a"]), _number(file, line["b"]))
    temperatures = Temperatures(choice=pair, **one)
    bound = Bound(**{field: value[field] for field in Bound.__dataclass_fields__})
    return Calibration(bound, temperatures, value["rows"], value["ece"], value["brier"])


def is_calibration(value: Any) -> bool:
    """True for a value of JSON with all that a calibration has."""
    if not isinstance(value, dict):
        return False
    told = {*Bound.__dataclass_fields__, "rows", "temperatures", "ece", "brier"} <= value.keys()
    objects = all(isinstance(value.get(n), dict) for n in ("rows", "temperatures", "ece", "brier"))
    if not told or not objects:
        return False
    line = value["temperatures"].get("choice")
    return line is None or (isinstance(line, dict) and {"a", "b"} <= line.keys())


def _temperature(file: Path, value: Any) -> float:
    """A temperature of the file; DataError for one that no fit has."""
    if not LEAST <= (found := _number(file, value)) <= MOST:
        said = f"temperature {found:g}, expected {LEAST:g} to {MOST:g}"
        raise DataError(f"{file}: {said}; {AGAIN}")
    return found


def _number(file: Path, value: Any) -> float:
    """A number of the file; DataError for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    raise DataError(f"{file}: {as_sent(value)} is no temperature; {AGAIN}")
