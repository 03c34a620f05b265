"""The options of `decide`, with their help; None is always "not given"."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ArgumentError
from ..options import STANDARD_INPUT
from ..parameters import argument, flag, option

LayoutName = Literal["joint", "rows", "own"]
SURE = 0.9


@dataclass(frozen=True)
class StateOptions:
    """What is judged, from one of four places."""

    state: str | None = argument(
        "STATE", "What the questions are about, in quotes. As -, standard input is read."
    )
    state_file: Path | None = option("--state-file", "A UTF-8 file with the state.", "FILE")
    lines: Path | None = option(
        "--lines",
        "A file with a state a line, text or JSON; the answer to each is a line of JSON. - is "
        "standard input.",
        "FILE",
    )

    @property
    def takes_stdin(self) -> bool:
        """True where an option names standard input."""
        return STANDARD_INPUT in (self.state_file, self.lines)


@dataclass(frozen=True)
class QuestionOptions:
    """The questions, from options, a file or both."""

    questions: Path | None = option(
        "--questions",
        "A JSON file with questions, an id and a question each, or with a whole request of `POST "
        "/v1/systemone`. - is standard input.",
        "FILE",
        short="-q",
    )
    nouls: list[str] | None = option(
        "--noul", "A question that yes or no answers; may be repeated.", "ID=TEXT"
    )
    choices: list[str] | None = option(
        "--choice",
        "A question with options to choose from; may be repeated. ID=TEXT:a,b,c says what is "
        "asked. Options with commas or descriptions need -q.",
        "ID=a,b,c",
    )
    scores: list[str] | None = option(
        "--score",
        "A question with levels from low to high; may be repeated. ID=TEXT:a,b,c says what is "
        "asked.",
        "ID=a,b,c",
    )
    instructions: str | None = option(
        "--instructions", "What counts for all questions. Default: none.", "TEXT"
    )

    @property
    def ids(self) -> list[str]:
        """The ids of the questions that options ask."""
        asked = [*(self.nouls or ()), *(self.choices or ()), *(self.scores or ())]
        return [text.partition("=")[0] for text in asked]

    @property
    def takes_stdin(self) -> bool:
        """True where the questions come from standard input."""
        return self.questions == STANDARD_INPUT


@dataclass(frozen=True)
class SettingOptions:
    """The way the model is asked."""

    samples: str | None = option(
        "--samples",
        "Draws of noise that are averaged, 1 to 32; auto: one, and three more where an answer is "
        "unsure. Default: 4.",
        "N",
    )
    steps: int | None = option("--steps", "Denoising steps of a read, 1 to 8. Default: 1.", "N")
    think: int | None = option(
        "--think",
        "Tokens of a thought that the model writes first, at most 4096. Default: 0, none.",
        "N",
    )
    layout: LayoutName | None = option(
        "--layout",
        "joint: all questions on one canvas. rows: a canvas each behind the same prompt. own: a "
        "prompt each behind the state, so that no question can move another's answer. Default: "
        "joint.",
    )
    orders: int | None = option(
        "--orders", "Orders of a choice's options that are averaged, 1 to 8. Default: 1.", "N"
    )
    seed: int | None = option("--seed", "Seed of the noise. Default: 42.", "N")
    label_mass: bool = flag(
        "--verbose",
        "Also tell how much of the vocabulary's probability the labels of an answer hold: little "
        "of it is a sign that the model would not answer this way.",
    )

    def values(self) -> Mapping[str, Any]:
        """The settings that are typed; SettingsError for samples that are no number."""
        return {**vars(self), "samples": self._samples(), "label_mass": self.label_mass or None}

    def _samples(self) -> int | str | None:
        from ...errors import Setting, SettingsError, brief

        if self.samples is None or self.samples == "auto":
            return self.samples
        try:
            return int(self.samples)
        except ValueError:
            raise SettingsError(
                Setting("samples"),
                f" is {brief(self.samples)}, expected a whole number from 1 to 32, or auto.",
            ) from None


@dataclass(frozen=True)
class AnswerOptions:
    """What becomes of the answers."""

    calibration: Path | None = option(
        "--calibration",
        "A file that `calibrate` wrote for this model: the probabilities become honest ones. "
        "Default: none.",
        "FILE",
    )
    raw: bool = flag("--raw", "The probabilities as they are read, without a calibration.")
    condition: str | None = option(
        "--if",
        "Print nothing without --json, and exit with 0 for yes, 3 for no and 4 where the model is "
        "not sure.",
        "ID",
    )
    sure: float | None = option(
        "--sure", "The probability from which --if is sure, above 0.5. Default: 0.9.", "P"
    )
    as_json: bool = flag("--json", "Print the answers as one JSON object.")

    def check(self, *, several: bool) -> None:
        """ArgumentError for options that do not go together; several: of many states."""
        if self.raw and self.calibration is not None:
            raise ArgumentError("--calibration and --raw are both given; leave one of them out.")
        if self.sure is not None and self.condition is None:
            raise ArgumentError("--sure is given without --if; leave it out, or add --if ID.")
        if self.sure is not None and not 0.5 < self.sure <= 1:
            raise ArgumentError(
                f"--sure is {self.sure:g}, expected a probability above 0.5, 1 at most."
            )
        if several and self.condition is not None:
            raise ArgumentError("--if and --lines are both given; --if is about one state.")

    @property
    def least(self) -> float:
        """The probability from which an answer is sure."""
        return SURE if self.sure is None else self.sure
