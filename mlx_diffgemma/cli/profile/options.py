"""The options of `profile` with their help; None is always "not given"."""

from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo


def _option(name: str, text: str, metavar: str | None = None) -> OptionInfo:
    """A typer.Option whose help says the default itself."""
    option: OptionInfo = typer.Option(name, help=text, metavar=metavar, show_default=False)
    return option


FixedSteps = Annotated[
    str,
    _option(
        "--steps",
        "Denoising steps of every canvas, or adaptive: answers to the shipped prompts, as many "
        "steps as they take. Default: 16.",
        "N",
    ),
]
Context = Annotated[
    int | None,
    _option(
        "--context",
        "Prompt positions. Default: 1024 where the model holds them; the prompts' own length when "
        "adaptive.",
        "N",
    ),
]
Canvases = Annotated[
    int | None,
    _option("--canvases", "Canvases measured with fixed steps. Default: 5.", "N"),
]
Prompts = Annotated[
    int | None,
    _option("--prompts", "Shipped prompts of the adaptive workload. Default: all 20.", "N"),
]
Seeds = Annotated[
    int | None,
    _option("--seeds", "Seeds for each prompt of the adaptive workload. Default: 3.", "N"),
]
MaxTokens = Annotated[
    int | None,
    _option(
        "--max-tokens",
        "Tokens of an adaptive answer at most. Default: 1024, or as many whole canvases as fit.",
        "N",
    ),
]
Seed = Annotated[int, _option("--seed", "The first seed. Default: 0.", "N")]
Components = Annotated[
    bool,
    _option(
        "--components",
        "Repeat every canvas waiting for each part: a step's time by part, with the overhead.",
    ),
]
Sustained = Annotated[
    str | None,
    _option(
        "--sustained", "Go on for this long, such as 10m, 90s or 1h: does heat slow it?", "TIME"
    ),
]
JsonFile = Annotated[
    Path | None,
    _option("--json", "Write every figure and sample to FILE (docs/profile.md).", "FILE"),
]
TraceFile = Annotated[
    Path | None,
    _option("--trace", "Write Chrome trace events to FILE.", "FILE"),
]
EncoderHead = Annotated[
    bool,
    _option(
        "--encoder-head",
        "Also measure the causal encoder with the tied head as a next-token model: perplexity, "
        "agreement with the canvases, speed.",
    ),
]
Tune = Annotated[
    bool,
    _option(
        "--tune",
        "Time what depends on the machine (chunks, dense weights, Metal kernels), checked first, "
        "and keep the fastest for generate, chat and fill.",
    ),
]
TuneDtype = Annotated[
    bool,
    _option(
        "--tune-dtype",
        "With --tune: also keep float16 activations where they are faster. They round otherwise "
        "than the checkpoint's, so texts may change.",
    ),
]
BaselineModel = Annotated[
    str | None,
    _option(
        "--baseline",
        "An autoregressive model, such as Gemma 4, for mlx-lm: measured in turn, on the same "
        "prompts.",
        "AR_MODEL",
    ),
]
Anyway = Annotated[
    bool,
    _option("--anyway", "Also where sampler, quantisation, model, context or prompts differ."),
]
FirstFile = Annotated[
    Path, typer.Argument(metavar="A", help="A file written by profile --json.", show_default=False)
]
SecondFile = Annotated[
    Path, typer.Argument(metavar="B", help="The file to compare it with.", show_default=False)
]
