"""Replies that are no answers of a model, each in the shape of the family that its path is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from ..dialects.dialect import compact
from ..refusal import (
    ANTHROPIC,
    DECISIONS,
    OPENAI,
    Kind,
    Named,
    Refusal,
    anthropic_body,
    decisions_body,
    openai_body,
)

JSON = "application/json"


@dataclass(frozen=True)
class Family:
    """Paths whose clients expect the same shape of a refusal.

    key_header: the header that tells a client the key of its request.
    """

    names: Mapping[Kind, Named]
    refused: Callable[[Refusal], dict[str, Any]]
    key_header: str = "x-request-id"


def family_of(path: str) -> Family:
    """The family of a path; what nobody knows is of OpenAI's."""
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return Family(ANTHROPIC, anthropic_body, "request-id")
    if path == "/v1/systemone" or path.startswith("/v1/systemone/"):
        return Family(DECISIONS, decisions_body, "x-typesafe-request-id")
    return Family(OPENAI, openai_body, "x-request-id")


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A reply of one JSON value."""
    return Response(compact(value).encode(), status, headers, JSON)


def refused(refusal: Refusal, family: Family, headers: Mapping[str, str] | None = None) -> Response:
    """The reply that a refusal is."""
    status = family.names[refusal.kind].status
    more = dict(headers or {})
    if refusal.retry_after is not None:
        more["Retry-After"] = str(refusal.retry_after)
    if status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return json_reply(family.refused(refusal), status, more)
