"""The options of generate, chat and fill, and those that other commands share with them.

Those that make up Settings have a module of their own, settings_options.py, and so have those of an
answer's form, form_options.py.

Each option's name, type, default and help stand here once. None is always "not given".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..machine.dtypes import FloatName
from .errors import ArgumentError
from .parameters import argument, flag, option

ThemeName = Literal["auto", "dark", "light"]

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
