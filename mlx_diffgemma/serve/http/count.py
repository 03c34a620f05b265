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
from ..engine.engine import Cancellation
from ..families import family_of
from ..refusal import Refusal, refusal_of
from .bodies import read_json
from .host import Host
from .presence import Presence
from .replies import json_reply, refused
from .watch import GONE

COUNT_PATH = "/v1/messages/count_tokens"
MOST = 64


def count_route(host: Host, most: int = MOST) -> Route:
    """The route that counts the tokens of a request, without an answer to it.

    most: requests that may be counted or wait for it, so that a flood does not pile up.
    """
    here = 0

    async def endpoint(request: Request) -> Response:
        nonlocal here
        try:
            body = await read_json(request, host.body_limit)
            if here >= most:
                said = f"{here} requests are being counted, which is the most; try again later."
                raise Refusal("full", said, retry_after=1)
            here += 1
            try:
                return json_reply({"input_tokens": await _count(request, body, host)})
            finally:
                here -= 1
        except Cancellation:
            return Response(status_code=GONE)
        except DiffGemmaError as error:
            return refused(refusal_of(error), family_of(COUNT_PATH))

    return Route(COUNT_PATH, endpoint, methods=["POST"])


async def _count(request: Request, body: Any, host: Host) -> int:
    """The tokens, counted at the desk; Cancellation where the client goes before."""
    presence = Presence(request.receive)
    try:
        return await presence.unless_gone(host.at_desk(partial(_counted, body, host)))
    finally:
        await presence.leave()


def _counted(body: Any, host: Host) -> int:
    return host.engine.count(read(fields_of(body), host.engine.facts))
