"""The options of generate, chat and fill, and those that other commands share with them.

Those of an answer's form have a module of their own, form_options.py.

Each option's name, type, default and help stand here once. None is always "not given".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..machine.dtypes import FloatName
from .errors import ArgumentError
from .parameters import argument, flag, option

Mode = Literal["diffusion", "ar", "auto"]
ThemeName = Literal["auto", "dark", "light"]

if TYPE_CHECKING:
    from ..generation.settings import Settings

MODEL_HELP = (
    "A folder, a repository of the Hugging Face Hub, tiny-chat or tiny-sudoku. Default: "
    "$MLX_DIFFGEMMA_MODEL, else the config file's, else the published 4-bit checkpoint."
)
REVISION_HELP = "Branch, tag or commit of a repository. Default: its main branch."
STANDARD_INPUT = Path("-")
OVERWRITE_HELP = "Replace files that are no earlier output of the same kind. Default: they stay."


@dataclass(frozen=True)
class ModelOptions:
    """The model to load, and the way to load it."""

    model: str | None = option("--model", MODEL_HELP, "MODEL", place=True, short="-m")
    adapter: Path | None = option(
        "--adapter",
        "The folder of a trained adapter to apply to the model. Default: none.",
        "DIR",
    )
    dtype: FloatName | None = option(
        "--dtype", "What activations are computed in. Default: the checkpoint's."
    )
    offline: bool = flag("--offline", "Do not ask the network for the model.")
    force: bool = flag("--force", "Try even where the memory should not suffice.")
    no_tune: bool = flag(
        "--no-tune", "Leave out what `profile --tune` found to be fastest on this machine."
    )

    gentle: bool = flag(
        "--gentle/--no-gentle",
        "Leave the GPU free for a fifth of the time, in short pauses, so that the screen does not "
        "lag: the same text, about a quarter later. `profile --gentle` measures it. Default: off.",
    )

    @property
    def name(self) -> str:
        """The model's name, which is the default's where none is given."""
        from ..checkpoint.default import default_model

        return default_model() if self.model is None else self.model


@dataclass(frozen=True)
class SamplerOptions:
    """The fields of Settings that mode diffusion has, under the names they have there."""

    max_tokens: int | None = option(
        "--max-tokens",
        "Tokens to answer with at most. Default: 1024, or what fits, in mode diffusion whole "
        "canvases.",
        "N",
    )
    seed: int | None = option(
        "--seed", "64 bits; the same seed gives the same text. Default: new.", "N"
    )
    max_denoising_steps: int | None = option(
        "--steps",
        "Denoising steps a canvas at most. Default: the checkpoint's, 48 for the published one.",
        "N",
    )
    entropy_bound: float | None = option(
        "--entropy-bound",
        "Nats accepted a step, above 0. Default: the checkpoint's, 0.1 for the published one.",
        "NATS",
    )
    t_min: float | None = option(
        "--t-min",
        "Temperature of the last step, below --t-max. Default: the checkpoint's, 0.4.",
        "T",
    )
    t_max: float | None = option(
        "--t-max", "Temperature of the first step. Default: the checkpoint's, 0.8.", "T"
    )
    stability_threshold: int | None = option(
        "--stability",
        "Equal canvases in a row that end denoising; 0: entropy alone decides. Default: the "
        "checkpoint's, 1.",
        "N",
    )
    confidence_threshold: float | None = option(
        "--confidence",
        "Mean entropy in nats below which denoising ends. Default: the checkpoint's, 0.005.",
        "NATS",
    )
    stop: list[str] | None = option(
        "--stop", "A text that ends the answer; may be repeated. Default: none.", "TEXT"
    )
    exact_self_conditioning: bool = flag(
        "--exact-self-conditioning",
        "Always multiply by the whole embedding: slower, without approximation.",
    )

    def settings(self, mode: "ModeOptions | None" = None) -> "Settings":
        """The settings of mode diffusion, or of the one chosen; SettingsError out of range."""
        from ..generation.settings import Settings

        chosen = mode.values() if mode else {}
        return Settings(**{**vars(self), "stop": tuple(self.stop or ()), **chosen})


@dataclass(frozen=True)
class ModeOptions:
    """The mode of an answer, and the fields of Settings that mode diffusion does not have."""

    mode: Mode | None = option(
        "--mode",
        "diffusion denoises canvas by canvas, ar writes token by token, auto chooses for each "
        "canvas what should take less time on this machine. Default: diffusion.",
    )
    temperature: float | None = option(
        "--temperature",
        "Modes ar and auto: the temperature of a token's draw; 0 takes the likeliest. Default: the "
        "checkpoint's, else 1.",
        "T",
    )
    top_k: int | None = option(
        "--top-k",
        "Modes ar and auto: draw from the N likeliest tokens; 0: from all. Default: the "
        "checkpoint's, else 64.",
        "N",
    )
    top_p: float | None = option(
        "--top-p",
        "Modes ar and auto: of those, from the fewest that have a share P of the probability; 1: "
        "from all. Default: the checkpoint's, else 0.95.",
        "P",
    )
    min_p: float | None = option(
        "--min-p",
        "Modes ar and auto: of those, from the ones at least P times as likely as the likeliest. "
        "Default: the checkpoint's, else 0.",
        "P",
    )
    lookup: bool = flag(
        "--lookup",
        "Modes ar and auto: draft tokens from what stands in prompt and answer already, and check "
        "several at a time. Default: off.",
    )
    auto_times: str | None = option(
        "--auto-times",
        "Mode auto: decide by these milliseconds a denoising step and a token; inf: never take "
        "that mode. A third number: those of a commit, else 0.7 of a step. Default: what this "
        "session has seen or `profile --tune` measured, else arithmetic for a known chip, else "
        "what is measured before the first answer.",
        "STEP_MS,TOKEN_MS",
    )

    def values(self) -> dict[str, Any]:
        """The fields of Settings; SettingsError for times that are not two numbers."""
        times = None if self.auto_times is None else _times(self.auto_times)
        return {**vars(self), "mode": self.mode or "diffusion", "auto_times": times}


def _times(text: str) -> tuple[float, ...]:
    """`STEP_MS,TOKEN_MS` as numbers; how many there are, and their range, is Settings' to check."""
    from ..errors import Setting, SettingsError, brief

    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise SettingsError(
            Setting("auto_times"),
            f" is {brief(text)}, expected STEP_MS,TOKEN_MS: milliseconds of a denoising step and "
            "of a token with a comma between them, such as 447,18.1; inf: never take that mode.",
        ) from None


@dataclass(frozen=True)
class PromptingOptions:
    """The text before a prompt, and the form in which a model is given both."""

    system: str | None = option("--system", "The system text. Default: none.", "TEXT")
    think: bool = flag("--think/--no-think", "Let the model think before it answers. Default: off.")
    raw: bool = flag(
        "--raw", "The prompt as it is: no chat template, no --system, channels not parsed."
    )

    def __post_init__(self) -> None:
        """SettingsError before a model is looked for, where one option would drop another."""
        if self.raw:
            from ..text.chat import require_no_template

            require_no_template(system=self.system, think=self.think)


@dataclass(frozen=True)
class MediaOptions:
    """The images and the video that stand in front of a prompt."""

    images: list[Path] | None = option(
        "--image",
        "A PNG, JPEG, WebP, GIF, TIFF, BMP, HEIC or AVIF file in front of the prompt; may be "
        "repeated. - is standard input. Default: none.",
        "FILE",
    )
    video: Path | None = option(
        "--video",
        "A video, an animated GIF or WebP, or a folder of frames, in front of the prompt: a frame "
        "a second, at most 60. Default: none.",
        "FILE",
    )
    image_tokens: int | None = option(
        "--image-tokens",
        "Soft tokens of an image at most: 70, 140, 280, 560, 1120 or the checkpoint's own number, "
        "which is the default: 280 for the published one.",
        "N",
    )

    def __post_init__(self) -> None:
        """ArgumentError where standard input would be read twice, or for what it cannot be."""
        if (self.images or []).count(STANDARD_INPUT) > 1:
            raise ArgumentError("--image - is given twice; standard input can be read once.")
        if self.video == STANDARD_INPUT:
            raise ArgumentError("--video is -, expected a file or a folder; name one.")

    @property
    def given(self) -> bool:
        """True where something is to be seen."""
        return bool(self.images) or self.video is not None

    @property
    def files(self) -> Mapping[str, Path | Sequence[Path] | None]:
        """The files that are read, by the names of their options."""
        return {"image": self.images, "video": self.video}

    @property
    def takes_stdin(self) -> bool:
        """True where an image comes from standard input."""
        return STANDARD_INPUT in (self.images or ())


def require_one_stdin(**files: Path | str | None) -> None:
    """ArgumentError where standard input would be read twice."""
    given = [name for name, file in files.items() if file is not None and str(file) == "-"]
    if len(given) > 1:
        raise ArgumentError(
            f"{' and '.join(given)} are both {STANDARD_INPUT}; standard input can be read once."
        )


@dataclass(frozen=True)
class TemplateOptions:
    """The template of `fill`, and what is to be written into its holes."""

    template: str | None = argument(
        "TEMPLATE", "The template, in quotes. Without one, or as -, standard input is read."
    )
    beside: str | None = argument(
        "-", "Adds standard input, behind the template; - TEMPLATE puts it in front."
    )
    template_file: Path | None = option(
        "--template-file", "A UTF-8 file with the template; - adds standard input.", "FILE"
    )
    prompt: str | None = option(
        "--prompt", "What to write. Default: none; a puzzle's own for tiny-sudoku.", "TEXT"
    )
    gaps: list[int] | None = option(
        "--gap",
        "Tokens a hole [[...]] or [[name:regex]] has at most; once for all of them, or once for "
        "each. Default: 32.",
        "N",
    )


@dataclass(frozen=True)
class ReportOptions:
    """The form in which a result is printed."""

    as_json: bool = flag("--json", "Print one JSON object instead of the text.")


@dataclass(frozen=True)
class ViewOptions:
    """The look of the live view."""

    theme: ThemeName | None = option(
        "--theme",
        "Colours of the live view for a dark or a light background. Default: auto, as the terminal "
        "says.",
    )
    no_alt_screen: bool = flag(
        "--no-alt-screen",
        "Draw the live view below the prompt, where its last picture stays, and not on the "
        "terminal's other screen.",
    )


@dataclass(frozen=True)
class OutputOptions(ViewOptions, ReportOptions):
    """The form in which an answer and its steps are shown."""

    visual: bool | None = option(
        "--visual/--no-visual",
        "Show each step or token on standard error. Default: on a terminal, without --json.",
    )
    keep_draft: bool = flag(
        "--keep-draft",
        "After Ctrl-C or an error, print the canvas in work behind the finished ones; tokens of "
        "mode ar are always kept. Default: it goes to standard error, as a draft.",
    )
    plain: bool = flag(
        "--plain",
        "Print the answer as it was written. Default: on a terminal, an answer that is printed "
        "whole is shown as Markdown.",
    )
    trace: Path | None = option(
        "--trace",
        "Write every step and token to FILE as JSON lines; - is standard output, in place of the "
        "answer.",
        "FILE",
    )
    overwrite: bool = flag("--overwrite", OVERWRITE_HELP)

    def check(self) -> None:
        """ArgumentError for options that do not go together."""
        if self.keep_draft and self.as_json:
            raise ArgumentError(
                "--keep-draft and --json are both given, and JSON holds no canvas in work; "
                "leave one of them out, --trace FILE keeps every step."
            )
