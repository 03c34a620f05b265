"""One request for an answer, from its body to its response, in whatever dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ...errors import DiffGemmaError
from ..asked import Asked
from ..dialects.dialect import Dialect
from ..dialects.fields import fields_of
from ..engine.engine import Cancellation, Cancelled, Stopping
from ..engine.tickets import End, Ticket, Work
from ..engine.worker import log_ours
from ..events import Answer, Done, Event, Failed
from ..refusal import STOPPING, fresh, refusal_of
from .bodies import read_json
from .host import Host
from .presence import Presence
from .replies import json_reply, refused
from .stream import EventStream, Outbox
from .watch import GONE


async def generate(request: Request, dialect: Dialect, host: Host) -> ASGIApp:
    """The response to a request; a stream when it is one, else the whole answer."""
    try:
        body = await read_json(request, host.body_limit)
        async with seated(request, host) as (ticket, presence):
            return await _answered(request, body, dialect, host, ticket, presence)
    except (Cancellation, ClientDisconnect):
        return Response(status_code=GONE)
    except DiffGemmaError as error:
        return refused(refusal_of(error), dialect.family)


@asynccontextmanager
async def seated(request: Request, host: Host) -> AsyncIterator[tuple[Ticket, Presence]]:
    """A place in the queue for a request whose body is here; an error gives it up.

    Refusal where there is no place.
    """
    ticket = host.worker.reserve()
    presence = Presence(request.receive)
    try:
        yield ticket, presence
    except BaseException:
        ticket.cancel()
        await presence.leave()
        raise


async def _answered(
    request: Request, body: Any, dialect: Dialect, host: Host, ticket: Ticket, presence: Presence
) -> ASGIApp:
    """The response to a request that has a place in the queue."""
    read = partial(_prepared, body, dialect, host)
    asked, prepared = await presence.unless_gone(host.at_desk(read))
    encoder = dialect.encoder(host.envelope(request), asked)
    work = partial(_work, host, prepared)
    if asked.stream:
        outbox = begin(ticket, work, presence)
        return EventStream(encoder, ticket, outbox, presence, host.pace)
    answer = Answer()
    for event in await collect(ticket, work, presence):
        answer.take(event)
    assert answer.done
    request.state.usage = answer.done.usage
    return json_reply(encoder.whole(answer))


def _prepared(body: Any, dialect: Dialect, host: Host) -> tuple[Asked, Any]:
    """A request as it is understood, and as the engine takes it; at the desk."""
    try:
        asked = dialect.read(fields_of(body), host.engine.facts)
        return asked, host.engine.prepare(asked)
    except DiffGemmaError as error:
        log_ours(error)
        raise


def _work(host: Host, prepared: Any, cancelled: Cancelled, stopping: Stopping) -> Iterator[Event]:
    """The events of an answer, in the worker's thread; one without an end is a crash."""
    event: Event | None = None
    for event in host.engine.answer(prepared, cancelled, stopping):
        if isinstance(event, Failed):
            log_ours(event.refusal)
        yield event
    assert isinstance(event, Done | Failed), f"the last event is {event}, expected Done"


def begin(ticket: Ticket, work: Work, presence: Presence) -> Outbox:
    """Put a work in line for as long as its client is there; its items come to the outbox."""
    outbox = Outbox()
    presence.when_gone(ticket.cancel)
    ticket.begin(work, outbox.deliver)
    return outbox


async def collect(ticket: Ticket, work: Work, presence: Presence) -> list[Any]:
    """All items of a work; the error that it ended with, Cancellation where the client has gone."""
    outbox, items = begin(ticket, work, presence), []
    try:
        while not isinstance(item := await outbox.next(), End):
            items.append(item)
        if isinstance(item.error, Cancellation) and not presence.gone:  # by `Worker.stop`
            raise fresh(STOPPING)
    finally:
        ticket.cancel()
        await presence.leave()
    if item.error is not None:
        raise item.error
    return items


def route(dialect: Dialect, host: Host) -> Route:
    """The route of a dialect."""

    async def endpoint(request: Request) -> ASGIApp:
        return await generate(request, dialect, host)

    return Route(dialect.path, endpoint, methods=["POST"])
