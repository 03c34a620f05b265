"""The options of `profile` with their help; None is always "not given"."""

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from ..options import OVERWRITE_HELP
from ..parameters import argument, flag, given_options, option

if TYPE_CHECKING:
    from ...profile.workload import Workload

ADAPTIVE = ("--prompts", "--seeds", "--max-tokens")  # options of the adaptive workload alone


@dataclass(frozen=True)
class WorkloadOptions:
    """The prompts to answer, and the steps for each canvas."""

    steps: str = option(
        "--steps",
        "Denoising steps of every canvas, or adaptive: answers to the shipped prompts, as many "
        "steps as they take. Default: 16.",
        "N",
        default="16",
    )
    context: int | None = option(
        "--context",
        "Prompt positions. Default: 1024 where the model holds them; the prompts' own length when "
        "adaptive.",
        "N",
    )
    canvases: int | None = option(
        "--canvases", "Canvases measured with fixed steps. Default: 5.", "N"
    )
    prompts: int | None = option(
        "--prompts", "Shipped prompts of the adaptive workload. Default: all 20.", "N"
    )
    seeds: int | None = option(
        "--seeds", "Seeds for each prompt of the adaptive workload. Default: 3.", "N"
    )
    max_tokens: int | None = option(
        "--max-tokens",
        "Tokens of an adaptive answer at most. Default: 1024, or as many whole canvases as fit.",
        "N",
    )
    seed: int = option("--seed", "The first seed. Default: 0.", "N", default=0)

    def workload(self) -> "Workload":
        """The workload; ArgumentError for an option of the other kind of workload."""
        from ...profile.workload import Workload

        steps = _steps(self.steps)
        given = list(given_options(self))
        wrong = next((name for name in given if name in ADAPTIVE), None)
        if steps is None and self.canvases is not None:
            raise ArgumentError(
                "--canvases goes with a number of --steps; take --prompts and --seeds."
            )
        if steps is not None and wrong:
            raise ArgumentError(f"{wrong} goes with --steps adaptive; take --canvases.")
        values = {name: value for name, value in vars(self).items() if value is not None}
        return Workload(**{**values, "steps": steps})


def _steps(text: str) -> int | None:
    """A number of steps, None for adaptive."""
    if text == "adaptive":
        return None
    try:
        return int(text)
    except ValueError:
        raise ArgumentError(
            f"--steps is {text!r}, expected a number from 1, or adaptive."
        ) from None


@dataclass(frozen=True)
class MeasureOptions:
    """The measurements beside the workload's steps."""

    components: bool = flag(
        "--components",
        "Repeat every canvas waiting for each part: a step's time by part, with the overhead, and "
        "the experts that it uses.",
    )
    sustained: str | None = option(
        "--sustained", "Go on for this long, such as 10m, 90s or 1h: does heat slow it?", "TIME"
    )
    baseline: str | None = option(
        "--baseline",
        "An autoregressive model, such as Gemma 4, for mlx-lm: measured in turn, on the same "
        "prompts.",
        "AR_MODEL",
        place=True,
    )
    encoder_head: bool = flag(
        "--encoder-head",
        "Also measure the causal encoder with the tied head as a next-token model: perplexity, "
        "agreement with the canvases, speed.",
    )
    decide: bool = flag(
        "--decide",
        "Also time decisions: reads of 1, 3 and 10 questions with 1 and 4 samples behind the "
        "prompt, and new questions on a state that is kept.",
    )

    def sustained_seconds(self) -> float | None:
        """Seconds in a time such as 10m, 90s or 1.5h."""
        if self.sustained is None:
            return None
        units = {"s": 1.0, "m": 60.0, "h": 3600.0}
        try:
            seconds = float(self.sustained[:-1]) * units[self.sustained[-1:]]
        except (KeyError, ValueError):
            seconds = 0.0
        if not 0 < seconds < 1e6:
            raise ArgumentError(
                f"--sustained is {self.sustained!r}, expected a time such as 90s, 10m or 1h."
            )
        return seconds

    def require_shareable(self, *, gentle: bool) -> None:
        """ArgumentError for what is measured of one Mac alone."""
        given = [*given_options(self), *["--gentle"] * gentle]
        if name := next((name for name in given if name != "--components"), None):
            raise ArgumentError(
                f"{name} measures one Mac alone, and several are to share a model; leave one out."
            )


@dataclass(frozen=True)
class TuneOptions:
    """The search for what is fastest on this machine, in a measurement's place."""

    tune: bool = flag(
        "--tune",
        "Time what depends on the machine (chunks, dense weights, the product with the embedding, "
        "Metal kernels), checked first, and keep the fastest for generate, chat and fill.",
    )
    tune_dtype: bool = flag(
        "--tune-dtype",
        "With --tune: also keep float16 activations where they are faster. They round otherwise "
        "than the checkpoint's, so texts may change.",
    )


@dataclass(frozen=True)
class FileOptions:
    """The files that a measurement is written to."""

    json_file: Path | None = option(
        "--json",
        "Write every figure and sample to FILE (docs/profile.md); - is standard output, in place "
        "of the report.",
        "FILE",
    )
    trace: Path | None = option(
        "--trace", "Write Chrome trace events to FILE; - as for --json.", "FILE"
    )
    overwrite: bool = flag("--overwrite", OVERWRITE_HELP)
    send: bool = flag(
        "--send",
        "Write the figures without the prompts' texts, to --json's file or to a new one in this "
        "folder, and say where to post it. Nothing is sent.",
    )


@dataclass(frozen=True)
class ComparisonOptions:
    """The two measurements to compare."""

    first: Path = argument("A", "A file written by profile --json.", default=MISSING)
    second: Path = argument("B", "The file to compare it with.", default=MISSING)
    anyway: bool = flag(
        "--anyway", "Also where sampler, quantisation, model, context or prompts differ."
    )
