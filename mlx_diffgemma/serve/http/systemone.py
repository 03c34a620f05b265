"""POST /v1/systemone: decisions, which decide/ reads, checks and answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ...decide import request as decisions
from ...decide.decision import Decision
from ...errors import DiffGemmaError, NumericsError, RequestError
from ..engine.engine import Cancellation, Cancelled, Stopping
from ..families import family_of
from ..refusal import Refusal, refusal_of
from .bodies import read_body
from .generate import collect, seated
from .host import Host
from .metrics import Metrics
from .parts import is_form, read_parts
from .replies import json_reply, refused
from .watch import GONE

PATH = "/v1/systemone"
REQUEST = "request"  # the part that holds the JSON of a form


def systemone_route(host: Host, metrics: Metrics) -> Route:
    """The route of decisions."""

    async def endpoint(request: Request) -> Response:
        try:
            decision = await _decided(request, host)
        except (Cancellation, ClientDisconnect):
            return Response(status_code=GONE)
        except DiffGemmaError as error:
            return reply_of(error)
        metrics.decisions += 1
        timing = f"model;dur={decision.times.seconds * 1000:.1f}"
        return json_reply(decision.to_json(), headers={"Server-Timing": timing})

    return Route(PATH, endpoint, methods=["POST"])


def reply_of(error: DiffGemmaError) -> Response:
    """The reply that an error is, in the shape of the contract."""
    if isinstance(error, RequestError):
        return json_reply(error.body, error.status)
    if isinstance(error, NumericsError):  # it names the question; the worker has logged it
        error = Refusal("internal", str(error))
    refusal = refusal_of(error)
    if refusal.kind == "invalid":
        at = [refusal.param] if refusal.param else []
        return reply_of(RequestError(at, str(refusal), "json_invalid"))
    return refused(refusal, family_of(PATH))


async def _decided(request: Request, host: Host) -> Decision:
    """The decision that a request asks for; its place in the queue is given up when it has gone."""
    read = await _read(request, host)
    async with seated(request, host) as (ticket, presence):
        asked = await presence.unless_gone(host.at_desk(read))
        [decision] = await collect(ticket, partial(_work, host, asked), presence)
    assert isinstance(decision, Decision)
    return decision


async def _read(request: Request, host: Host) -> Any:
    """A function that reads the request, of JSON or of a form in parts; its body is here."""
    content_type = request.headers.get("content-type", "")
    content = await read_body(request, host.body_limit)
    if not is_form(content_type):
        return partial(decisions.read_request, content)
    parts = await run_in_threadpool(read_parts, content, content_type)
    if REQUEST not in parts:
        raise RequestError(
            (REQUEST,), "missing, expected a part of JSON with this name.", "missing"
        )
    return partial(_read_form, parts)


def _read_form(parts: Mapping[str, bytes]) -> decisions.Request:
    files = {name: content for name, content in parts.items() if name != REQUEST}
    return decisions.read_request(parts[REQUEST], files)


def _work(
    host: Host, asked: decisions.Request, cancelled: Cancelled, stopping: Stopping
) -> Iterator[Decision]:
    yield host.engine.decide(asked, cancelled)
