"""The options that commands share, with their help; None is always "not given"."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from ..machine.dtypes import FloatName

MODEL_HELP = (
    "A folder, a repository of the Hugging Face Hub, or tiny-sudoku. Default: "
    "$MLX_DIFFGEMMA_MODEL, else the published 4-bit checkpoint."
)


def _option(name: str, text: str, metavar: str | None = None) -> OptionInfo:
    """A typer.Option whose help says the default itself."""
    option: OptionInfo = typer.Option(name, help=text, metavar=metavar, show_default=False)
    return option


PromptFile = Annotated[
    Path | None, _option("--prompt-file", "A UTF-8 file with the prompt.", "FILE")
]
TemplateFile = Annotated[
    Path | None, _option("--template-file", "A UTF-8 file with the template.", "FILE")
]
FillPrompt = Annotated[
    str | None,
    _option("--prompt", "What to write. Default: none; a puzzle's own for tiny-sudoku.", "TEXT"),
]
Gap = Annotated[
    list[int] | None,
    _option(
        "--gap",
        "Tokens a hole [[...]] has at most; once for all of them, or once for each. Default: 32.",
        "N",
    ),
]
System = Annotated[str | None, _option("--system", "The system text. Default: none.", "TEXT")]
Think = Annotated[
    bool,
    _option("--think/--no-think", "Let the model think before it answers. Default: off."),
]
Raw = Annotated[
    bool,
    _option("--raw", "The prompt as it is: no chat template, channels not parsed."),
]
ModelName = Annotated[str | None, _option("--model", MODEL_HELP, "MODEL")]
Dtype = Annotated[
    FloatName | None,
    _option("--dtype", "What activations are computed in. Default: the checkpoint's."),
]
Offline = Annotated[bool, _option("--offline", "Do not ask the network for the model.")]
Force = Annotated[bool, _option("--force", "Try even where the memory should not suffice.")]
MaxTokens = Annotated[
    int | None,
    _option(
        "--max-tokens",
        "Tokens to answer with at most. Default: 1024, or as many whole canvases as fit.",
        "N",
    ),
]
Seed = Annotated[
    int | None,
    _option("--seed", "64 bits; the same seed gives the same text. Default: new.", "N"),
]
Steps = Annotated[
    int | None,
    _option(
        "--steps",
        "Denoising steps a canvas at most. Default: the checkpoint's, 48 for the published one.",
        "N",
    ),
]
EntropyBound = Annotated[
    float | None,
    _option(
        "--entropy-bound",
        "Nats accepted a step, above 0. Default: the checkpoint's, 0.1 for the published one.",
        "NATS",
    ),
]
TMin = Annotated[
    float | None,
    _option(
        "--t-min",
        "Temperature of the last step, below --t-max. Default: the checkpoint's, 0.4.",
        "T",
    ),
]
TMax = Annotated[
    float | None,
    _option("--t-max", "Temperature of the first step. Default: the checkpoint's, 0.8.", "T"),
]
Stability = Annotated[
    int | None,
    _option(
        "--stability",
        "Equal canvases in a row that end denoising; 0: entropy alone decides. Default: the "
        "checkpoint's, 1.",
        "N",
    ),
]
Confidence = Annotated[
    float | None,
    _option(
        "--confidence",
        "Mean entropy in nats below which denoising ends. Default: the checkpoint's, 0.005.",
        "NATS",
    ),
]
Stop = Annotated[
    list[str] | None,
    _option("--stop", "A text that ends the answer; may be repeated. Default: none.", "TEXT"),
]
ExactSelfConditioning = Annotated[
    bool,
    _option(
        "--exact-self-conditioning",
        "Always multiply by the whole embedding: slower, without approximation.",
    ),
]
Visual = Annotated[
    bool | None,
    _option(
        "--visual/--no-visual",
        "Show each step on standard error. Default: on a terminal, without --json.",
    ),
]
Json = Annotated[bool, _option("--json", "Print one JSON object instead of the text.")]
TraceFile = Annotated[
    Path | None, _option("--trace", "Write every step to FILE as JSON lines.", "FILE")
]
NoTune = Annotated[
    bool,
    _option("--no-tune", "Leave out what `profile --tune` found to be fastest on this machine."),
]


@dataclass(frozen=True)
class ModelChoice:
    """Which model to load, and how; tuned: with what `profile --tune` found, if it was run."""

    name: str | None
    dtype: str | None
    offline: bool
    force: bool
    tuned: bool
