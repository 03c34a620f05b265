"""The options that llm takes with `-o`, under the names of our command line's, and what they mean.

Types are checked here, ranges where Settings are made: each has one definition.
"""

from typing import TYPE_CHECKING, Any, Literal

import llm
from pydantic import Field

if TYPE_CHECKING:
    from ..generation.settings import Settings

OPTION_OF = {"max_denoising_steps": "steps", "soft_tokens": "image_tokens"}
"""A setting's name in Python -> the option that llm's user typed, where they differ."""

NO_SETTINGS = ("think", "image_tokens")


def _option(description: str) -> Any:
    return Field(default=None, description=description)


class Options(llm.Model.Options):
    """Options of one question; what is not given is the checkpoint's own."""

    max_tokens: int | None = _option("Tokens to answer with at most, 1 or more; default: 1024")
    seed: int | None = _option("0 to 2^64 - 1; the same seed gives the same text; default: new")
    mode: Literal["diffusion", "ar", "auto"] | None = _option(
        "diffusion (default) denoises canvas by canvas, ar writes token by token, auto chooses the "
        "faster for each canvas"
    )
    think: bool | None = _option("true: think before the answer; llm shows thoughts, -R hides them")
    steps: int | None = _option("Denoising steps a canvas at most, 1 or more")
    entropy_bound: float | None = _option("Nats accepted a step, above 0")
    t_min: float | None = _option("Temperature of the last step, from 0, below t_max")
    t_max: float | None = _option("Temperature of the first step, above 0")
    temperature: float | None = _option(
        "Modes ar and auto: temperature of a token's draw, from 0, which takes the likeliest"
    )
    top_k: int | None = _option("Modes ar and auto: draw from so many likeliest tokens; 0: all")
    top_p: float | None = _option("Modes ar and auto: share of the probability, above 0 to 1")
    min_p: float | None = _option(
        "Modes ar and auto: least probability, as a share of the likeliest token's, 0 to 1"
    )
    lookup: bool | None = _option("Modes ar and auto, true: draft tokens from earlier text")
    image_tokens: int | None = _option(
        "Soft tokens of an image at most: 70, 140, 280, 560 or 1120; default: the checkpoint's"
    )

    def settings(self) -> "Settings":
        """The Settings among the options; SettingsError for one out of range."""
        from ..generation.settings import Settings

        names = {option: name for name, option in OPTION_OF.items()}
        given = self.model_dump(exclude_none=True, exclude={*NO_SETTINGS})
        return Settings(**{names.get(option, option): value for option, value in given.items()})
