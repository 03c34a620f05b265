"""The options of generate, chat and fill, and those that other commands share with them.

Each option's name, type, default and help stand here once. None is always "not given".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..machine.dtypes import FloatName
from .parameters import option

if TYPE_CHECKING:
    from ..diffusion.settings import Settings

MODEL_HELP = (
    "A folder, a repository of the Hugging Face Hub, or tiny-sudoku. Default: "
    "$MLX_DIFFGEMMA_MODEL, else the published 4-bit checkpoint."
)

System = Annotated[str | None, option("--system", "The system text. Default: none.", "TEXT")]
Think = Annotated[
    bool, option("--think/--no-think", "Let the model think before it answers. Default: off.")
]
Raw = Annotated[
    bool, option("--raw", "The prompt as it is: no chat template, channels not parsed.")
]
Dtype = Annotated[
    FloatName | None,
    option("--dtype", "What activations are computed in. Default: the checkpoint's."),
]
Offline = Annotated[bool, option("--offline", "Do not ask the network for the model.")]
Visual = Annotated[
    bool | None,
    option(
        "--visual/--no-visual",
        "Show each step on standard error. Default: on a terminal, without --json.",
    ),
]
Json = Annotated[bool, option("--json", "Print one JSON object instead of the text.")]


@dataclass(frozen=True)
class ModelOptions:
    """The model to load, and the way to load it."""

    model: Annotated[str | None, option("--model", MODEL_HELP, "MODEL")] = None
    dtype: Dtype = None
    offline: Offline = False
    force: Annotated[bool, option("--force", "Try even where the memory should not suffice.")] = (
        False
    )
    no_tune: Annotated[
        bool,
        option("--no-tune", "Leave out what `profile --tune` found to be fastest on this machine."),
    ] = False


@dataclass(frozen=True)
class SamplerOptions:
    """The fields of Settings, under the names they have there."""

    max_tokens: Annotated[
        int | None,
        option(
            "--max-tokens",
            "Tokens to answer with at most. Default: 1024, or as many whole canvases as fit.",
            "N",
        ),
    ] = None
    seed: Annotated[
        int | None,
        option("--seed", "64 bits; the same seed gives the same text. Default: new.", "N"),
    ] = None
    max_denoising_steps: Annotated[
        int | None,
        option(
            "--steps",
            "Denoising steps a canvas at most. Default: the checkpoint's, 48 for the published "
            "one.",
            "N",
        ),
    ] = None
    entropy_bound: Annotated[
        float | None,
        option(
            "--entropy-bound",
            "Nats accepted a step, above 0. Default: the checkpoint's, 0.1 for the published one.",
            "NATS",
        ),
    ] = None
    t_min: Annotated[
        float | None,
        option(
            "--t-min",
            "Temperature of the last step, below --t-max. Default: the checkpoint's, 0.4.",
            "T",
        ),
    ] = None
    t_max: Annotated[
        float | None,
        option("--t-max", "Temperature of the first step. Default: the checkpoint's, 0.8.", "T"),
    ] = None
    stability_threshold: Annotated[
        int | None,
        option(
            "--stability",
            "Equal canvases in a row that end denoising; 0: entropy alone decides. Default: the "
            "checkpoint's, 1.",
            "N",
        ),
    ] = None
    confidence_threshold: Annotated[
        float | None,
        option(
            "--confidence",
            "Mean entropy in nats below which denoising ends. Default: the checkpoint's, 0.005.",
            "NATS",
        ),
    ] = None
    stop: Annotated[
        list[str] | None,
        option("--stop", "A text that ends the answer; may be repeated. Default: none.", "TEXT"),
    ] = None
    exact_self_conditioning: Annotated[
        bool,
        option(
            "--exact-self-conditioning",
            "Always multiply by the whole embedding: slower, without approximation.",
        ),
    ] = False

    def settings(self) -> "Settings":
        """The settings; SettingsError for a value out of range."""
        from ..diffusion.settings import Settings

        return Settings(**{**vars(self), "stop": tuple(self.stop or ())})


@dataclass(frozen=True)
class TemplateOptions:
    """The template of `fill`, and what is to be written into its holes."""

    template_file: Annotated[
        Path | None, option("--template-file", "A UTF-8 file with the template.", "FILE")
    ] = None
    prompt: Annotated[
        str | None,
        option("--prompt", "What to write. Default: none; a puzzle's own for tiny-sudoku.", "TEXT"),
    ] = None
    gaps: Annotated[
        list[int] | None,
        option(
            "--gap",
            "Tokens a hole [[...]] has at most; once for all of them, or once for each. Default: "
            "32.",
            "N",
        ),
    ] = None


@dataclass(frozen=True)
class OutputOptions:
    """The form in which an answer and its steps are shown."""

    visual: Visual = None
    as_json: Json = False
    trace: Annotated[
        Path | None, option("--trace", "Write every step to FILE as JSON lines.", "FILE")
    ] = None
