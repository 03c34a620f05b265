"""Refusals: why a request is not answered, in kinds of the core's own.

families.py has the words that clients are told them in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..errors import (
    CheckpointError,
    ConstraintError,
    DiffGemmaError,
    FitError,
    ImageError,
    PromptError,
    RequestError,
    Setting,
    SettingsError,
    is_out_of_memory,
)

Kind = Literal[
    "invalid",  # not JSON, a wrong shape, a value that is not supported
    "context",  # the prompt does not fit into the context
    "too_large",  # the body
    "encoding",  # a Content-Encoding that is not read
    "no_key",
    "wrong_key",
    "forbidden",  # a foreign Host or Origin
    "not_found",
    "method",  # a path that is there, asked in another way
    "full",  # the queue
    "stopping",
    "loading",
    "internal",
]


class Refusal(DiffGemmaError):  # noqa: N818 - a word of its own
    """A request that is not answered: the kind of reason, and in `param` the field that it is in.

    retry_after: seconds after which the same request may be answered. code: what clients look for
    in this one, where its kind has none that says it.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        param: str | None = None,
        retry_after: int | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind, self.param, self.retry_after, self.code = kind, param, retry_after, code


def fresh(refusal: Refusal) -> Refusal:
    """The same refusal for another client: one that is raised remembers where."""
    return Refusal(refusal.kind, str(refusal), refusal.param, refusal.retry_after, refusal.code)


LOADING = Refusal("loading", "the model is being loaded; try again in a moment.", retry_after=5)
STOPPING = Refusal("stopping", "the server is stopping; ask it again once it is back.", None, 10)

BROKEN = "the answer could not be made; the server's log says why."
"""What a client is told of an error that is nobody's but ours."""

NAMES = {
    "schema": "the schema of the answer's form",
    "pattern": "the pattern of the answer's form",
    "choices": "the choices of the answer's form",
    "gaps": "max_tokens",
    "think": "thinking",
    **{name: f"diffusion.{name}" for name in ("entropy_bound", "t_min", "t_max", "image_tokens")},
    "mode": "diffusion.mode",
    "max_denoising_steps": "diffusion.steps",
    "stability_threshold": "diffusion.stability",
    "confidence_threshold": "diffusion.confidence",
}
"""The names of settings in requests, where they differ."""

ASKED = (PromptError, ConstraintError, SettingsError, ImageError, CheckpointError)
"""Errors about what a request asks of this model."""


def refusal_of(error: BaseException, private: Mapping[str, str] | None = None) -> Refusal:
    """The refusal of a question whose preparation or answer ended in an error.

    What the request can do nothing about is told in one line, without particulars. private: texts
    that nobody is told, and what stands in their place.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, FitError):
        said = _without(private or {}, str(error).partition("; ")[0])
        return Refusal("context", f"{said}; shorten the prompt, or lower max_tokens.")
    if isinstance(error, ASKED):
        said = _without(private or {}, error.told(NAMES))
        if isinstance(error, PromptError) and error.too_long:
            return Refusal("context", said)
        settings = (NAMES.get(part, part) for part in error.args if isinstance(part, Setting))
        return Refusal("invalid", said, next(settings, None))
    if isinstance(error, RequestError):  # a decision's own route says more of it
        return Refusal("invalid", str(error))
    if is_out_of_memory(error):
        return Refusal("internal", "the machine has no memory left for this; ask for less.")
    return Refusal("internal", BROKEN)


def _without(private: Mapping[str, str], said: str) -> str:
    for text, instead in private.items():
        said = said.replace(text, instead)
    return said
