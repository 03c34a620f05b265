"""The options that make up the Settings of an answer: of the sampler, and of modes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .parameters import flag, option

Mode = Literal["diffusion", "ar", "auto"]

if TYPE_CHECKING:
    from ..generation.settings import Settings


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
