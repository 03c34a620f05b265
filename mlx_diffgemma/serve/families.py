"""Families of clients: the status and the words in which each is told of a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .refusal import Kind, Refusal


@dataclass(frozen=True)
class Named:
    """A kind of refusal in the words of a family; code: where the family has one."""

    status: int
    type: str
    code: str | None = None


@dataclass(frozen=True)
class Family:
    """Clients that expect the same shape of a refusal.

    write: its body; key_header: the header that tells a client the key of its request.
    """

    names: Mapping[Kind, Named]
    write: Callable[[Refusal, Named], dict[str, Any]]
    key_header: str

    def status(self, refusal: Refusal) -> int:
        """The status of the reply that a refusal is."""
        return self.names[refusal.kind].status

    def body(self, refusal: Refusal) -> dict[str, Any]:
        """The body of the reply that a refusal is."""
        return self.write(refusal, self.names[refusal.kind])


def family_of(path: str) -> Family:
    """The family of a path; what nobody knows is of OpenAI's."""
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return ANTHROPIC
    if path == "/v1/systemone" or path.startswith("/v1/systemone/"):
        return DECISIONS
    return OPENAI


def _openai_body(refusal: Refusal, named: Named) -> dict[str, Any]:
    told = {"message": str(refusal), "type": named.type}
    return {"error": {**told, "param": refusal.param, "code": refusal.code or named.code}}


def _anthropic_body(refusal: Refusal, named: Named) -> dict[str, Any]:
    told: dict[str, Any] = {"type": named.type, "message": str(refusal)}
    if refusal.code is not None:
        told["details"] = {"error_code": refusal.code}
    return {"type": "error", "error": told}


def _decisions_body(refusal: Refusal, named: Named) -> dict[str, Any]:
    """The body where no field is to blame; systemone.py has those of the others."""
    return {"detail": {"error_type": named.type, "message": str(refusal)}}


INVALID, SERVER = "invalid_request_error", "server_error"

OPENAI = Family(
    names={
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
    },
    write=_openai_body,
    key_header="x-request-id",
)
"""Chat completions, completions and responses, and every path that is no dialect's."""

ANTHROPIC = Family(
    names={
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
    },
    write=_anthropic_body,
    key_header="request-id",
)

DECISIONS = Family(
    names={
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
    },
    write=_decisions_body,
    key_header="x-typesafe-request-id",
)
