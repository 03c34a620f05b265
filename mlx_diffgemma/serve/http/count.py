"""The tokens of a request of the Messages API, counted without weights and without the queue."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...errors import DiffGemmaError
from ..dialects.fields import fields_of
from ..dialects.messages.request import read
from ..families import family_of
from ..refusal import refusal_of
from .bodies import read_json
from .host import Host
from .replies import json_reply, refused

COUNT_PATH = "/v1/messages/count_tokens"


def count_route(host: Host) -> Route:
    """The route that counts the tokens of a request, without an answer to it."""

    async def endpoint(request: Request) -> Response:
        try:
            body = await read_json(request, host.body_limit)
            return json_reply({"input_tokens": await host.at_desk(partial(_counted, body, host))})
        except DiffGemmaError as error:
            return refused(refusal_of(error), family_of(COUNT_PATH))

    return Route(COUNT_PATH, endpoint, methods=["POST"])


def _counted(body: Any, host: Host) -> int:
    return host.engine.count(read(fields_of(body), host.engine.facts))
