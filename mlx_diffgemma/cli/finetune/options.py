"""The options of `finetune`, with their help; None is always "not given"."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ArgumentError
from ..options import ReportOptions
from ..parameters import flag, option

if TYPE_CHECKING:
    from ...finetune.recipe import Recipe

ScheduleName = Literal["cosine", "linear", "constant"]
OptimizerName = Literal["adamw", "adafactor", "muon"]
DEFAULT_BATCH = 4
DEFAULT_OUT = Path("finetuned")


@dataclass(frozen=True)
class DataOptions:
    """The examples, and what is learned of them."""

    data: Path | None = option(
        "--data",
        "A folder with train.jsonl, or a file of JSON lines: messages, prompt and completion, or "
        "text, as mlx-lm takes them.",
        "DIR|FILE",
    )
    valid: Path | None = option(
        "--valid",
        "Examples, or a folder with valid.jsonl, whose loss is taken now and then, with the same "
        "noise each time. Default: none.",
        "FILE",
    )
    valid_every: int | None = option(
        "--valid-every", "Steps from one such loss to the next. Default: as --save-every.", "N"
    )
    mix: list[str] | None = option(
        "--mix",
        "Draw this share of the examples from another file, such as one that shows what the model "
        "is to keep; may be repeated. Default: none.",
        "FILE:SHARE",
        place=True,
    )
    max_length: int | None = option(
        "--max-length",
        "Tokens of an example at most, its fill to whole canvases included; a longer one is an "
        "error. Default: the checkpoint's context.",
        "N",
    )
    truncate: bool = flag(
        "--truncate",
        "Cut longer examples at a canvas, and drop those whose prompt leaves no room for one.",
    )
    mask_prompt: bool = flag(
        "--mask-prompt", "Leave prompts out of the encoder's loss; the decoder never learns them."
    )


@dataclass(frozen=True)
class AdapterOptions:
    """The numbers that are trained."""

    lora_rank: int | None = option("--lora-rank", "The adapters' rank. Default: 8.", "R")
    full: bool = flag(
        "--full",
        "Train all weights of the text network instead of adapters; packed ones are unpacked to "
        "float32.",
    )
    lora_scale: float | None = option(
        "--lora-scale",
        "A plain factor on the adapters; 20 is known to collapse, 1 to 8 to be stable. Default: 2.",
        "S",
    )
    lora_dropout: float | None = option(
        "--lora-dropout", "The share of an adapter's input that is left out. Default: 0.", "P"
    )
    targets: list[str] | None = option(
        "--targets",
        "The modules with an adapter: attention, mlp, experts, router, self-conditioning, all, or "
        "a pattern for the end of a name; may be repeated. Default: attention and mlp.",
        "PATTERN",
    )

    def __post_init__(self) -> None:
        """ArgumentError where all weights are trained, and an adapter is described."""
        given = {
            "--lora-rank": self.lora_rank,
            "--lora-scale": self.lora_scale,
            "--lora-dropout": self.lora_dropout,
            "--targets": self.targets,
        }
        for name, value in given.items():
            if self.full and value is not None:
                raise ArgumentError(
                    f"{name} describes adapters, and --full trains none; leave one of them out."
                )


@dataclass(frozen=True)
class CourseOptions:
    """The steps of a run, and the optimiser."""

    steps: int | None = option("--steps", "Steps of the optimiser. Default: 1000.", "N")
    size: int | None = option("--batch", "Examples in a batch, of each process. Default: 4.", "N")
    accumulate: int | None = option(
        "--grad-accum", "Batches in a step, whose gradients are averaged. Default: 1.", "N"
    )
    lr: float | None = option("--lr", "The highest learning rate. Default: 1.5e-4.", "RATE")
    warmup: int | None = option(
        "--warmup", "Steps in which it rises. Default: a twentieth of all.", "N"
    )
    schedule: ScheduleName | None = option(
        "--schedule", "Its way down to a tenth, or constant. Default: cosine."
    )
    optimizer: OptimizerName | None = option(
        "--optimizer",
        "muon turns matrices, at a rate of 0.02, and leaves the rest to adamw. Default: adamw.",
    )
    canvases: int | None = option(
        "--canvases",
        "Noisy canvases of each example, which share the encoder's pass. Default: 1.",
        "N",
    )
    grad_checkpoint: bool = flag(
        "--grad-checkpoint",
        "Compute the inside of a layer again for its gradient, rather than keep it.",
    )
    leave_one_out: bool = flag(
        "--leave-one-out",
        "The decoder's loss without what a token says of itself (arXiv 2605.22765); for short, "
        "strict answers.",
    )
    reweighted: bool = flag(
        "--reweighted", "Weigh canvases by 1 / (1 - noise), at most 100, in the decoder's loss."
    )
    seed: int | None = option(
        "--seed", "64 bits, of the order of examples, noise and first values. Default: 0.", "N"
    )

    @property
    def batch(self) -> int:
        """Examples in a batch."""
        return DEFAULT_BATCH if self.size is None else self.size

    def recipe(self, **more: Any) -> "Recipe":
        """The recipe; SettingsError for a number out of its range."""
        from ...finetune.recipe import Recipe

        names = ("steps", "accumulate", "lr", "warmup", "schedule", "optimizer", "seed")
        given = {name: getattr(self, name) for name in names} | more
        return Recipe(**{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class StepsReport(ReportOptions):
    """The form in which a run is printed."""

    as_json: bool = flag(
        "--json",
        "Print JSON lines instead of the text: an object for each step, and one at the end; with "
        "--plan, one object.",
    )


@dataclass(frozen=True)
class PlaceOptions:
    """The folder of a run."""

    out: Path = option(
        "--out",
        "The folder for the adapter, or with --full the checkpoint, and for saved states. Default: "
        "finetuned.",
        "DIR",
        default=DEFAULT_OUT,
    )
    save_every: int | None = option(
        "--save-every",
        "Steps from one saved state to the next; the last two stay, and the best. Default: 20.",
        "N",
    )
    resume: bool = flag(
        "--resume",
        "Go on from the last saved state in --out, with the same numbers as a run that was not cut "
        "off; without one, begin.",
    )
    overwrite: bool = flag("--overwrite", "Replace an earlier run in --out. Default: it stays.")
    plan: bool = flag(
        "--plan",
        "Say what memory and time a step takes, by arithmetic, and train nothing; without --data, "
        "for examples of --max-length tokens, or 1024.",
    )

    def __post_init__(self) -> None:
        """ArgumentError where one option would take back the other."""
        if self.resume and self.overwrite:
            raise ArgumentError(
                "--resume goes on with a run and --overwrite replaces it; leave one of them out."
            )
