"""The tokens of a request's prompt, counted without a place in the queue: nothing is computed."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import DiffGemmaError
from .bodies import read_json
from .dialect import Dialect
from .fields import fields_of
from .host import Host
from .messages.dialect import COUNT_PATH, count_body
from .refusal import refusal_of
from .replies import Family, json_reply, refused
from .watch import GONE


def count_route(dialect: Dialect, host: Host) -> Route:
    """The route that counts what a dialect's requests would have encoded."""

    def counted(body: Any) -> int:
        return host.engine.count(dialect.read(fields_of(body), host.engine.facts))

    async def endpoint(request: Request) -> Response:
        try:
            body = await read_json(request, host.body_limit)
            return json_reply(count_body(await host.at_desk(counted, body)))
        except ClientDisconnect:
            return Response(status_code=GONE)
        except DiffGemmaError as error:
            return refused(refusal_of(error), Family(dialect.names, dialect.refused))

    return Route(COUNT_PATH, endpoint, methods=["POST"])
