"""Refusals: why a request is not answered, and how each dialect says it.

A refusal has a kind of its own here; status, type and code of a dialect stand in one table each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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

    retry_after: seconds after which the same request may be answered.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind, self.param, self.retry_after = kind, param, retry_after


def fresh(refusal: Refusal) -> Refusal:
    """The same refusal for another client: one that is raised remembers where."""
    return Refusal(refusal.kind, str(refusal), refusal.param, refusal.retry_after)


@dataclass(frozen=True)
class Named:
    """A kind of refusal in the words of a dialect; code: where the dialect has one."""

    status: int
    type: str
    code: str | None = None


LOADING = Refusal("loading", "the model is being loaded; try again in a moment.", retry_after=5)
STOPPING = Refusal("stopping", "the server is stopping; ask it again once it is back.", None, 10)

BROKEN = "the answer could not be made; the server's log says why."
"""What a client is told of an error that is nobody's but ours."""

INVALID, SERVER = "invalid_request_error", "server_error"

OPENAI: Mapping[Kind, Named] = {
    "invalid": Named(400, INVALID),
    "context": Named(400, INVALID, "context_length_exceeded"),
    "too_large": Named(413, INVALID, "request_too_large"),
    "encoding": Named(415, INVALID, "unsupported_encoding"),
    "no_key": Named(401, INVALID, "invalid_api_key"),
    "wrong_key": Named(401, INVALID, "invalid_api_key"),
    "forbidden": Named(403, "permission_error", "permission_error"),
    "not_found": Named(404, INVALID, "not_found"),
    "method": Named(405, INVALID, "method_not_allowed"),
    "full": Named(429, "rate_limit_error", "queue_full"),
    "stopping": Named(503, SERVER, "stopping"),
    "loading": Named(503, SERVER, "loading"),
    "internal": Named(500, SERVER, "internal_error"),
}
"""Chat completions, completions and responses, and every path that is no dialect's."""

ANTHROPIC: Mapping[Kind, Named] = {
    "invalid": Named(400, INVALID),
    "context": Named(400, INVALID),
    "too_large": Named(413, "request_too_large"),
    "encoding": Named(415, INVALID),
    "no_key": Named(401, "authentication_error"),
    "wrong_key": Named(401, "authentication_error"),
    "forbidden": Named(403, "permission_error"),
    "not_found": Named(404, "not_found_error"),
    "method": Named(405, INVALID),
    "full": Named(429, "rate_limit_error"),
    "stopping": Named(529, "overloaded_error"),
    "loading": Named(529, "overloaded_error"),
    "internal": Named(500, "api_error"),
}

DECISIONS: Mapping[Kind, Named] = {
    "invalid": Named(422, "value_error"),
    "context": Named(413, "request_too_large"),
    "too_large": Named(413, "request_too_large"),
    "encoding": Named(415, "unsupported_encoding"),
    "no_key": Named(403, "authentication_error"),
    "wrong_key": Named(401, "authentication_error"),
    "forbidden": Named(403, "permission_error"),
    "not_found": Named(404, "not_found"),
    "method": Named(405, "method_not_allowed"),
    "full": Named(529, "overloaded"),
    "stopping": Named(503, "stopping"),
    "loading": Named(503, "loading"),
    "internal": Named(500, "internal_error"),
}


def openai_body(refusal: Refusal) -> dict[str, Any]:
    """The body of a refusal as OpenAI's API has it."""
    named = OPENAI[refusal.kind]
    told = {"message": str(refusal), "type": named.type}
    return {"error": {**told, "param": refusal.param, "code": named.code}}


def anthropic_body(refusal: Refusal) -> dict[str, Any]:
    """The body of a refusal as Anthropic's API has it."""
    told = {"type": ANTHROPIC[refusal.kind].type, "message": str(refusal)}
    return {"type": "error", "error": told}


def decisions_body(refusal: Refusal) -> dict[str, Any]:
    """The body of a refusal as the API of decisions has it, where no field is to blame."""
    told = {"error_type": DECISIONS[refusal.kind].type, "message": str(refusal)}
    return {"detail": told}


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
