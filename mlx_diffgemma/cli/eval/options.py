"""The options of `eval`, with their help; None is always "not given"."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ArgumentError
from ..options import OVERWRITE_HELP
from ..parameters import flag, option
from ..settings_options import ModeOptions, SamplerOptions

if TYPE_CHECKING:
    from ...finetune.evaluation.evaluate import Way

MetricName = Literal["exact", "contains", "json", "regex"]
EACH = ("max_denoising_steps", "mode", "seed", "stop")
"""Options of an answer that `eval` has in a form of its own, or not at all."""


@dataclass(frozen=True)
class CaseOptions:
    """The cases, and the way their answers are compared."""

    data: Path | None = option(
        "--data",
        "JSON lines with messages, or prompt and completion, and what is expected; or a folder "
        "with test.jsonl.",
        "FILE",
    )
    metric: MetricName | None = option(
        "--metric",
        "How an answer is compared with what is expected: to the character, as a text that it "
        "contains, as a value of JSON, or with a pattern for all of it. Default: exact.",
    )
    limit: int | None = option("--limit", "Take the first N cases alone. Default: all.", "N")
    think: bool | None = option(
        "--think/--no-think",
        "Let the model think, or not, where a line does not say. Default: where the expected "
        "answer has a thought.",
    )
    system: str | None = option(
        "--system", "The system text of lines without one. Default: none.", "TEXT"
    )

    @property
    def file(self) -> Path:
        """The cases' file or folder; ArgumentError for numbers that are none."""
        if self.data is None:
            raise ArgumentError("--data is missing, expected a file of JSON lines with cases.")
        if self.limit is not None and self.limit < 1:
            raise ArgumentError(f"--limit is {self.limit}, expected 1 or more.")
        return self.data


@dataclass(frozen=True)
class WayOptions:
    """The ways in which every case is answered."""

    steps: str | None = option(
        "--steps",
        "Denoising steps a canvas at most, several with commas: every case is answered with each. "
        "Default: the checkpoint's, 48 for the published one.",
        "N,N..",
    )
    modes: str | None = option(
        "--mode",
        "diffusion, ar or auto, several with commas. Default: diffusion.",
        "MODE,MODE..",
    )
    seeds: int = option(
        "--seeds",
        "Answers to each case in each way, every one with noise of its own; the same numbers give "
        "the same answers. Default: 1.",
        "N",
        default=1,
    )

    def ways(self, sampler: SamplerOptions, mode: ModeOptions) -> "list[Way]":
        """All ways; SettingsError for numbers and modes that are none, or that nothing uses."""
        from ...finetune.evaluation.evaluate import require_seeds, ways_of

        require_seeds(self.seeds)
        given = {**vars(sampler), **mode.values()}
        fields: dict[str, Any] = {k: v for k, v in given.items() if k not in EACH}
        modes = ["diffusion"] if self.modes is None else self.modes.split(",")
        return ways_of([name.strip() for name in modes], self._counts(), fields)

    def _counts(self) -> Sequence[int | None]:
        from ...errors import Setting, SettingsError, brief

        if self.steps is None:
            return [None]
        try:
            return [int(number) for number in self.steps.split(",")]
        except ValueError:
            raise SettingsError(
                Setting("max_denoising_steps"),
                f" is {brief(self.steps)}, expected whole numbers with commas between them, such "
                "as 1,4,16,48.",
            ) from None


@dataclass(frozen=True)
class ResultOptions:
    """The places where results go."""

    as_json: bool = flag("--json", "Print one JSON object instead of the table.")
    out: Path | None = option(
        "--out", "Write every answer to FILE as a line of JSON; - is standard output.", "FILE"
    )
    overwrite: bool = flag("--overwrite", OVERWRITE_HELP)
