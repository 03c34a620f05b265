"""A decision: answers with probabilities, in the form of the contract."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Tokens of a decision: of its prompts, those that they share once; and of thoughts.

    They can be read as attributes or, as in the JSON, by name.
    """

    input_tokens: int = 0
    output_tokens: int = 0

    def __getitem__(self, name: str) -> int:
        return int(vars(self)[name])


@dataclass(frozen=True)
class Times:
    """What a decision took; encoded: prompt positions that no kept prefix spared."""

    seconds: float
    reads: int
    encoded: int


@dataclass(frozen=True)
class Decision:
    """The answers to questions by their ids, each as the contract has it.

    read: probabilities of the options as they were read, neither calibrated nor rounded;
    calibrated: the types whose answers went through a calibration, None without one; ignored:
    fields of the request that nothing used.
    """

    model: str
    answers: Mapping[str, Mapping[str, Any]]
    read: Mapping[str, Sequence[float]]
    usage: Usage
    layout: str
    samples: int
    calibrated: Sequence[str] | None
    times: Times
    ignored: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The body of the HTTP answer: the same for the same request, so without times."""
        return {
            "model": self.model,
            "answers": {name: dict(answer) for name, answer in self.answers.items()},
            "usage": dict(vars(self.usage)),
            "x_layout": self.layout,
            "x_samples": self.samples,
            "x_calibration": {
                "applied": self.calibrated is not None,
                "types": list(self.calibrated or ()),
            },
            "x_ignored": list(self.ignored),
        }
