"""Replies that are no answers of a model, each in the shape of the family that its path is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from ..dialects.dialect import compact
from ..families import Family
from ..refusal import Refusal

JSON = "application/json"


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A reply of one JSON value."""
    return Response(compact(value).encode(), status, headers, JSON)


def refused(refusal: Refusal, family: Family, headers: Mapping[str, str] | None = None) -> Response:
    """The reply that a refusal is."""
    status = family.status(refusal)
    more = dict(headers or {})
    if refusal.retry_after is not None:
        more["Retry-After"] = str(refusal.retry_after)
    if status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return json_reply(family.body(refusal), status, more)
